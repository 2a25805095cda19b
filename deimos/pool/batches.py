"""Pools: arrays, data sets, loaders and other batches, and the input in each batch.

A position in the pool is a row of the array or an index of the data set, and nothing else: what
would come in another order, or in part, is refused.

Axes:  n points, the first axis of everything in a batch that belongs to them
"""

import inspect
import math
import re
import reprlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import copy
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    SequentialSampler,
    default_collate,
)

NUMBERS_AT_ONCE = 2**23  # in a batch that is cut from an array, of at most 1,024 points
FROM_DATA_SET = 64  # points at once
ASKED_AGAIN = 16  # points of a data set, spread over it
SAYS_LENGTH = re.compile(r"(att|pad|key).*mask|mask.*pad|length|(^|_)lens?$")  # keys of batches
OPTIONAL_LENGTH = re.compile(r"(^|_)masks?$|^(seq_|x_|input_)?(lengths?|lens?)$")  # of forward
LABEL_NAMES = {"label", "labels", "y", "target", "targets", "label_ids"}
USUAL = ("x", "input", "inputs", "image", "images", "img", "pixel_values", "input_ids", "features",
         "input_values", "data", "sequence", "sequences", "inputs_embeds")  # fmt: skip
Pool = Any  # an array, a tensor, a table, a Dataset, a DataLoader, or an iterable of batches
PoolPoints = Any  # a tensor, or a tuple or a dict of tensors: what a model is called with


