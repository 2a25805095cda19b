"""The best of all batches, against brute force."""

from itertools import combinations

import numpy as np
import pytest
import torch

from deimos.acquisition.exhaustive import optimal_batch, optimal_batches
from deimos.expected_improvement import covariance, variance_removed


def predictions(J: int, S: int, c: int = 1, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((J, S, c)))


@pytest.mark.parametrize("c", [1, 2, 3])
@pytest.mark.parametrize("b", [1, 2, 3, 4])
def test_the_optimal_batch_is_what_brute_force_finds(b, c):
    V = covariance(predictions(6, 8, c), noise=0.1)
    candidates = torch.tensor([0, 2, 3, 5, 6, 7])  # points 1 and 4 are labelled
    removed = {
        batch: variance_removed(V, list(batch)) for batch in combinations(candidates.tolist(), b)
    }
    batch, most = optimal_batch(V, candidates, b)
    assert tuple(batch.tolist()) == max(removed, key=removed.get)
    assert most == pytest.approx(max(removed.values()), rel=1e-12)


def test_instances_searched_side_by_side_do_not_touch_each_other():
    V = torch.stack([covariance(predictions(4, 7, seed=seed), noise=0.2) for seed in range(5)])
    batches, removed = optimal_batches(V, torch.arange(7), 3)
    for instance, batch, most in zip(V, batches, removed, strict=True):
        alone, its_most = optimal_batch(instance, torch.arange(7), 3)
        assert torch.equal(batch, alone) and most.item() == pytest.approx(its_most, rel=1e-12)


def test_a_batch_of_all_candidates_leaves_no_choice():
    V = covariance(predictions(9, 5), noise=0.1)
    batch, removed = optimal_batch(V, torch.arange(5), 5)
    assert batch.tolist() == [0, 1, 2, 3, 4]
    assert removed == pytest.approx(torch.einsum("ikik->", V).item(), rel=1e-12)
