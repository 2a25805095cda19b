"""Tell living processes from dead ones: each holds a lock that ends with it, however it ends.

The operating system keeps these locks (`flock`), so a killed process leaves none behind and nobody
has to guess from its number or from a clock. They hold among the processes of one machine.
"""

import atexit
import fcntl
import logging
import os
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

_LOG = logging.getLogger(__name__)


@cache
def this_process(folder: Path | None) -> str:
    """This process' name; its lock is a file of that name in `folder`, held until it ends."""
    name = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        fcntl.flock(os.open(folder / name, os.O_RDWR | os.O_CREAT), fcntl.LOCK_EX)
        atexit.register((folder / name).unlink, missing_ok=True)
    return name


def is_gone(folder: Path, name: str) -> bool:
    """True if the process of this name has ended; its file is then removed."""
    try:
        file = os.open(folder / name, os.O_RDWR)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        (folder / name).unlink(missing_ok=True)
        return True
    finally:
        os.close(file)


@contextmanager
def exclusive(file: Path, doing: str) -> Iterator[None]:
    """Hold an existing file against other processes; while one has it, say so and wait."""
    lock = os.open(file, os.O_RDONLY)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _LOG.warning("another process is %s; waiting for it", doing)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
