"""The same batches picked on a GPU and on the processor, from the same predictions.

`select` takes one core there, BatchBALD all of them. Without a GPU there is nothing to compare, and
no row.
"""

from collections.abc import Callable, Iterator
from functools import partial
from statistics import median

import numpy as np
import torch
from torch import Tensor

from benchmarks import batchbald, selection
from benchmarks.measured import Row, seconds
from deimos.acquisition.beliefs import Beliefs
from deimos.expected_improvement import select

SIZES = [(5_000, 200, 1), (2_000, 25, 10), (60_000, 25, 10), (1_000_000, 200, 1)]


def rows(full: bool) -> Iterator[Row]:
    if not torch.cuda.is_available():
        return
    for S, b, c in SIZES if full else SIZES[:3]:
        p, noise = selection.predictions(S, c, 50)
        pick = partial(selected, b=b, noise=noise)
        yield compared(f"select, S = {S:,}, b = {b}, c = {c}, J = 50", pick, p)
    pick = partial(informative, b=25)
    yield compared(
        "BatchBALD, S = 2,000, b = 25, c = 10, J = 50", pick, batchbald.predictions(2_000, 10)
    )


def compared(what: str, pick: Callable[[Tensor], Tensor], p: Tensor) -> Row:
    """The median of three calls of `pick` there, after a first one, and one call here."""
    there, batches = p.cuda(), []

    def run(predictions: Tensor) -> None:
        batches.append(pick(predictions).tolist())

    run(there)
    ours = median(seconds(partial(run, there)) for _ in range(3))
    theirs = seconds(partial(run, p))
    note = "the same batch" if batches[0] == batches[-1] else "batches differ"
    return Row(f"{what}, on a GPU", "on the processor", ours, theirs, note=note)


def selected(p: Tensor, b: int, noise: float) -> Tensor:
    return select(p, torch.arange(p.shape[1], device=p.device), b, noise=noise)


def informative(p: Tensor, b: int) -> Tensor:
    beliefs = Beliefs(torch.arange(p.shape[1], device=p.device), p)
    return batchbald.batchbald(beliefs, b, np.random.default_rng(0), batchbald.CONFIGURATIONS)