def batches(
    pool: Pool,
    at_once: int | None = None,
    rows: Int[np.ndarray, " n"] | None = None,
    model: nn.Module | None = None,
    part: str | int | None = None,
) -> Iterator[PoolPoints]:
    """The pool's inputs, `at_once` points at a time, or in the batches that it comes in.

    Of `rows`, in ascending order, alone if they are given. Of an array on disk no more than a batch
    is read.
    """
    pool = as_pool(pool)
    if is_array(pool):
        n = len(pool) if rows is None else len(rows)
        at_once = at_once or min(1024, max(1, NUMBERS_AT_ONCE // max(1, math.prod(pool.shape[1:]))))
        for a, b in pairwise([*range(0, n, at_once), n]):
            yield tensor(pool[a:b] if rows is None else pool[rows[a:b]])
        return
    if is_data_set(pool):
        pool = DataLoader(pool, at_once or FROM_DATA_SET, collate_fn=alike)
    total, start = length(pool), 0
    for batch in pool:
        x = inputs(batch, model, part)
        n = count_points(x)
        if isinstance(pool, DataLoader) and total is not None:
            wanted = max(0, min(pool.batch_sampler.batch_size, total - start))
            if n != wanted:
                raise ValueError(
                    f"the pool's DataLoader gives {n} points for the {wanted} of its data set from "
                    f"position {start} on: one row a point, so that positions keep their meaning"
                )
        if rows is not None:
            here = torch.from_numpy(rows[(start <= rows) & (rows < start + n)] - start)
        start += n
        if rows is None:
            yield x
        elif len(here):
            yield take(x, here)
    if isinstance(pool, DataLoader) and total is not None and start != total:
        raise ValueError(
            f"the pool's DataLoader gives {start} of the {total} points of its data set: see that "
            f"its sampler is over the data set"
        )


def alike(points: list) -> Any:
    """A batch of points; ValueError if they are not alike."""
    try:
        return default_collate(points)
    except (RuntimeError, TypeError) as error:
        why = str(error).splitlines()[0]
        raise ValueError(
            f"the pool's points make no batch ({why}): give a DataLoader whose collate_fn makes "
            f"one of them, as by padding to the longest"
        ) from error


def length(pool: Pool) -> int | None:
    """Number of points in a pool, if it can be told without reading it.

    ValueError if it comes in another order than its data set's, or in part: a position then means
    nothing.
    """
    pool = as_pool(pool)
    if is_array(pool) or is_data_set(pool):
        return len(pool) if hasattr(pool, "__len__") else None
    if not isinstance(pool, DataLoader):
        return None
    if pool.num_workers > 1 and not getattr(pool, "in_order", True):
        raise ValueError(
            "the pool's DataLoader gives its batches as they are ready, in no fixed order: "
            "in_order=True"
        )
    if isinstance(pool.dataset, IterableDataset):
        if pool.num_workers > 1 or pool.drop_last:
            raise ValueError(
                "the pool's DataLoader over an IterableDataset may give points twice or leave some "
                "out: num_workers=0 or 1, and drop_last=False"
            )
        return None
    if pool.batch_sampler is None:  # items of the data set are batches
        in_order = type(pool.sampler) is SequentialSampler
    else:
        sampler = getattr(pool.batch_sampler, "sampler", None)
        in_order = type(pool.batch_sampler) is BatchSampler and type(sampler) is SequentialSampler
    if not in_order:
        raise ValueError(
            "the pool's DataLoader shuffles or has a sampler of its own, so that positions do not "
            "count the data set's points: shuffle=False and no sampler; for some of the points, "
            "torch.utils.data.Subset"
        )
    if pool.batch_sampler is None:
        return None
    if pool.batch_sampler.drop_last and len(pool.dataset) % pool.batch_sampler.batch_size:
        raise ValueError("the pool's DataLoader drops its last batch: drop_last=False")
    return len(pool.dataset)


def check_items(pool: Pool, model: nn.Module | None, part: str | int | None) -> None:
    """ValueError if the data set gives another point when asked again, or its collate turns them.

    Positions count the data set's points, so that what makes a batch of them must keep their order.
    """
    pool, collate = as_pool(pool), list
    if isinstance(pool, DataLoader):
        collate = pool.collate_fn if pool.batch_sampler is not None else list
        pool = pool.dataset
    if not is_data_set(pool) or isinstance(pool, IterableDataset) or not len(pool):
        return
    rows = sorted({i * (len(pool) - 1) // (ASKED_AGAIN - 1) for i in range(ASKED_AGAIN)})

    def batch(rows: list[int]) -> Any:
        """Copies where a collate may take something out of an item."""
        items = [pool[i] for i in rows]
        return collate([copy(x) if isinstance(x, Mapping | list) else x for x in items])

    one = batch(rows)
    if not equal(one, batch(rows)):
        raise ValueError(
            f"the pool's data set ({type(pool).__name__}) gives another point when asked for the "
            f"same one again: switch its random augmentation off for the pool"
        )
    if collate in (list, default_collate):
        return
    points, turned = (inputs(given, model, part) for given in (one, batch(rows[::-1])))
    if count_points(points) != len(rows) or count_points(turned) != len(rows):
        return  # told when it is read, with the place
    if not equal(points, take(turned, torch.arange(len(rows)).flip(0))):
        raise ValueError(
            "the pool's collate_fn does not keep the order of the points, as one that sorts them "
            "by length, so that positions mean nothing: leave them in the order they come in"
        )


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


def as_pool(pool: Pool) -> Pool:
    """The pool, a pandas table as its numbers; what is no pool is told in a sentence."""
    if hasattr(pool, "to_numpy"):
        pool = pool.to_numpy()
    if hasattr(pool, "toarray") and hasattr(pool, "nnz"):
        raise ValueError("the pool is a sparse matrix: give pool.toarray(), or batches of it")
    if hasattr(pool, "to_pandas") and hasattr(pool, "schema"):
        raise ValueError("the pool is a table of Arrow's: give pool.to_pandas()")
    if isinstance(pool, Tensor) and (pool.is_nested or pool.layout != torch.strided):
        raise ValueError("the pool is a sparse or nested tensor: give a dense one, or batches")
    if is_array(pool) and not len(pool.shape):
        raise ValueError("the pool is a single number, wanted one row a point")
    if is_array(pool) or is_data_set(pool):
        return pool
    kind = type(pool).__name__
    if isinstance(pool, Mapping):
        raise ValueError(
            f"the pool is a {kind} of {', '.join(map(repr, pool))}, which is one batch: give it in "
            f"a list, or a Dataset whose points are such"
        )
    if isinstance(pool, str | bytes | set | frozenset) or not hasattr(pool, "__iter__"):
        raise ValueError(
            f"the pool is a {kind}, wanted an array of points, a Dataset, a DataLoader, or batches "
            f"in a list or any other iterable that has an order"
        )
    if isinstance(pool, list | tuple):
        check_list(pool)
    return pool


def check_list(pool: list | tuple) -> None:
    """ValueError for a list of arrays that may be points, or a tuple that may be one batch."""
    if not pool or not all(map(holds_numbers, pool)):
        return
    if all(x.ndim == 1 for x in pool):
        raise ValueError(
            f"the pool is a {type(pool).__name__} of arrays with one axis, which may be points or "
            f"batches of numbers: make one array of them, by torch.stack (points, padded to one "
            f"length) or torch.cat (numbers)"
        )
    if len({(str(x.dtype), x.ndim) for x in pool}) > 1:
        kinds = ", ".join(dict.fromkeys(f"{x.dtype} of {x.ndim} axes" for x in pool))
        raise ValueError(
            f"the pool is a {type(pool).__name__} of arrays of several kinds ({kinds}): parts of "
            f"one batch go in as [(x, y)], batches must be alike"
        )
    places = {x.untyped_storage().data_ptr() for x in pool if isinstance(x, Tensor)}
    split = len(places) == 1 and all(isinstance(x, Tensor) for x in pool)  # as torch.split does
    if isinstance(pool, tuple) and len(pool) > 1 and not split:
        raise ValueError(
            f"the pool is a tuple of {len(pool)} arrays, which may be the parts of one batch or as "
            f"many batches: give [pool] for the one, list(pool) for the other"
        )


def is_array(pool: Pool) -> bool:
    """True if its rows are points: tensors, numpy arrays, and the like, on disk too."""
    if isinstance(pool, Tensor | np.ndarray):
        return True
    return all(hasattr(pool, name) for name in ("shape", "dtype", "__getitem__"))


def is_data_set(pool: Pool) -> bool:
    """True if it gives points one by one: torch's Dataset, or anything with a length and items."""
    if is_array(pool) or isinstance(pool, Dataset):
        return not is_array(pool)
    countable = hasattr(pool, "__len__") and hasattr(pool, "__getitem__")
    return countable and not isinstance(pool, list | tuple | Mapping | str | DataLoader)


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


def holds_numbers(x: Any) -> bool:
    """True of an array, which has something of every point."""
    return isinstance(x, Tensor | np.ndarray)


def parts_in_words(batch: Any) -> str:
    """A batch in a few words."""
    if isinstance(batch, Mapping):
        return "it has " + ", ".join(map(repr, batch))
    if isinstance(batch, list | tuple):
        kinds = [str(tuple(x.shape)) if hasattr(x, "shape") else type(x).__name__ for x in batch]
        return "its parts are " + ", ".join(kinds)
    return reprlib.repr(batch)


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
