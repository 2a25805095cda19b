"""Files of one's own as points: tables of sequences or features, folders of images, arrays.

A pool is read first; what it is, and by which columns, is then asked of the labelled files too.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import UInt8
from torch import Tensor

from deimos.label_next.arrays import ARRAYS, array_labels, array_points, check_scale
from deimos.label_next.points import Points
from deimos.label_next.table_files import read_text_table
from deimos.label_next.tables import (
    LABEL,
    Columns,
    called,
    codes,
    column,
    label_column,
    numbers,
    roles,
)
from deimos.tasks import image_files
from deimos.tasks.files import explain_os_errors

FILE = "file"  # the column of an image's path in its folder
FILE_NAMES = (FILE, "filename", "file_name", "path", "image")
ROW = "row"  # the column of a point's place in an array
LARGEST_SIDE = 1024  # pixels


def read_pool(place: Path, columns: Columns, labelled: Sequence[Path] = ()) -> Points:
    """A folder of images, an array in .npy or .npz (`x`), or a table, zipped by gzip or not.

    Of a table, what the `labelled` files call the label is no input; without them, what is called
    as a label usually is.
    """
    if place.is_dir():
        _no_columns(place, columns)
        files = image_files.images_in(place)
        if not files:
            raise ValueError(f"{place} has no images in it: wanted .png or .jpg files")
        x, notes = read_images(files)
        table = pd.DataFrame({FILE: [_name(place, file) for file in files]})
        return Points("images", x, table, notes=notes)
    if place.suffix.lower() in ARRAYS:
        x, notes = array_points(place, columns)
        kind = "vectors" if x.dim() == 2 else "images"
        return Points(kind, x, row_numbers(len(x)), notes=notes)
    table = read_text_table(place)
    label, problem = column(place, table, _if_in(table, columns.label), LABEL), None
    others = [file for file in labelled if file.is_file() and file.suffix.lower() not in ARRAYS]
    if others:
        try:
            label = label_column(others[0], read_text_table(others[0]), columns.label, table)
        except ValueError as error:
            problem = error  # what is wrong with the pool is told first
    found = roles(place, table, columns, label)
    x = _rows(place, table, found.kind, found.inputs)
    if problem is not None:
        raise problem
    return Points(found.kind, x, table, found.inputs, found.id, found.notes)


def _if_in(table: pd.DataFrame, name: str | None) -> str | None:
    return name if name in table else None


def read_labelled(
    places: Sequence[Path], columns: Columns, pool: Points, pool_place: Path
) -> tuple[Points, list[str], list[str]]:
    """Labelled points of the pool's kind from several files, their labels, and where each stands.

    Of images: folders whose subfolders are classes or whose names begin with a value and `_`, or
    tables with a column `file`. Of arrays: .npz files with `x` and `y`.
    """
    parts = [_labelled(place, columns, pool, pool_place) for place in places]
    labels, where = ([one for part in parts for one in part[i]] for i in (1, 2))
    empty = [place for label, place in zip(labels, where, strict=True) if not label.strip()]
    if empty:
        raise ValueError(
            f"{empty[0]} has no label ({len(empty)} of {len(labels)} have none): fill it in, or "
            f"leave the row out"
        )
    together = replace(
        pool,
        x=torch.cat([points.x for points, _, _ in parts]),
        table=pd.concat([points.table for points, _, _ in parts], ignore_index=True).fillna(""),
        label=next((points.label for points, _, _ in parts if points.label), None),
        notes=tuple(dict.fromkeys(note for points, _, _ in parts for note in points.notes)),
    )
    return together, labels, where


def read_more(place: Path, columns: Columns, pool: Points, pool_place: Path) -> Points:
    """Points of the pool's kind, of the same columns, size and channels, from another file."""
    if place.is_dir() or place.suffix.lower() in ARRAYS:
        points = _of_the_pools_colour(place, read_pool(place, columns), pool)
    else:
        points = _from_table(place, read_text_table(place), columns, pool, pool_place)
    if points.x.shape[1:] != pool.x.shape[1:]:
        got, wanted = (tuple(x.shape[1:]) for x in (points.x, pool.x))
        raise ValueError(f"{place} has points of shape {got}, the pool of shape {wanted}")
    check_scale(place, points.x, pool.x)
    return points


