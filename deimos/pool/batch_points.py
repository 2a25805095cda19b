"""Points in a batch, as a model is called with them: a tensor, or tensors by place or by name.

Axes:  n points, the first axis of everything in a batch that belongs to them
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

PoolPoints = Any  # a tensor, or a tuple or a dict of tensors: what a model is called with


def of_points(points: PoolPoints) -> list[Tensor]:
    """The tensors in what a model is called with."""
    parts = points.values() if isinstance(points, dict) else points
    return [points] if isinstance(points, Tensor) else [x for x in parts if isinstance(x, Tensor)]


def count_points(points: PoolPoints) -> int:
    """n."""
    first = of_points(points)[0]
    if not first.dim():
        raise ValueError("a batch of the pool is a single number, wanted one row a point")
    return len(first)


def mapped(f: Callable[[Tensor], Tensor], points: PoolPoints) -> PoolPoints:
    """The same with f applied to every tensor."""
    if isinstance(points, Tensor):
        return f(points)
    if isinstance(points, dict):
        return {k: f(x) if isinstance(x, Tensor) else x for k, x in points.items()}
    return tuple(f(x) if isinstance(x, Tensor) else x for x in points)


def take(points: PoolPoints, rows: Tensor) -> PoolPoints:
    """Some of the points; `rows` beyond the last begin again."""
    n = count_points(points)
    return mapped(
        lambda x: x[(rows % n).to(x.device)] if x.dim() and len(x) == n else x.clone(), points
    )


def joined(one: PoolPoints, other: PoolPoints) -> PoolPoints | None:
    """Points of two batches in one; None where their shapes do not fit."""
    if isinstance(one, Tensor):
        fits = one.shape[1:] == other.shape[1:] and one.dtype == other.dtype
        return torch.cat([one, other]) if fits else None
    keys = list(one) if isinstance(one, dict) else range(len(one))
    found = {}
    for key in keys:
        if isinstance(one[key], Tensor) and one[key].dim():
            found[key] = joined(one[key], other[key])
            if found[key] is None:
                return None
        else:
            found[key] = one[key]
    return found if isinstance(one, dict) else tuple(found.values())


def call(model: Callable, points: PoolPoints) -> Any:
    """The model's answer."""
    if isinstance(points, dict):
        return model(**points)
    return model(*points) if isinstance(points, tuple) else model(points)


def as_batches(inputs: Iterable) -> Iterable:
    """The input of `predict`: a single tensor would be read row by row."""
    return [inputs] if isinstance(inputs, Tensor) else inputs


def equal(one: Any, other: Any) -> bool:
    """True if two batches hold the same numbers."""
    if isinstance(one, Tensor | np.ndarray):
        one, other = torch.as_tensor(one), torch.as_tensor(other)
        return one.shape == other.shape and bool(((one == other) | (one != one)).all())
    if isinstance(one, Mapping):
        return all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return not isinstance(one, int | float | str | bytes) or one == other or one != one


def holds_numbers(x: Any) -> bool:
    """True of an array, which has something of every point."""
    return isinstance(x, Tensor | np.ndarray)
