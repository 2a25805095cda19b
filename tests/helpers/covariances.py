"""Predictions and covariances to test on, and the regret of a batch."""

import torch

from deimos.expected_improvement import (
    condition,
    covariance,
    expected_improvement,
    variance_removed,
)


def predicted(rng, J, S, c, softmax=False):
    """Predictions whose masks agree more at some points than at others."""
    spread = rng.uniform(0.1, 1, (S, 1)) * rng.standard_normal((J, S, c))
    if not softmax:
        return torch.from_numpy(spread)
    return torch.from_numpy(spread + 2 * rng.standard_normal((S, c))).softmax(-1)


def nugget(predictions, kind, fraction):
    """τ⁻¹ or τ_s⁻¹ as a fraction of the mean variance, by the name it is given under."""
    return {kind: fraction * predictions.var(0).mean().item()}


def dense(predictions, noise=0.0, smoothing=0.0):
    """V and the smoothing, as the dense functions take them."""
    return covariance(predictions, noise), smoothing


def worst_regret(V, smoothing, batch, candidates):
    """Largest shortfall of a pick from the best, as a fraction of what the batch removes."""
    removed, left, worst = variance_removed(V, batch, smoothing), candidates, 0.0
    for n in batch:
        gains = expected_improvement(V, left, smoothing)
        worst = max(worst, (gains.max() - gains[left == n]).item() / removed)
        V, left = condition(V, n.item(), smoothing), left[left != n]
    return worst
