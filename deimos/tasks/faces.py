"""Faces and their ages: UTKFace, or any folder of images that are named by the age (§5.1).

An image is called `age_gender_race_date.jpg.chip.jpg`, of which only the number before the first
`_` is read: some of UTKFace's names lack the rest. Images are decoded once, kept as uint8 and read
from a memory-mapped file, so that they need not fit into memory.
"""

import hashlib
import lzma
import os
import re
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from deimos.progress import progress
from deimos.tasks import image_files, stand_ins
from deimos.tasks.files import ROOT, atomic_write, data_folder, explain_os_errors, fetch
from deimos.tasks.image_files import images_in, is_image, is_left_behind
from deimos.tasks.task import Task, checksum, hold_out

UTKFACE_ARCHIVE = "UTKFace.tar.gz"
UTKFACE_URL = (
    "https://huggingface.co/datasets/py97/UTKFace-Cropped/resolve/"
    f"e80f21fb21fa3631380c3cb634b79be3ac2f4cba/{UTKFACE_ARCHIVE}"
)
UTKFACE_SHA256 = "2c0655397b498e81b82d685ee74bee8c2e4364a5897caf3afec6ea48929024a7"
# sha256 of what `sha256sum *` prints in a folder of its 23,708 images: however they are packed
UTKFACE_LISTING = "f46941580dc85fe21beb0bae2faca4f7cf8317384a775df25e631c4c612ce01b"
SIDE = 200  # pixels
N_DRAWN = 600
LARGEST = 2**24  # bytes of an encoded image


def load_face_age(
    scale: str, folder: str | Path | None = None, drop_duplicates: bool = False
) -> Task:
    """UTKFace's 23,708 faces of 200 × 200 pixels, or those of one's own `folder`, and their ages.

    A relative path is taken from the repository's root. A tenth is held out to test on, the same
    for every repeat. `drop_duplicates` takes the first of byte-identical images alone, as 375
    groups of UTKFace's are, 205 of them with differing ages.
    """
    if folder is not None:
        place = ROOT / folder
        if not place.is_dir():
            raise ValueError(f"{place} is not a folder of images")
        return _task(read_portraits([place]), f"own folder {place.name}", drop_duplicates, own=True)
    images = _utkface()
    if images is not None:
        return _task(images, "UTKFace", drop_duplicates)
    if scale == "paper":
        raise FileNotFoundError(
            f"UTKFace is neither in {_folder()} nor to be downloaded: put {UTKFACE_ARCHIVE}, its "
            f"parts UTKFace-*.tar, or its images there, or use SCALE=quick"
        )
    pixels, ages = stand_ins.portraits(N_DRAWN, np.random.default_rng(0))
    x, y = torch.from_numpy(pixels), torch.from_numpy(ages)
    source = f"stand-in: {N_DRAWN} drawn portraits"
    return _split(x, y, torch.arange(len(x)), source, checksum([x, y]), stand_in=True)


def read_portraits(places: list[Path]) -> dict[str, bytes]:
    """The images in folders and tar archives, still encoded, in the order of their names.

    Archives are read, never unpacked: nothing in them is written anywhere or followed. One cut
    short between two images looks whole to tarfile: check what came out by its digest.
    """
    images: dict[str, bytes] = {}
    for place in places:
        for name, content in _archive(place) if place.is_file() else _loose(place):
            if name in images:
                raise ValueError(f"{place} has a second image called {name}")
            images[name] = content
    if not images:
        raise ValueError(f"{', '.join(map(str, places))}: no images there")
    return dict(sorted(images.items()))


def age(name: str) -> int:
    """The age in years that an image's name begins with."""
    number = re.match(r"([0-9]{1,3})_", name)
    if number is None:
        raise ValueError(f"{name!r} does not begin with an age and an underscore, as in 31_….jpg")
    return int(number[1])


def decode_portrait(name: str, content: bytes) -> UInt8[np.ndarray, "3 200 200"]:
    """One image, channels first, red first; none is unpacked that is not of the right size."""

    def complaint(mode: str, size: tuple[int, int]) -> str | None:
        if (mode, size) == ("RGB", (SIDE, SIDE)):
            return None
        return (
            f"is {size[0]} × {size[1]} in mode {mode}, not {SIDE} × {SIDE} in RGB: convert it, "
            f"or leave it out"
        )

    return np.ascontiguousarray(image_files.decode(name, content, complaint).transpose(2, 0, 1))