def _labelled(
    place: Path, columns: Columns, pool: Points, pool_place: Path
) -> tuple[Points, list[str], list[str]]:
    points = read_more(place, columns, pool, pool_place)
    if place.is_dir():
        names = list(points.table[FILE])
        return points, _labels_of_names(place, names), [f"{place / name}" for name in names]
    if place.suffix.lower() in ARRAYS:
        labels = array_labels(place, columns.label or "y", len(points.x))
        return points, labels, [f"{place} row {i}" for i in range(len(labels))]
    label = label_column(place, points.table, columns.label, pool.table)
    where = [f"{place} line {line}" for line in points.table.index]
    return replace(points, label=label), points.table[label].tolist(), where


def _from_table(
    place: Path, table: pd.DataFrame, columns: Columns, pool: Points, pool_place: Path
) -> Points:
    """The points of a table: files that it names, or rows of the pool's columns."""
    if pool.kind == "images" and FILE in pool.table:
        named = columns.inputs[0] if columns.inputs else (called(table, FILE_NAMES) or [FILE])[0]
        file = column(place, table, named, ())
        files = [first_there(place, name, (place.parent, pool_place)) for name in table[file]]
        x, notes = read_images(files, colour=pool.x.dim() == 4)
        return Points("images", x, table, notes=notes)
    if not pool.features and ROW in table:
        return replace(pool, x=pool.x[_row_numbers(place, table, len(pool.x))], table=table)
    if not pool.features:
        raise ValueError(
            f"{place} is a table and the pool is not: wanted an .npz with x and y, or a column "
            f"{ROW!r} of the pool's rows"
        )
    missing = [name for name in pool.features if name not in table]
    if missing:
        raise ValueError(
            f"{place} has no column {missing[0]!r}, which the pool has: its columns are "
            f"{', '.join(table)}"
        )
    x = _rows(place, table, pool.kind, pool.features)
    return Points(pool.kind, x, table, pool.features, pool.id)


def _rows(place: Path, table: pd.DataFrame, kind: str, names: Sequence[str]) -> Tensor:
    if kind == "sequences":
        return codes(place, table[names[0]])
    return numbers(place, table, list(names))


def is_classes(place: Path) -> bool:
    """True of a folder whose images are all in folders of their own: a class each."""
    if not place.is_dir():
        return False
    return all(file.parent != place for file in image_files.images_in(place))


def _labels_of_names(place: Path, names: list[str]) -> list[str]:
    """The folder that each image is in, or else the number before the first `_` of its name."""
    depths = {len(Path(name).parts) for name in names}
    deepest = max(names, key=lambda name: len(Path(name).parts))
    if max(depths) > 2:
        raise ValueError(
            f"{place / deepest} lies more than one folder deep: wanted a folder a class, named so"
        )
    if depths == {2}:
        return [Path(name).parts[0] for name in names]
    if len(depths) > 1:
        alone = next(name for name in names if len(Path(name).parts) == 1)
        raise ValueError(
            f"{place / alone} is in no folder of a class, as {place / deepest} is: put it in one"
        )
    found = [re.match(r"(-?[0-9]+(?:\.[0-9]+)?)_", Path(name).name) for name in names]
    return [one[1] if one else "" for one in found]


def images(files: Sequence[Path]) -> UInt8[Tensor, "n *size"]:
    """Grey images [n h w] or RGB ones [n 3 h w], all of one size; none is unpacked unchecked."""
    return read_images(files)[0]


