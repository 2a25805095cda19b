"""A task of one's own: any .npz file with `x` and `y`, a row a point.

A table of splicing goes in as `splicing.splicing(table=...)` and portraits as
`faces.face_age(folder=...)`; this is the door for everything else.
"""

import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch

from deimos.data import Task, checksum
from deimos.downloads import told
from deimos.splits import hold_out


def from_npz(scale: str, file: str | Path) -> Task:
    """Whole numbers in `y` are classes from 0, all of them there; others are values to regress on.

    A tenth is held out to test on, the same for every repeat. Bytes stay bytes, other numbers in
    `x` become floats. `scale` is there because all tasks have it: there is no stand-in.
    """
    file = Path(file)
    x, y = (_array(file, name) for name in ("x", "y"))
    if y.ndim != 1 or len(x) != len(y) or len(x) < 10:
        raise ValueError(
            f"{file} has x of shape {x.shape} and y of shape {y.shape}, wanted a row of x and a "
            f"number of y for each of 10 points or more"
        )
    n_classes = 1
    if y.dtype.kind in "iu":
        n_classes = int(y.max()) + 1
        if n_classes < 2 or not np.array_equal(np.unique(y), np.arange(n_classes)):
            raise ValueError(f"{file} has a y of whole numbers, wanted classes 0, 1, … and no gaps")
    rows = torch.from_numpy(x if x.dtype == np.uint8 else x.astype(np.float32))
    labels = torch.from_numpy(y.astype(np.int64 if n_classes > 1 else np.float32))
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


def _array(file: Path, name: str) -> np.ndarray:
    """One array of finite numbers; nothing is unpickled."""
    try:
        with told(file, "read"), file.open("rb") as stream:
            array = np.load(stream, allow_pickle=False)[name]
    except (KeyError, IndexError) as error:
        raise ValueError(f"{file} has no array called {name}, wanted x and y") from error
    except (ValueError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{file} is no .npz of plain numbers, or it is damaged") from error
    if array.dtype.kind not in "biuf" or not np.isfinite(array).all():
        raise ValueError(f"{file} has in {name} what is no number, or not a finite one")
    return array
