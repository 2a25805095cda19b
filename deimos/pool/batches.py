"""Pools: arrays, data sets, loaders and other batches.

A position in the pool is a row of the array or an index of the data set, and nothing else: what
would come in another order, or in part, is refused.
"""

import math
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    SequentialSampler,
    default_collate,
)

from deimos.pool.batch_inputs import inputs, tensor
from deimos.pool.batch_points import PoolPoints, count_points, holds_numbers, take

NUMBERS_AT_ONCE = 2**23  # in a batch that is cut from an array, of at most 1,024 points
FROM_DATA_SET = 64  # points at once
Pool = Any  # an array, a tensor, a table, a Dataset, a DataLoader, or an iterable of batches


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
