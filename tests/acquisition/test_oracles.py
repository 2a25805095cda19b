"""Other people's implementations of what Algorithm 1 does, on the same numbers.

BAIT (Ash et al., 2021) in bmdal_reg is greedy trace reduction in feature space; qNIPV in BoTorch is
the posterior variance of a Gaussian process, integrated over points, given one more observation.
"""

import numpy as np
import pytest
import torch

from deimos.acquisition.fast_selection import select_with_gains
from deimos.acquisition.forward_backward import forward_backward
from deimos.expected_improvement import covariance

NUGGET = 0.1


def predicted(rng, S):
    return torch.from_numpy(rng.uniform(0.1, 1, (S, 1)) * rng.standard_normal((50, S, 1)))


def rows(predictions):
    """A row of features for each point, whose products are the sample covariance."""
    return ((predictions - predictions.mean(0)) / (len(predictions) - 1) ** 0.5)[..., 0].T


@pytest.fixture
def bait(monkeypatch):
    """BAIT-F: the batch it picks from the rows of a pool, and each pick's score."""
    monkeypatch.setattr(np, "Inf", np.inf, raising=False)  # it was written for numpy 1
    selection = pytest.importorskip("bmdal_reg.bmdal.selection", reason="bmdal_reg is not there")
    from bmdal_reg.bmdal.feature_data import TensorFeatureData
    from bmdal_reg.bmdal.feature_maps import IdentityFeatureMap

    unit = 1e3  # it adds 1e-8 to its denominators, which is nothing in a small enough unit

    def pick(pool, labelled, batch_size, noise, backward=False):
        pool, labelled = (
            selection.Features(IdentityFeatureMap(x.shape[1]), TensorFeatureData(unit * x))
            for x in (pool, labelled)
        )
        method = selection.BaitFeatureSpaceSelectionMethod(
            pool, labelled, sel_with_train=False, noise_sigma=unit * noise**0.5, verbosity=0,
            overselection_factor=2.0,
        )  # fmt: skip
        if backward:
            return method.select(batch_size).tolist(), []
        scores = []
        for _ in range(batch_size):
            n = method.get_next_idx()
            scores.append(method.get_scores()[n].item() / unit**2)
            method.add(n)
            method.selected_idxs.append(n)
        return method.selected_idxs, scores

    return pick


@pytest.mark.parametrize("n_labelled", [0, 100])
def test_algorithm_1_is_bait_on_features_that_carry_the_noise(rng, bait, n_labelled):
    predictions, candidates = predicted(rng, 500), torch.arange(500 - n_labelled)
    noisy = torch.cat([rows(predictions), NUGGET**0.5 * torch.eye(500).double()], 1)
    pool, labelled = noisy.split([500 - n_labelled, n_labelled])
    expected, scores = bait(pool, labelled, 25, noise=0.0)
    batch, gains = select_with_gains(predictions, candidates, 25, noise=NUGGET)
    assert batch.tolist() == expected
    assert gains.tolist() == pytest.approx(scores, rel=1e-10)


@pytest.mark.parametrize("n_labelled", [0, 100])
def test_equation_6_with_one_output_is_bait_with_observation_noise(rng, bait, n_labelled):
    predictions, candidates = predicted(rng, 500), torch.arange(500 - n_labelled)
    pool, labelled = rows(predictions).split([500 - n_labelled, n_labelled])
    expected, scores = bait(pool, labelled, 25, noise=NUGGET)
    batch, gains = select_with_gains(predictions, candidates, 25, smoothing=NUGGET)
    assert batch.tolist() == expected
    assert gains.tolist() == pytest.approx(scores, rel=1e-10)


def test_equation_6_in_two_classes_is_bait_on_the_contrast_between_them(rng, bait):
    logits = 2 * rng.standard_normal((500, 2)) + rng.standard_normal((50, 500, 2))
    p = torch.from_numpy(logits).softmax(-1)
    contrast = rows((p[..., :1] - p[..., 1:]) / 2**0.5)
    expected, scores = bait(contrast, contrast[:0], 15, noise=1e-3)
    batch, gains = select_with_gains(p, torch.arange(500), 15, smoothing=1e-3)
    assert batch.tolist() == expected
    assert gains.tolist() == pytest.approx(scores, rel=1e-10)


@pytest.mark.parametrize("n_labelled", [0, 100])
def test_forward_backward_selection_is_bait_in_full(rng, bait, n_labelled):
    predictions, candidates = predicted(rng, 500), torch.arange(500 - n_labelled)
    pool, labelled = rows(predictions).split([500 - n_labelled, n_labelled])
    expected, _ = bait(pool, labelled, 25, noise=NUGGET, backward=True)
    found = forward_backward(predictions, candidates, 25, smoothing=NUGGET)
    assert found.tolist() == expected
    assert expected != bait(pool, labelled, 25, noise=NUGGET)[0]  # else it would show nothing


@pytest.fixture
def integrated_variance():
    """qNIPV's batch for a prior covariance, and by how much each pick lowers the total variance."""
    pytest.importorskip("botorch", reason="botorch is not there")
    from botorch.acquisition.active_learning import qNegIntegratedPosteriorVariance
    from botorch.models import SingleTaskGP
    from gpytorch.kernels import Kernel
    from gpytorch.means import ZeroMean

    class Lookup(Kernel):
        """The covariance of points that are given by their positions."""

        def __init__(self, V):
            super().__init__()
            self.V = V

        def forward(self, x1, x2, diag=False, **params):
            i, j = x1[..., 0].long(), x2[..., 0].long()
            return self.V[i, j] if diag else self.V[i[..., :, None], j[..., None, :]]

    def pick(V, batch_size, noise):
        S = len(V)
        prior = torch.zeros(S + 1, S + 1).to(V)  # the last point is what was known: nothing
        prior[:S, :S], prior[S, S] = V, 1.0
        points = torch.arange(S).to(V)[:, None]
        model = SingleTaskGP(
            torch.full((1, 1), S).to(V),
            torch.zeros(1, 1).to(V),
            torch.full((1, 1), noise).to(V),
            covar_module=Lookup(prior),
            mean_module=ZeroMean(),
            outcome_transform=None,
        )
        batch, totals = [], [V.trace().item()]
        for _ in range(batch_size):
            pending = points[batch] if batch else None
            score = qNegIntegratedPosteriorVariance(model, mc_points=points, X_pending=pending)
            with torch.no_grad():
                left = -S * score(points[:, None])  # [S]
            left[batch] = torch.inf
            batch.append(left.argmin().item())
            totals.append(left.min().item())
        return batch, (-np.diff(totals)).tolist()

    return pick


def test_equation_6_with_one_output_is_integrated_posterior_variance(rng, integrated_variance):
    predictions = predicted(rng, 60)
    V = covariance(predictions)[:, 0, :, 0]
    expected, lowered = integrated_variance(V, 6, noise=NUGGET)
    batch, gains = select_with_gains(predictions, torch.arange(60), 6, smoothing=NUGGET)
    assert batch.tolist() == expected
    assert gains.tolist() == pytest.approx(lowered, rel=1e-8)


def test_algorithm_1_is_integrated_variance_of_observations_without_further_noise(
    rng, integrated_variance
):
    predictions = predicted(rng, 60)
    V = covariance(predictions, noise=NUGGET)[:, 0, :, 0]
    expected, lowered = integrated_variance(V, 6, noise=2e-6)  # GPyTorch takes little less
    batch, gains = select_with_gains(predictions, torch.arange(60), 6, noise=NUGGET)
    assert batch.tolist() == expected
    assert gains.tolist() == pytest.approx(lowered, rel=1e-5)
