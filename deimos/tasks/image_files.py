"""One image file as pixels, as a viewer shows it: the decoder of all folders of images.

JPEG and PNG are read. An EXIF tag that turns the picture is obeyed. What has a plain equivalent is
brought to grey or RGB; what has none (16 bits, transparent parts, an animation) is refused.
"""

import io
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from deimos.extras import extra

with extra("reproduce"):
    from PIL import Image, UnidentifiedImageError

SUFFIXES = {".jpg", ".jpeg", ".png"}
OTHER_FORMATS = {
    ".gif",
    ".bmp",
    ".tif",
    ".tiff",
    ".webp",
    ".heic",
    ".heif",
    ".avif",
    ".jp2",
    ".jfif",
}
ORIENTATION = 0x0112  # the EXIF tag
PNG = b"\x89PNG\r\n\x1a\n"
DAMAGED = (  # what PIL raises on bytes that are not what they say
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    struct.error,
    Image.DecompressionBombError,
)


class Unsuitable(ValueError):
    """An image that is whole, and is refused all the same."""


def is_image(file: Path) -> bool:
    """True of names that end as an image's, in capitals or not."""
    return file.suffix.lower() in SUFFIXES


def decode(
    name: str, content: bytes, complaint: Callable[[str, tuple[int, int]], str | None]
) -> UInt8[np.ndarray, "h w *colour"]:
    """Pixels [h w] of a grey image, [h w 3] of any other, red first, turned as EXIF says.

    `complaint` says what is wrong with a mode and size (width, height, as they are stored), or
    None; it is asked before anything is unpacked. Raises ValueError, which begins with `name`.
    """
    try:
        with Image.open(io.BytesIO(content), formats=("JPEG", "PNG")) as image:
            wrong = _deep_or_moving(image, content) or complaint(image.mode, image.size)
            if wrong:
                raise Unsuitable(f"{name} {wrong}")
            turn = image.getexif().get(ORIENTATION, 1)
            return np.ascontiguousarray(_turned(_plain(name, image), turn))
    except Unsuitable:
        raise
    except UnidentifiedImageError:
        raise ValueError(f"{name} is damaged or no image: wanted a JPEG or a PNG") from None
    except DAMAGED as error:
        raise ValueError(f"{name} is damaged or no image: {error}") from error


def _deep_or_moving(image: "Image.Image", content: bytes) -> str | None:
    """A complaint about what PIL would cut down without a word: 16 bits to 8, frames to one."""
    if image.mode[0] in "IF" or (content.startswith(PNG) and content[24] == 16):
        return "has 16 bits or more a channel: convert it to 8, scaled as you mean it"
    if image.format == "PNG" and getattr(image, "is_animated", False):
        return f"is an animation of {image.n_frames} frames: convert one of them to a plain PNG"
    return None


def _plain(name: str, image: "Image.Image") -> UInt8[np.ndarray, "h w *colour"]:
    """The same picture in grey or RGB, if nothing is lost by it."""
    mode = image.mode
    if "A" in mode or "transparency" in image.info:
        if image.convert("RGBA").getchannel("A").getextrema()[0] < 255:
            raise Unsuitable(
                f"{name} has transparent parts: put it on a background and convert it to RGB"
            )
    if mode in ("L", "RGB"):
        return np.asarray(image)
    if mode in ("1", "LA"):
        return np.asarray(image.convert("L"))
    if mode in ("RGBA", "CMYK"):
        return np.asarray(image.convert("RGB"))
    if mode in ("P", "PA"):
        pixels = np.asarray(image.convert("RGB"))
        return pixels[:, :, 0] if is_grey(pixels) else pixels
    raise Unsuitable(f"{name} is in mode {mode}: convert it to grey or RGB")


def is_grey(pixels: UInt8[np.ndarray, "h w 3"]) -> bool:
    """True of a picture in RGB that is grey all over."""
    return bool((pixels == pixels[:, :, :1]).all())


def _turned(
    pixels: UInt8[np.ndarray, "h w *colour"], turn: int
) -> UInt8[np.ndarray, "H W *colour"]:
    """As the EXIF orientation 1 to 8 says that it is shown; any other number says nothing."""
    if turn in (5, 6, 7, 8):  # stored on its side
        pixels = pixels.swapaxes(0, 1)
    if turn in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if turn in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def images_in(folder: Path) -> list[Path]:
    """The images in a folder and the folders in it, by name, less what systems leave there.

    Raises ValueError for pictures in other formats and for links to folders, which would be missed.
    """
    images = []
    for file in sorted(folder.rglob("*")):
        if is_left_behind(file.relative_to(folder)):
            continue
        if file.suffix.lower() in OTHER_FORMATS:
            raise ValueError(f"{file} is not read, JPEG and PNG are: convert it, or take it out")
        if file.is_symlink() and file.is_dir():
            raise ValueError(f"{file} is a link to a folder, which is not followed: put it there")
        if is_image(file):
            images.append(file)
    return images


def is_left_behind(file: Path) -> bool:
    """True of what hides by a dot, and of the folders of macOS' zip and of Synology's disks."""
    parts = [part for part in file.parts if part not in (".", "..")]
    return any(part.startswith(".") or part in ("__MACOSX", "@eaDir") for part in parts)