def read_images(
    files: Sequence[Path], colour: bool | None = None
) -> tuple[UInt8[Tensor, "n *size"], tuple[str, ...]]:
    """The same, and a note if some are grey among colour.

    With `colour` all are brought to three channels, without (False) to one: ValueError for a file
    that is in colour then.
    """
    pixels = [_pixels(file) for file in files]
    for file, image in zip(files, pixels, strict=True):
        if image.shape[:2] != pixels[0].shape[:2]:
            got, wanted = (f"{one.shape[1]} × {one.shape[0]}" for one in (image, pixels[0]))
            raise ValueError(
                f"{file} is {got} pixels (width × height), wanted {wanted} as {files[0]} is: bring "
                f"all to one size"
            )
    n_grey = sum(image.ndim == 2 for image in pixels)
    colour = n_grey < len(pixels) if colour is None else colour
    if not colour:
        pixels = [_grey(file, image) for file, image in zip(files, pixels, strict=True)]
        return torch.from_numpy(np.stack(pixels)), ()
    notes = (f"{n_grey:,} of {len(pixels):,} images are grey, and have three equal channels",)
    pixels = [np.stack([image] * 3, 2) if image.ndim == 2 else image for image in pixels]
    together = torch.from_numpy(np.stack(pixels)).movedim(3, 1).contiguous()
    return together, notes if n_grey else ()


def _pixels(file: Path) -> UInt8[np.ndarray, "h w *colour"]:
    with explain_os_errors(file, "read"):
        content = file.read_bytes()

    def complaint(mode: str, size: tuple[int, int]) -> str | None:
        if max(size) <= LARGEST_SIDE:
            return None
        return f"is {size[0]} × {size[1]}, wanted at most {LARGEST_SIDE} pixels wide and high"

    return image_files.decode(str(file), content, complaint)


def _grey(file: Path, image: UInt8[np.ndarray, "h w *colour"]) -> UInt8[np.ndarray, "h w"]:
    if image.ndim == 2:
        return image
    if not image_files.is_grey(image):
        raise ValueError(f"{file} is in colour and the pool is grey: convert it, or the pool")
    return image[:, :, 0]


def _of_the_pools_colour(place: Path, points: Points, pool: Points) -> Points:
    """The same images with as many channels as the pool's."""
    if points.kind != "images" or points.x.dim() == pool.x.dim():
        return points
    if points.x.dim() == 3:
        three = points.x[:, None].expand(-1, 3, -1, -1).contiguous()
        return replace(points, x=three, notes=("grey images have three equal channels",))
    if (points.x == points.x[:, :1]).all():
        return replace(points, x=points.x[:, 0].contiguous())
    raise ValueError(f"{place} has images in colour and the pool is grey: convert them, or it")


def first_there(table: Path, name: str, folders: Sequence[Path]) -> Path:
    """The file of that name in the first folder that has one; ValueError if two differ."""
    there = [folder / name for folder in folders if (folder / name).is_file()]
    if len(there) == 2 and there[0].read_bytes() != there[1].read_bytes():
        raise ValueError(f"{table} names {name!r}: which of {there[0]} and {there[1]}?")
    if there:
        return there[0]
    raise ValueError(
        f"{table} names {name!r}, which is in neither {' nor '.join(map(str, folders))}"
    )


def _name(folder: Path, file: Path) -> str:
    """A file's path in its folder, if it can be written into a table."""
    name = str(file.relative_to(folder))
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{name!r} in {folder} is a name that is not in UTF-8") from error
    return name


def _no_columns(place: Path, columns: Columns) -> None:
    if columns.id or columns.sequence:
        raise ValueError(f"{place} is a folder and has no columns: a point's id is its file")


def row_numbers(n: int) -> pd.DataFrame:
    """The table of points that have no names: their rows, from 0."""
    return pd.DataFrame({ROW: np.arange(n)})


def _row_numbers(place: Path, table: pd.DataFrame, n: int) -> list[int]:
    """The rows of a pool of n that a table of its picks names."""
    for line, text in table[ROW].items():
        if not re.fullmatch(r"\s*[0-9]{1,12}\s*", text) or int(text) >= n:
            raise ValueError(
                f"{place} line {line} has the row {text!r}, the pool has 0 to {n - 1:,}"
            )
    return [int(text) for text in table[ROW]]
