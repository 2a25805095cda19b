"""Greed against the best batch: the printed example, brute force, and the simulation of App. A."""

from itertools import combinations

import numpy as np
import pytest
import torch

from deimos import optimality
from deimos.expected_improvement import (
    covariance,
    greedy_batch,
    optimal_batch,
    optimal_batches,
    variance_removed,
)


def predictions(J: int, S: int, c: int = 1, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((J, S, c)))


def test_the_papers_example_comes_out_as_printed():
    example = {name: values[0] for name, values in optimality.example().items()}
    assert round(example["example_greedy"], 1) == 16.9
    assert round(example["example_optimal"], 1) == 19.6
    assert round(example["example_ratio"], 2) == 0.86
    batch, _ = optimal_batch(optimality.EXAMPLE, torch.arange(3), 2)
    assert batch.tolist() == [0, 2]  # the paper's points 1 and 3
    assert greedy_batch(optimality.EXAMPLE, torch.arange(3), 2)[0] == 1  # its point 2


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


def test_simulated_covariances_are_those_of_normal_samples_and_a_tenth_of_their_variance():
    V = optimality.simulate(5, 4, 3, np.random.default_rng(1))
    drawn = np.random.default_rng(1).standard_normal((3, 4, 5, 1))
    for v, samples in zip(V, drawn, strict=True):
        wanted = np.cov(samples[:, :, 0].T)
        wanted += 0.1 * wanted.diagonal().mean() * np.eye(5)
        np.testing.assert_allclose(v[:, 0, :, 0].numpy(), wanted, rtol=1e-12)


@pytest.mark.parametrize("b", [2, 4])
def test_a_ratio_is_greeds_reduction_over_the_best_of_all(b, monkeypatch):
    monkeypatch.setattr(optimality, "AT_ONCE", 2)
    V = optimality.simulate(8, 3, 5, np.random.default_rng(2))
    for v, ratio in zip(V, optimality.greedy_ratios(V, b), strict=True):
        greedy = variance_removed(v, greedy_batch(v, torch.arange(8), b))
        best = max(variance_removed(v, list(batch)) for batch in combinations(range(8), b))
        assert ratio == pytest.approx(min(1.0, greedy / best), rel=1e-10)
        assert 0.5 < ratio <= 1


def test_with_two_samples_a_point_greed_is_always_best():
    V = optimality.simulate(12, 2, 10, np.random.default_rng(3))
    assert optimality.greedy_ratios(V, 3) == pytest.approx([1.0] * 10, abs=1e-9)
