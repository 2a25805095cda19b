"""A pool read once, and proof that it is the same points in the same order when asked again."""

from collections.abc import Iterator, Mapping
from copy import copy
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, default_collate

from deimos.pool.batch_inputs import inputs
from deimos.pool.batch_points import PoolPoints, count_points, equal, take
from deimos.pool.batches import Pool, as_pool, batches, is_array, is_data_set

ASKED_AGAIN = 16  # points of a data set, spread over it


class Reading:
    """The inputs of a pool, once; and the first again, to see that they are the same."""

    def __init__(
        self,
        pool: Pool,
        at_once: int | None,
        rows: Int[np.ndarray, " n"] | None,
        model: nn.Module | None,
        part: str | int | None,
    ):
        self.pool, self.rows, self.how = pool, rows, (at_once, rows, model, part)
        self.size, self.first = 0, None
        check_items(pool, model, part)

    def __iter__(self) -> Iterator[PoolPoints]:
        for points in batches(self.pool, *self.how):
            self.first = points if self.first is None else self.first
            self.size += count_points(points)
            yield points

    def check_again(self) -> None:
        """ValueError if the pool begins otherwise the second time: its order is not fixed."""
        if self.first is None or not rereadable(self.pool):
            return
        again = next(iter(batches(self.pool, *self.how)), None)
        if again is not None and not equal(self.first, again):
            raise ValueError(
                "the pool gives other points when it is read again, so that positions mean "
                "nothing, or its points are random: give it a fixed order and no augmentation"
            )


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


def rereadable(pool: Pool) -> bool:
    """True of an iterable that may begin anew, and of nothing that is known to be fixed."""
    if type(pool) is DataLoader:
        return not hasattr(pool.dataset, "__getitem__") or not hasattr(pool.dataset, "__len__")
    pool = as_pool(pool)
    if is_array(pool) or is_data_set(pool) or isinstance(pool, list | tuple):
        return False
    return iter(pool) is not pool
