"""Arrays of one's own as points: rows of numbers, or images as torch or as Keras lays them out."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Num
from torch import Tensor

from deimos.label_next.tables import Columns
from deimos.tasks.npz import finite, read_array, single

ARRAYS = (".npz", ".npy")
CHANNELS = (1, 3)


def array_labels(place: Path, name: str, n: int) -> list[str]:
    """The labels of an .npz file as text: words to the letter, whole numbers without a point."""
    y = read_array(place, name)
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    if y.ndim != 1 or len(y) != n:
        raise ValueError(
            f"{place} has {n} rows of x and {name} of shape {y.shape}: wanted one label a row, as "
            f"y.argmax(1) makes them of rows with a single 1"
        )
    if y.dtype.kind not in "biufU":
        raise ValueError(f"{place} has in {name} neither numbers nor text")
    if y.dtype.kind == "f" and not (y[np.isfinite(y)] % 1).any():
        return [f"{value:.0f}" for value in y]  # what became floats when one was missing
    return [str(value) for value in y]


def array_points(place: Path, columns: Columns) -> tuple[Num[Tensor, "n *input"], tuple[str, ...]]:
    """Rows of numbers [n d], grey images [n h w] or colour ones [n 3 h w]; and how they were laid.

    torch's and Keras' layouts are told apart by where the 1 or 3 channels are.
    """
    if columns.id or columns.sequence:
        raise ValueError(f"{place} has no columns: --id and --sequence are for tables")
    npz = place.suffix.lower() == ".npz"
    name = (columns.input[0] if columns.input else "x") if npz else None
    values = finite(place, name or "it", read_array(place, name))
    x = torch.from_numpy(
        values if values.dtype == np.uint8 else single(place, name or "it", values)
    )
    shape = tuple(x.shape)
    if not shape or not len(x):
        raise ValueError(f"{place} has an array of shape {shape}, wanted a row a point")
    if len(shape) == 1:
        return x[:, None], ()
    if len(shape) == 4:
        return _channels(place, x)
    if len(shape) > 4 or (len(shape) == 3 and min(shape[1:]) <= 4):
        raise ValueError(
            f"{place} has points of shape {shape[1:]}: wanted rows of numbers (d), grey images "
            f"(h, w), or images with 1 or 3 channels (c, h, w) or (h, w, c)"
        )
    return x, ()


def _channels(place: Path, x: Num[Tensor, "n a b c"]) -> tuple[Tensor, tuple[str, ...]]:
    """Images [n h w] or [n 3 h w], from channels first or last."""
    first, last = x.shape[1] in CHANNELS, x.shape[3] in CHANNELS
    shape = tuple(x.shape[1:])
    if first == last:
        which = "which axis is the channels'" if first else "no axis of 1 or 3 channels"
        raise ValueError(
            f"{place} has images of shape {shape}: {which}; wanted (c, h, w) or (h, w, c) with 1 "
            f"or 3 channels"
        )
    x = x if first else x.movedim(3, 1).contiguous()
    laid = "channels first, as torch has them" if first else "channels last, as Keras has them"
    return (x[:, 0] if x.shape[1] == 1 else x), (f"arrays of shape {shape}: {laid}",)


def check_scale(place: Path, x: Tensor, pool: Tensor) -> None:
    """ValueError for images of 0 to 1 beside some of 0 to 255."""
    both_bytes = x.dtype == pool.dtype == torch.uint8
    if x.dim() > 2 and x.numel() and not both_bytes:
        top, pools = x.max().item(), pool.max().item()
        if min(top, pools) <= 1 and max(top, pools) > 2:
            raise ValueError(
                f"{place} has pixels up to {top:g} and the pool up to {pools:g}: bring them to "
                f"one scale"
            )


def brightest(images: Sequence[Tensor]) -> float:
    """The most that a pixel of these may be: 255 of bytes, else the largest there is, or 1."""
    most = [255.0 if x.dtype == torch.uint8 else x.abs().max().item() for x in images]
    return max(1.0, *most)
