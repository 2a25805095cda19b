"""The part of a batch that is the model's input; what may be several parts is refused.

Axes:  n points, the first axis of everything in a batch that belongs to them
"""

import inspect
import re
import reprlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from deimos.pool.batch_points import PoolPoints, holds_numbers

SAYS_LENGTH = re.compile(r"(att|pad|key).*mask|mask.*pad|length|(^|_)lens?$")  # keys of batches
OPTIONAL_LENGTH = re.compile(r"(^|_)masks?$|^(seq_|x_|input_)?(lengths?|lens?)$")  # of forward
LABEL_NAMES = {"label", "labels", "y", "target", "targets", "label_ids"}
USUAL = ("x", "input", "inputs", "image", "images", "img", "pixel_values", "input_ids", "features",
         "input_values", "data", "sequence", "sequences", "inputs_embeds")  # fmt: skip


def inputs(batch: Any, model: nn.Module | None = None, part: str | int | None = None) -> PoolPoints:
    """The part of a batch that the model is called with; ValueError where it may be several."""
    if part is not None:
        try:
            return inputs(batch[part], model)
        except (KeyError, IndexError, TypeError) as error:
            raise ValueError(
                f"a batch of the pool has no part {part!r}: {parts_in_words(batch)}"
            ) from error
    if isinstance(batch, PackedSequence):
        raise ValueError("the pool's batches are packed sequences: pad them, and pack in the model")
    if isinstance(batch, tuple) and hasattr(batch, "_asdict"):
        batch = batch._asdict()
    if isinstance(batch, Mapping):
        return of_names(dict(batch), model)
    if isinstance(batch, list | tuple):
        return of_places(batch, model)
    return tensor(batch)


def of_names(parts: dict, model: nn.Module | None) -> PoolPoints:
    """The parts of a dict that the model's forward has arguments for, or the one that is no label.

    Labels are left out where they may be.
    """
    names, required = arguments(model)
    wanted = [name for name in names if name in parts and name not in LABEL_NAMES - set(required)]
    if wanted and set(required) <= set(wanted):
        left = [name for name in parts if name not in wanted and SAYS_LENGTH.search(name.lower())]
        if left:
            raise ValueError(
                f"the pool's batches have {', '.join(map(repr, left))}, and forward of "
                f"{type(model).__name__} takes {', '.join(names)}: call it as forward does, or go "
                f"without by part={wanted[0]!r}"
            )
        if len(wanted) == 1:
            return tensor(parts[wanted[0]])
        return {n: tensor(v) if holds_numbers(v) else v for n in wanted for v in [parts[n]]}
    if len(required) < 2:
        for among in (parts, set(parts) - LABEL_NAMES, set(parts) & set(USUAL)):
            if len(among) == 1:
                return tensor(parts[next(iter(among))])
    if model is None:
        return {n: tensor(v) if holds_numbers(v) else v for n, v in parts.items()}
    raise ValueError(
        f"the pool's batches are dicts of {', '.join(map(repr, parts))}, and forward of "
        f"{type(model).__name__} takes {', '.join(names)}: name the input with part="
    )


def of_places(batch: list | tuple, model: nn.Module | None) -> PoolPoints:
    """The first part of a tuple, or as many as the model's forward cannot do without."""
    if not batch:
        raise ValueError("a batch of the pool is empty")
    required = [name for name in arguments(model)[1] if name not in LABEL_NAMES]
    if 1 < len(required) <= len(batch):
        return tuple(tensor(x) for x in batch[: len(required)])
    first = batch[0]
    check_further_parts(batch, model)
    if isinstance(first, Tensor | np.ndarray) and len(batch) > 1:
        whole = not torch.as_tensor(first).is_floating_point()
        if whole and first.ndim == 1 and any(getattr(x, "ndim", 0) > 1 for x in batch[1:]):
            raise ValueError(
                f"the first part of the pool's batches is a whole number a point, like a row's "
                f"number ({parts_in_words(batch)}): name the input with part="
            )
    return inputs(first, model)


def check_further_parts(batch: list | tuple, model: nn.Module | None) -> None:
    """ValueError if parts after the input may be a mask or lengths that forward has a place for."""
    first = batch[0]
    if not holds_numbers(first) or first.ndim < 2:
        return
    for name in filter(OPTIONAL_LENGTH.search, optional_arguments(model)):
        for place, x in enumerate(batch[1:], 1):
            if not holds_numbers(x):
                continue
            fits = x.shape[:2] == first.shape[:2]
            if "mask" not in name:
                fits = x.ndim == 1 and bool(((x > 0) & (x <= first.shape[1])).all())
            if fits:
                raise ValueError(
                    f"part {place} of the pool's batches may be the {name!r} that forward of "
                    f"{type(model).__name__} can take ({parts_in_words(batch)}): give dicts with "
                    f"forward's names, or go without by part=0"
                )


def optional_arguments(model: nn.Module | None) -> list[str]:
    """Names of the arguments of a model's forward that are None unless given."""
    found = inspect.signature(model.forward).parameters.values() if arguments(model)[0] else []
    return [p.name for p in found if p.default is None]


def arguments(model: nn.Module | None) -> tuple[list[str], list[str]]:
    """Names of the arguments of a model's forward, and of those without a default."""
    try:
        found = inspect.signature(model.forward).parameters.values()
    except (AttributeError, ValueError, TypeError):
        return [], []
    named = [p for p in found if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    return [p.name for p in named], [p.name for p in named if p.default is p.empty]


def tensor(x: Any) -> Tensor:
    """Points as a tensor; ValueError if they are no real numbers."""
    if isinstance(x, Tensor):
        if x.is_complex():
            raise ValueError("the pool's points are complex numbers: give real and imaginary part")
        return x
    if hasattr(x, "__array__") and not isinstance(x, np.ndarray):
        x = np.asarray(x)
    if np.ma.is_masked(x):
        raise ValueError("the pool's points are a masked array with gaps: fill them, x.filled(...)")
    if not isinstance(x, np.ndarray) or x.dtype.kind not in "biuf" or x.dtype.itemsize > 8:
        kind = getattr(x, "dtype", type(x).__name__)
        raise ValueError(
            f"the pool's points are of type {kind}, wanted numbers in an array, or batches of them "
            f"(single points in a list: torch.stack them, or make a DataLoader)"
        )
    if x.dtype.kind == "u" and x.dtype.itemsize > 1:
        return torch.from_numpy(x.astype(np.int64))
    return torch.from_numpy(np.array(x, dtype=x.dtype.newbyteorder("=")))


def parts_in_words(batch: Any) -> str:
    """A batch in a few words."""
    if isinstance(batch, Mapping):
        return "it has " + ", ".join(map(repr, batch))
    if isinstance(batch, list | tuple):
        kinds = [str(tuple(x.shape)) if hasattr(x, "shape") else type(x).__name__ for x in batch]
        return "its parts are " + ", ".join(kinds)
    return reprlib.repr(batch)
