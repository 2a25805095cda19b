"""Greed against the best batch: the printed example, brute force, and the simulation of App. A."""

from itertools import combinations

import numpy as np
import pytest
import torch

from deimos.acquisition.exhaustive import optimal_batch
from deimos.expected_improvement import greedy_batch, variance_removed
from deimos.studies import greedy_vs_optimal


def test_the_papers_example_comes_out_as_printed():
    example = {name: values[0] for name, values in greedy_vs_optimal.example().items()}
    assert round(example["example_greedy"], 1) == 16.9
    assert round(example["example_optimal"], 1) == 19.6
    assert round(example["example_ratio"], 2) == 0.86
    batch, _ = optimal_batch(greedy_vs_optimal.EXAMPLE, torch.arange(3), 2)
    assert batch.tolist() == [0, 2]  # the paper's points 1 and 3
    assert greedy_batch(greedy_vs_optimal.EXAMPLE, torch.arange(3), 2)[0] == 1  # its point 2


def test_simulated_covariances_are_those_of_normal_samples_and_a_tenth_of_their_variance():
    V = greedy_vs_optimal.simulate(5, 4, 3, np.random.default_rng(1))
    drawn = np.random.default_rng(1).standard_normal((3, 4, 5, 1))
    for v, samples in zip(V, drawn, strict=True):
        wanted = np.cov(samples[:, :, 0].T)
        wanted += 0.1 * wanted.diagonal().mean() * np.eye(5)
        np.testing.assert_allclose(v[:, 0, :, 0].numpy(), wanted, rtol=1e-12)


@pytest.mark.parametrize("b", [2, 4])
def test_a_ratio_is_greeds_reduction_over_the_best_of_all(b, monkeypatch):
    monkeypatch.setattr(greedy_vs_optimal, "AT_ONCE", 2)
    V = greedy_vs_optimal.simulate(8, 3, 5, np.random.default_rng(2))
    for v, ratio in zip(V, greedy_vs_optimal.greedy_ratios(V, b), strict=True):
        greedy = variance_removed(v, greedy_batch(v, torch.arange(8), b))
        best = max(variance_removed(v, list(batch)) for batch in combinations(range(8), b))
        assert ratio == pytest.approx(min(1.0, greedy / best), rel=1e-10)
        assert 0.5 < ratio <= 1


def test_with_two_samples_a_point_greed_is_always_best():
    V = greedy_vs_optimal.simulate(12, 2, 10, np.random.default_rng(3))
    assert greedy_vs_optimal.greedy_ratios(V, 3) == pytest.approx([1.0] * 10, abs=1e-9)
