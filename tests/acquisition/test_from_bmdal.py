"""Rivals in regression: the library's picks are what their papers say, in a few slow lines."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from deimos.acquisition.beliefs import Beliefs
from deimos.acquisition.from_bmdal import SELECTIONS, SIGMA, query

pytest.importorskip("bmdal_reg", reason="bmdal_reg is not there")


def beliefs(S=80, h=5) -> Beliefs:
    g = torch.Generator().manual_seed(0)
    candidates = torch.arange(S)[torch.arange(S) % 4 != 1]
    return Beliefs(candidates, None, torch.rand(S, h, generator=g))


def pick(seen: Beliefs, batch_size: int, selection: str) -> list[int]:
    batch, n_random = query(seen, batch_size, np.random.default_rng(0), selection)
    assert n_random == 0
    return batch.tolist()


def labelled(seen: Beliefs) -> list[int]:
    return sorted({*range(len(seen.features))} - {*seen.candidates.tolist()})


def farthest_of_the_largest(seen: Beliefs, batch_size: int) -> list[int]:
    """Points are with their nearest centres; a cluster is as large as the sum of its squares."""
    x, centres, batch = seen.features.double().numpy(), labelled(seen), []
    for _ in range(batch_size):
        squares = ((x[seen.candidates][:, None] - x[centres]) ** 2).sum(2)
        nearest, own = squares.argmin(1), squares.min(1)
        masses = np.bincount(nearest, own, minlength=len(centres))
        inside = np.flatnonzero(nearest == masses.argmax())
        batch.append(seen.candidates[inside[own[inside].argmax()]].item())
        centres.append(batch[-1])
    return batch


def told_of_all(seen: Beliefs, batch_size: int) -> list[int]:
    """Twice the batch that leaves a linear layer least variance over all points, then half."""
    x = seen.features.double().numpy()
    x = np.column_stack([x, np.ones(len(x))])
    known = labelled(seen)
    x /= np.sqrt((x[known] ** 2).sum(1).mean())

    def left(batch: list[int]) -> float:
        z = x[known + batch]
        return np.trace(x @ np.linalg.inv(z.T @ z / SIGMA**2 + np.eye(x.shape[1])) @ x.T)

    batch = []
    for _ in range(2 * batch_size):
        others = [n for n in seen.candidates.tolist() if n not in batch]
        batch.append(min(others, key=lambda n: left([*batch, n])))
    while len(batch) > batch_size:
        batch.remove(min(batch, key=lambda n: left([m for m in batch if m != n])))
    return batch


@pytest.mark.parametrize(
    ("selection", "slow"), [("lcmd", farthest_of_the_largest), ("bait", told_of_all)]
)
def test_a_batch_is_what_the_paper_says(selection, slow):
    seen = beliefs()
    assert pick(seen, 12, selection) == slow(seen, 12)


@pytest.mark.parametrize("selection", SELECTIONS)
def test_a_whole_pool_can_be_asked_for(selection):
    seen = beliefs()
    assert sorted(pick(seen, 60, selection)) == seen.candidates.tolist()


@pytest.mark.parametrize("selection", SELECTIONS)
def test_a_network_that_tells_nothing_apart_still_gets_a_batch_of_different_points(selection):
    seen = Beliefs(beliefs().candidates, None, torch.zeros(80, 5))
    batch, _ = query(seen, 12, np.random.default_rng(0), selection)
    assert len({*batch.tolist()}) == 12 and {*batch.tolist()} <= {*seen.candidates.tolist()}


@pytest.mark.parametrize("selection", SELECTIONS)
def test_what_is_missing_is_named(selection):
    seen = beliefs()
    broken = seen.features.clone()
    broken[3, 1] = torch.nan
    for features in (None, broken):
        with pytest.raises(ValueError, match=f"{selection} needs the features of all sample"):
            pick(Beliefs(seen.candidates, None, features), 3, selection)
    with pytest.raises(ValueError, match=f"{selection} needs labelled points in the sample"):
        pick(Beliefs(torch.arange(80), None, seen.features), 3, selection)


def test_many_runs_may_ask_at_a_time_and_numpy_is_left_as_it_was():
    """The library was written for numpy 1, which called infinity otherwise."""
    before, seen = hasattr(np, "Inf"), beliefs()
    alone = [pick(seen, 12, selection) for selection in SELECTIONS]
    with ThreadPoolExecutor(8) as threads:
        asked = [*SELECTIONS] * 50
        batches = list(threads.map(lambda selection: pick(seen, 12, selection), asked))
    assert batches == alone * 50 and hasattr(np, "Inf") == before
