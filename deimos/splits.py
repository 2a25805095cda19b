"""Which rows are held out to test on: once for all repeats, or anew in each of them (App. D).

The authors tested the faces and the digits on one set, and drew the splicing test set anew in every
repeat. Ids count the rows of the full data set either way.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from deimos.data import Task

DRAWN_ANEW = ("splicing",)  # tasks whose repeats have a test set each


def hold_out(
    ids: Int[Tensor, " n"], n_test: int, rng: np.random.Generator, keep: Sequence[int] = ()
) -> tuple[Int[Tensor, " r"], Int[Tensor, " m"]]:
    """`ids` to train on and `n_test` random others, none in `keep`, to test on; both in order."""
    may_leave = ids[~torch.isin(ids, torch.tensor(keep, dtype=ids.dtype, device=ids.device))]
    if not 0 < n_test < len(may_leave):
        raise ValueError(f"{len(ids)} rows are too few to hold {n_test} of them out")
    drawn = rng.choice(len(may_leave), n_test, replace=False)
    test_ids = may_leave[torch.from_numpy(np.sort(drawn)).to(ids.device)]
    return ids[~torch.isin(ids, test_ids)], test_ids


def for_repeat(task: Task, repeat: int, rng: np.random.Generator) -> Task:
    """The task as one repeat meets it: with a test set of its own where the authors drew one.

    It is as large as the task's, and has none of the points in the repeat's stored initial set.
    """
    if task.name not in DRAWN_ANEW:
        return task
    train_ids, test_ids = _of_repeat(task, repeat, rng)
    return replace(task, train_ids=train_ids, test_x=task.x[test_ids], test_y=task.y[test_ids])


def held_out_of_repeat(task: Task, repeat: int, rng: np.random.Generator) -> list[int] | None:
    """The ids that a repeat alone is tested on, by the stream of `for_repeat`; None if none are."""
    return _of_repeat(task, repeat, rng)[1].tolist() if task.name in DRAWN_ANEW else None


def _of_repeat(
    task: Task, repeat: int, rng: np.random.Generator
) -> tuple[Int[Tensor, " r"], Int[Tensor, " m"]]:
    keep = task.initial_sets[repeat - 1] if repeat <= len(task.initial_sets) else ()
    rows = torch.arange(len(task.x), device=task.x.device)
    return hold_out(rows, len(task.test_x), rng, keep)
