"""A task of one's own: any .npz file with `x` and `y`, a row a point.

A table of splicing goes in as `splicing.load_splicing(table=...)` and portraits as
`faces.load_face_age(folder=...)`; this is the door for everything else. The reader of arrays is
that of the command for files, too.
"""

import zipfile
import zlib
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import numpy as np
import torch

from deimos.tasks.files import explain_os_errors
from deimos.tasks.task import Task, checksum, hold_out

MOST_CLASSES = 20  # different whole numbers that still are taken for classes


def from_npz(scale: str, file: str | Path, task: str | None = None) -> Task:
    """Whole numbers in `y` are classes from 0, all of them there; others are values to regress on.

    So are True and False, and whole numbers written as floats, unless they may as well be values:
    then `task`, "classes" or "values", says which, as it may at any time. A tenth is held out to
    test on, the same for every repeat. Bytes stay bytes, other numbers in `x` become floats.
    `scale` is there because all tasks have it: there is no stand-in.
    """
    file = Path(file)
    x, y = (finite(file, name, read_array(file, name)) for name in ("x", "y"))
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    if y.ndim != 1 or len(x) != len(y) or len(x) < 10:
        raise ValueError(
            f"{file} has x of shape {x.shape} and y of shape {y.shape}, wanted a row of x and a "
            f"number of y for each of 10 points or more"
        )
    n_classes = 1
    if _kind(file, y, task) == "classes":
        n_classes = int(y.max()) + 1
        if n_classes < 2 or not np.array_equal(np.unique(y), np.arange(n_classes)):
            raise ValueError(
                f"{file} has a y of whole numbers, wanted classes 0, 1, … and no gaps; "
                f'task="values" regresses on them'
            )
    rows = torch.from_numpy(x if x.dtype == np.uint8 else single(file, "x", x))
    labels = torch.from_numpy(y.astype(np.int64) if n_classes > 1 else single(file, "y", y))
    ids = torch.arange(len(rows))
    train_ids, test_ids = hold_out(ids, len(ids) // 10, np.random.default_rng(0))
    return Task(
        name=f"own-{file.stem}",
        x=rows,
        y=labels,
        train_ids=train_ids,
        test_x=rows[test_ids],
        test_y=labels[test_ids],
        n_classes=n_classes,
        source=f"own file {file.name}",
        checksum=checksum([rows, labels]),
    )


def _kind(file: Path, y: np.ndarray, task: str | None) -> str:
    """The kind of `y`: "classes" or "values"."""
    if task not in (None, "classes", "values"):
        raise ValueError(f'task = {task!r}, wanted "classes" or "values"')
    if task == "classes" and y.dtype.kind == "f" and (y % 1).any():
        raise ValueError(f'{file} has a y that is not of whole numbers: task = "values" takes it')
    if task or y.dtype.kind in "biu":
        return task or "classes"
    whole = not (y % 1).any()
    kind = classes_or_values(y.tolist(), whole)
    if kind is None or (kind == "classes" and y.min() != 0):
        raise ValueError(
            f"{file} has {len(np.unique(y))} different whole numbers in y, written as floats: are "
            f'they classes or values? Say task="classes" or task="values"'
        )
    return kind


def classes_or_values(labels: Sequence[float | Decimal], whole: bool) -> str | None:
    """The kind of numeric labels, "classes" or "values"; None where they may be either.

    Numbers that are not all whole are values. Whole ones are classes if they are two, or few and
    each there several times, or those from 0 or 1 on without a gap; between that and numbers that
    are nearly all different lie ages and counts, which would be one in one round and the other in
    the next.
    """
    counts = Counter(labels)
    k, n, least = len(counts), len(labels), min(counts.values())
    if not whole:
        return "values"
    if k == 2:
        return "classes" if n > 2 else None
    counting = min(counts) in (0, 1) and max(counts) - min(counts) == k - 1
    if counting and k <= MOST_CLASSES and (least > 1 or (2 * k <= MOST_CLASSES and n >= 2 * k)):
        return "classes"
    if 2 * k <= MOST_CLASSES and n >= 4 * k:
        return "classes"
    if k <= MOST_CLASSES or (counting and least > 1):
        return None
    return "values"


def read_array(file: Path, name: str | None) -> np.ndarray:
    """An array by its name from .npz, or without one that of .npy; nothing is unpickled."""
    try:
        with explain_os_errors(file, "read"), file.open("rb") as stream:
            content = np.load(stream, allow_pickle=False)
            if isinstance(content, np.ndarray) and name is None:
                return content
            names = [] if isinstance(content, np.ndarray) else list(content)
            if name in names:
                return content[name]
    except (ValueError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        kind = ".npz" if name else ".npy"
        raise ValueError(f"{file} is no {kind} of plain numbers, or it is damaged") from error
    if name is None:
        raise ValueError(f"{file} holds several arrays: call it .npz")
    has = f": it has {', '.join(names)}" if names else ""
    raise ValueError(f"{file} has no array called {name}, wanted x and y{has}")


def finite(file: Path, name: str, values: np.ndarray) -> np.ndarray:
    """The same values; ValueError if one is no number, or not a finite one."""
    if values.dtype.kind not in "biuf" or not np.isfinite(values).all():
        raise ValueError(f"{file} has in {name} what is no number, or not a finite one")
    return values


def single(file: Path, name: str, values: np.ndarray) -> np.ndarray:
    """In single precision; ValueError if that cannot hold them."""
    with np.errstate(over="ignore"):
        floats = values.astype(np.float32)
    if not np.isfinite(floats).all():
        raise ValueError(f"{file} has in {name} numbers too large for single precision")
    return floats
