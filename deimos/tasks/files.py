"""Files that are whole and right, or not there at all.

A file is written under another name, checked, and only then renamed: one whose writer is killed
half-way never looks complete. What goes wrong with a file is told in one sentence that names it.
"""

import gzip
import hashlib
import os
import platform
import socket
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from deimos import progress
from deimos.extras import extra

with extra("reproduce"):
    import pooch
    import requests


ANSWER_PATIENCE = 20  # seconds to wait for an answer
UNREACHABLE = (requests.RequestException, ConnectionError, TimeoutError)
REMEDY = {
    "read": "see that it is a file, and that you may read it",
    "written": "make room and see that you may write there, or set DEIMOS_DATA to another folder",
}

ROOT = Path(__file__).parents[2]


def fetch(url: str, file: Path, check: Callable[[Path], object]) -> Path | None:
    """`file`, downloaded from `url` unless it is there; None where the network does not have it.

    Nothing is downloaded where `DEIMOS_OFFLINE` is set. `check` raises ValueError for a file with
    the wrong content; a download of that kind is not kept. A disk that is full or may not be
    written is an OSError, not a reason to do without the data.
    """
    if file.exists():
        try:
            check(file)
        except ValueError as error:
            raise ValueError(f"{error}: delete it and run again") from error
        return file
    if os.environ.get("DEIMOS_OFFLINE"):
        return None
    try:
        with atomic_write(file) as part:
            watched = progress.kind() == "bar"
            pooch.HTTPDownloader(watched, timeout=ANSWER_PATIENCE)(url, str(part), None)
            try:
                check(part)
            except ValueError as error:
                complaint = str(error).replace(str(part), url)
                raise ValueError(
                    f"{complaint}; it is not kept: try again, or put the right file at {file}"
                ) from error
    except UNREACHABLE:
        return None
    return file


@contextmanager
def answer_patience() -> Iterator[None]:
    """Bound how long downloads in here wait for an answer that torchvision would wait for."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(ANSWER_PATIENCE)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


@contextmanager
def atomic_write(file: Path) -> Iterator[Path]:
    """A path to write to: it becomes `file` if all goes well, and else is removed.

    What a killed process of this machine left of the same file is removed too.
    """
    mark = f"{file.name}.{platform.node()}-"
    part = file.with_name(f"{mark}{os.getpid()}.part")
    try:
        with explain_os_errors(file, "written"):
            file.parent.mkdir(parents=True, exist_ok=True)
            for old in file.parent.iterdir():
                pid = old.name.removeprefix(mark).removesuffix(".part")
                if old.name == f"{mark}{pid}.part" and pid.isdigit() and not _runs(int(pid)):
                    old.unlink(missing_ok=True)
            yield part
            with part.open("rb") as written:
                os.fsync(written.fileno())  # else a power cut may leave the name and no content
            part.replace(file)
    finally:
        if part.exists():
            part.unlink()


def unpacked(file: Path) -> bytes:
    """Read a file, unpacked if gzip packed it; ValueError if it cannot be unpacked."""
    with explain_os_errors(file, "read"):
        packed = file.read_bytes()
    if not packed.startswith(b"\x1f\x8b"):
        return packed
    try:
        return gzip.decompress(packed)
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{file} is damaged or cut short, it cannot be unpacked") from error


@contextmanager
def explain_os_errors(file: Path, done: str) -> Iterator[None]:
    """Explain any OSError raised in here: the file, the reason, and the remedy."""
    try:
        yield
    except UNREACHABLE:
        raise
    except OSError as error:
        why = error.strerror or error
        raise type(error)(f"{file} cannot be {done} ({why}): {REMEDY[done]}") from error


def _runs(pid: int) -> bool:
    """Tell if a process of that number runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # somebody else's
    return True


def md5(content: bytes) -> str:
    """The digest that MNIST's files are known by."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def data_folder() -> Path:
    """Folder of the data sets: `DEIMOS_DATA`, or `data/` in the repository."""
    return Path(os.environ.get("DEIMOS_DATA", ROOT / "data")).expanduser()
