"""Files of one's own as points: tables of sequences or features, folders of images, arrays.

A pool is read first; what it is, and by which columns, is then asked of the labelled files too.
"""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Num, UInt8
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from deimos.data import checksum
from deimos.downloads import told
from deimos.label_next.tables import (
    ID,
    LABEL,
    SEQUENCE,
    Columns,
    codes,
    column,
    is_numbers,
    numbers,
    read_table,
    sequences_in,
)

FILE = "file"  # the column of an image's path in its folder
SUFFIXES = {".jpg", ".jpeg", ".png"}
LARGEST_SIDE = 1024  # pixels


@dataclass(frozen=True)
class Points:
    """What can be labelled, or has been: `table` has a row a point, as the file has it."""

    kind: str  # sequences, images or vectors
    x: Num[Tensor, "n *input"]
    table: pd.DataFrame
    features: tuple[str, ...] = ()  # the columns of a table that x is made of
    id: str | None = None

    @property
    def checksum(self) -> str:
        """What the record knows the data by."""
        return checksum([self.x])


def read_pool(place: Path, columns: Columns) -> Points:
    """A folder of images, an array in .npy or .npz (`x`), or a table, zipped by gzip or not."""
    if place.is_dir():
        files = sorted(f for f in place.rglob("*") if f.suffix.lower() in SUFFIXES)
        if not files:
            raise ValueError(f"{place} has no images in it: wanted .png or .jpg files")
        names = [str(file.relative_to(place)) for file in files]
        return Points("images", images(files), pd.DataFrame({FILE: names}))
    if place.suffix in (".npz", ".npy"):
        x = array(place, "x")
        return Points("vectors" if x.dim() == 2 else "images", x, row_numbers(len(x)))
    table = read_table(place)
    id = column(place, table, columns.id, ID)
    sequence = column(place, table, columns.sequence, SEQUENCE) or sequences_in(table, columns)
    if sequence:
        return Points("sequences", codes(place, table[sequence]), table, (sequence,), id)
    label = column(place, table, columns.label, LABEL, needed=False)
    features = [name for name in table if name not in (id, label) and is_numbers(table[name])]
    if not features:
        raise ValueError(
            f"{place} has neither a column of sequences (A, C, G, T) nor one of numbers: its "
            f"columns are {', '.join(table)}"
        )
    return Points("vectors", numbers(place, table, features), table, tuple(features), id)


def read_labelled(
    places: Sequence[Path], columns: Columns, pool: Points, pool_place: Path
) -> tuple[Points, list[str], list[str]]:
    """Labelled points of the pool's kind from several files, their labels, and where each stands.

    Of images: folders whose subfolders are classes or whose names begin with a value and `_`, or
    tables with a column `file`. Of arrays: .npz files with `x` and `y`.
    """
    parts = [_labelled(place, columns, pool, pool_place) for place in places]
    for place, (points, _, _) in zip(places, parts, strict=True):
        if points.x.shape[1:] != pool.x.shape[1:]:
            got, wanted = (tuple(x.shape[1:]) for x in (points.x, pool.x))
            raise ValueError(f"{place} has points of shape {got}, the pool of shape {wanted}")
    together = Points(
        pool.kind,
        torch.cat([points.x for points, _, _ in parts]),
        pd.concat([points.table for points, _, _ in parts], ignore_index=True),
        pool.features,
        pool.id,
    )
    labels, where = ([one for part in parts for one in part[i]] for i in (1, 2))
    empty = [place for label, place in zip(labels, where, strict=True) if not label]
    if empty:
        raise ValueError(
            f"{empty[0]} has no label ({len(empty)} of {len(labels)} have none): fill it in, or "
            f"leave the row out"
        )
    return together, labels, where