def decode_once(images: dict[str, bytes], key: str) -> UInt8[Tensor, "n 3 200 200"]:
    """All images as one memory-mapped tensor, from the data folder if they were decoded before."""
    home = data_folder() if os.access(data_folder(), os.W_OK) else ROOT / "data"
    cache = home / f"faces-{key}.npy"
    if not cache.exists():
        with atomic_write(cache) as part:
            _write_decoded(part, images)
    try:
        with explain_os_errors(cache, "read"):  # in mode "c", since torch wants it writable
            pixels = np.load(cache, mmap_mode="c", allow_pickle=False)
    except (EOFError, ValueError) as error:
        raise ValueError(f"{cache} is damaged: delete it and run again") from error
    if pixels.dtype != np.uint8 or pixels.shape != (len(images), 3, SIDE, SIDE):
        raise ValueError(f"{cache} holds {pixels.dtype} {pixels.shape}: delete it and run again")
    return torch.from_numpy(pixels)


def listing_digest(images: dict[str, bytes]) -> str:
    """sha256 of the lines that `sha256sum` prints: it identifies the data however it is packed."""
    lines = [f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in images.items()]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _task(images: dict[str, bytes], source: str, drop_duplicates: bool, own: bool = False) -> Task:
    ages = torch.tensor([age(name) for name in images])
    key = listing_digest(images)[:16]
    ids = list(range(len(images)))
    if drop_duplicates:
        first: dict[bytes, int] = {}
        ids = sorted({first.setdefault(content, i) for i, content in enumerate(images.values())})
    return _split(decode_once(images, key), ages, torch.tensor(ids), source, key, stand_in=own)


def _split(
    x: Tensor, ages: Tensor, ids: Tensor, source: str, digest: str, stand_in: bool = False
) -> Task:
    """One test set for all repeats, a tenth rounded up, as the authors'."""
    if len(ids) < 2:
        raise ValueError(f"{source} has one image, wanted 2 or more: a tenth is held out")
    y = ages.float()
    train_ids, test_ids = hold_out(ids, -(-len(ids) // 10), np.random.default_rng(0))
    return Task(
        name="face-age",
        x=x,
        y=y,
        train_ids=train_ids,
        test_x=x[test_ids],
        test_y=y[test_ids],
        n_classes=1,
        source=source,
        checksum=digest,
        stand_in=stand_in,
        plotted_error="rmse",
    )


def _folder() -> Path:
    return data_folder() / "utkface"


def _utkface() -> dict[str, bytes] | None:
    """UTKFace from the data folder, in parts, as images or whole, or else from the network."""
    packed = _folder() / UTKFACE_ARCHIVE
    parts = sorted(_folder().glob("UTKFace-*.tar"))
    if not packed.exists() and (parts or any(_folder().rglob("*.jpg"))):
        images = read_portraits(parts or [_folder()])
        if listing_digest(images) != UTKFACE_LISTING:
            raise ValueError(
                f"{_folder()} has {len(images):,} images, which are not the 23,708 of UTKFace: "
                f"delete them and run again, or give a folder of your own as `folder`"
            )
        return images
    archive = fetch(UTKFACE_URL, packed, _check_archive)
    return archive and read_portraits([archive])


def _check_archive(file: Path) -> None:
    with explain_os_errors(file, "read"), file.open("rb") as archive:
        found = hashlib.file_digest(archive, "sha256").hexdigest()
    if found != UTKFACE_SHA256:
        raise ValueError(f"{file} is damaged (sha256 {found}, not {UTKFACE_SHA256})")


def _archive(file: Path) -> Iterator[tuple[str, bytes]]:
    try:
        with tarfile.open(file) as archive:
            for member in archive:
                if not member.isreg() and not member.isdir():
                    raise ValueError(
                        f"{file} holds a link or a device, {member.name}: only files are read"
                    )
                place = Path(member.name)
                if member.isdir() or not is_image(place) or is_left_behind(place):
                    continue
                if member.size > LARGEST:  # an archive of a few bytes may claim any size
                    raise ValueError(
                        f"{file} holds {member.name} of {member.size:,} bytes, which is no image "
                        f"of {SIDE} × {SIDE}"
                    )
                yield place.name, archive.extractfile(member).read()
    except (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError) as error:
        why = str(error).partition(":\n")[0]  # tarfile lists all that it tried, a line each
        raise ValueError(
            f"{file} is no archive, or damaged or cut short ({why}): fetch it again"
        ) from error


def _loose(folder: Path) -> Iterator[tuple[str, bytes]]:
    for file in images_in(folder):
        with explain_os_errors(file, "read"):
            content = file.read_bytes()
        yield file.name, content


def _write_decoded(file: Path, images: dict[str, bytes]) -> None:
    """A .npy file of all images, written as a stream: a full disk is an error then, not a crash."""
    header = {"descr": "|u1", "fortran_order": False, "shape": (len(images), 3, SIDE, SIDE)}
    with file.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        for name, content in progress(images.items(), name="decoding faces", unit="image"):
            stream.write(decode_portrait(name, content).tobytes())
