"""Downloads that are whole and right, or not there at all.

A file is fetched under another name, checked, and only then renamed: a download that is killed
half-way never looks complete.
"""

import os
from collections.abc import Callable
from pathlib import Path

import pooch

PATIENCE = 20  # seconds to wait for an answer


def fetch(url: str, file: Path, check: Callable[[Path], None]) -> Path | None:
    """`file`, downloaded from `url` unless it is there; None where it cannot be had.

    `check` raises ValueError for a file with the wrong content, which is then not kept.
    """
    if file.exists():
        check(file)
        return file
    part = file.with_name(f"{file.name}.{os.getpid()}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        pooch.HTTPDownloader(progressbar=True, timeout=PATIENCE)(url, str(part), None)
        check(part)
        part.replace(file)
    except OSError:  # no network, no such page, nowhere to write: requests' errors are OSErrors
        return None
    finally:
        part.unlink(missing_ok=True)
    return file