def _labelled(
    place: Path, columns: Columns, pool: Points, pool_place: Path
) -> tuple[Points, list[str], list[str]]:
    if place.is_dir():
        points = read_pool(place, columns)
        names = list(points.table[FILE])
        found = [re.match(r"(-?[0-9]+(?:\.[0-9]+)?)_", Path(name).name) for name in names]
        parents = [str(Path(name).parent) for name in names]
        labels = parents if "." not in parents else [one[1] if one else "" for one in found]
        return points, labels, [f"{place / name}" for name in names]
    if place.suffix in (".npz", ".npy"):
        x, y = array(place, "x"), array(place, "y")
        if y.dim() != 1 or len(x) != len(y):
            raise ValueError(f"{place} has {len(x)} rows of x and y of shape {tuple(y.shape)}")
        labels = [f"{value:g}" if value == round(value) else repr(value) for value in y.tolist()]
        return Points(pool.kind, x, row_numbers(len(x))), labels, rows_of(place, len(x))
    table = read_table(place)
    label = column(place, table, columns.label, LABEL, needed=True)
    where, labels = rows_of(place, len(table)), [text.strip() for text in table[label]]
    if pool.kind == "images":
        file = column(place, table, FILE, (FILE,))
        files = [first_there(place, name, (place.parent, pool_place)) for name in table[file]]
        return Points("images", images(files), table), labels, where
    if not pool.features:
        raise ValueError(f"{place} is a table and the pool is not: wanted an .npz with x and y")
    missing = [name for name in pool.features if name not in table]
    if missing:
        raise ValueError(
            f"{place} has no column {missing[0]!r}, which the pool has: its columns are "
            f"{', '.join(table)}"
        )
    if pool.kind == "sequences":
        x = codes(place, table[pool.features[0]])
    else:
        x = numbers(place, table, list(pool.features))
    return Points(pool.kind, x, table, pool.features, pool.id), labels, where


def known(pool: Points, labelled: Points) -> Bool[Tensor, " n"]:
    """Which points of the pool are labelled already: by their id, where both have one, or input."""
    there = {row.numpy().tobytes() for row in labelled.x}
    same = torch.tensor([row.numpy().tobytes() in there for row in pool.x])
    if pool.id and pool.id in labelled.table:
        same |= torch.tensor(list(pool.table[pool.id].isin(labelled.table[pool.id])))
    return same


def array(file: Path, name: str) -> Num[Tensor, "n *input"]:
    """An array of finite numbers from .npy, or by its name from .npz; nothing is unpickled."""
    try:
        with told(file, "read"):
            content = np.load(file, allow_pickle=False)
            values = np.asarray(content[name] if file.suffix == ".npz" else content)
    except (KeyError, IndexError) as error:
        raise ValueError(f"{file} has no array called {name}") from error
    except (ValueError, EOFError) as error:
        raise ValueError(f"{file} is no array of plain numbers, or it is damaged") from error
    if values.dtype.kind not in "biuf" or not values.ndim or not np.isfinite(values).all():
        raise ValueError(f"{file} has in {name} what is no number, or not a finite one")
    return torch.from_numpy(values if values.dtype == np.uint8 else values.astype(np.float32))


def images(files: Sequence[Path]) -> UInt8[Tensor, "n *size"]:
    """Grey images [n h w] or RGB ones [n 3 h w], all of one size; none is unpacked unchecked."""
    pixels, first = [], None
    for file in files:
        with told(file, "read"):
            content = file.read_bytes()
        try:
            with Image.open(io.BytesIO(content), formats=("JPEG", "PNG")) as image:
                form = (*image.size, image.mode)
                first = first or form
                if form == first and max(image.size) <= LARGEST_SIDE and image.mode in ("L", "RGB"):
                    pixels.append(np.asarray(image))
        except UnidentifiedImageError:
            raise ValueError(f"{file} is damaged or no image: wanted a JPEG or a PNG") from None
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise ValueError(f"{file} is damaged or no image: {error}") from error
        if len(pixels) == 0 or form != first:
            wanted = f"grey or RGB, at most {LARGEST_SIDE} pixels wide and high"
            wanted = (
                wanted if form == first else "{} × {} in mode {} as the first is".format(*first)
            )
            raise ValueError(f"{file} is {form[0]} × {form[1]} in mode {form[2]}, wanted {wanted}")
    together = torch.from_numpy(np.stack(pixels))
    return together.movedim(3, 1).contiguous() if together.dim() == 4 else together


def first_there(table: Path, name: str, folders: Sequence[Path]) -> Path:
    """The file of that name in the first folder that has one."""
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    raise ValueError(
        f"{table} names {name!r}, which is in neither {' nor '.join(map(str, folders))}"
    )


def row_numbers(n: int) -> pd.DataFrame:
    """The table of points that have no names: their rows, from 0."""
    return pd.DataFrame({"row": np.arange(n)})


def rows_of(file: Path, n: int) -> list[str]:
    """How messages call the points of a file."""
    table = file.suffix not in (".npz", ".npy")
    return [f"{file} line {i + 2}" if table else f"{file} row {i}" for i in range(n)]
