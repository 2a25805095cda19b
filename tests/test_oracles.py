"""Other people's code agrees: BAIT of bmdal_reg and qNIPV of BoTorch are the same criteria.

Eq. 6 with one output is integrated posterior variance (ALC, BAIT, qNIPV): a label is noisy and its
point stays uncertain. Algorithm 1 removes the point's own noise as well, which those see once the
noise is part of the covariance that they are given.
"""

import numpy as np
import pytest
import torch

from deimos.expected_improvement import select

# bmdal_reg was written for a numpy that still had this name.
np.Inf = np.inf

from bmdal_reg.bmdal.feature_data import TensorFeatureData  # noqa: E402
from bmdal_reg.bmdal.feature_maps import IdentityFeatureMap  # noqa: E402
from bmdal_reg.bmdal.features import Features  # noqa: E402
from bmdal_reg.bmdal.selection import BaitFeatureSpaceSelectionMethod  # noqa: E402
from botorch.acquisition.active_learning import qNegIntegratedPosteriorVariance  # noqa: E402
from botorch.models import SingleTaskGP  # noqa: E402
from gpytorch.kernels import Kernel  # noqa: E402


def standard(p: torch.Tensor) -> torch.Tensor:
    """Features [S J] with a mean variance of 1, whose inner products are the covariance."""
    F = ((p - p.mean(0)) / (len(p) - 1) ** 0.5)[..., 0].T
    return F / F.square().sum(1).mean().sqrt()


@pytest.fixture(params=[0, 1, 2])
def predictions(request) -> torch.Tensor:
    rng = np.random.default_rng(request.param)
    return torch.from_numpy(rng.standard_normal((50, 8)) @ rng.standard_normal((8, 120)))[..., None]


def bait(pool: torch.Tensor, others: torch.Tensor, b: int, sigma: float) -> list[int]:
    """The forward picks of BAIT; `others` are points that count but cannot be picked."""
    maps = [
        Features(IdentityFeatureMap(pool.shape[1]), TensorFeatureData(x * 1e3))
        for x in (pool, others)
    ]
    method = BaitFeatureSpaceSelectionMethod(
        *maps, sel_with_train=False, noise_sigma=1e3 * sigma, overselection_factor=1.0
    )
    return method.select(b).tolist()


@pytest.mark.parametrize("noise", [1.0, 0.1, 1e-3])
def test_eq_6_with_one_output_picks_what_bait_picks(predictions, noise):
    F = standard(predictions)
    candidates = torch.arange(100)  # the last twenty are labelled
    scale = predictions.var(0).mean().item()
    ours = select(predictions, candidates, 20, smoothing=noise * scale).tolist()
    assert ours == bait(F[:100], F[100:], 20, noise**0.5)


@pytest.mark.parametrize("noise", [1.0, 0.1, 1e-3])
def test_algorithm_1_picks_what_bait_picks_once_the_noise_is_a_feature(predictions, noise):
    own = noise**0.5 * torch.eye(120, dtype=torch.float64)
    F = torch.cat([standard(predictions), own], dim=1)
    scale = predictions.var(0).mean().item()
    ours = select(predictions, torch.arange(100), 20, noise=noise * scale).tolist()
    assert ours == bait(F[:100], F[100:], 20, 0.0)


def test_two_classes_are_a_problem_with_one_output(predictions):
    p = torch.sigmoid(predictions)
    both = torch.cat([p, 1 - p], dim=-1)
    F = standard((both[..., :1] - both[..., 1:]) / 2**0.5)
    scale = 2 * p.var(0).mean().item()  # the variance of (p₁ − p₂)/√2
    ours = select(both, torch.arange(100), 15, smoothing=0.01 * scale).tolist()
    assert ours == bait(F[:100], F[100:], 15, 0.1)


class Known(Kernel):
    """A kernel that looks covariances up: inputs are point numbers."""

    def __init__(self, K: torch.Tensor):
        super().__init__()
        self.K = K

    def forward(self, x1, x2, diag=False, **_):
        i, j = x1[..., 0].long(), x2[..., 0].long()
        return self.K[i, j] if diag else self.K[i[..., :, None], j[..., None, :]]


def qnipv(K: torch.Tensor, noise: float, b: int) -> list[int]:
    """Greedy picks of BoTorch's integrated posterior variance over all points."""
    S = len(K)
    points = torch.arange(S, dtype=torch.float64)[:, None]
    # A model needs a datum; one of a point that covaries with none says nothing.
    K = torch.block_diag(K, torch.ones(1, 1, dtype=torch.float64))
    nothing = torch.tensor([[float(S)]], dtype=torch.float64)
    target = torch.zeros(1, 1, dtype=torch.float64)
    model = SingleTaskGP(
        nothing, target, torch.full_like(target, noise), covar_module=Known(K),
        outcome_transform=None,
    ).eval()  # fmt: skip
    picked: list[int] = []
    for _ in range(b):
        pending = points[picked] if picked else None
        score = qNegIntegratedPosteriorVariance(model, mc_points=points, X_pending=pending)
        left = [n for n in range(S) if n not in picked]
        with torch.no_grad():
            values = score(points[left][:, None])
        picked.append(left[values.argmax().item()])
    return picked


def test_eq_6_with_one_output_picks_what_qnipv_picks(predictions):
    F = standard(predictions[:, :40])
    scale = predictions[:, :40].var(0).mean().item()
    ours = select(predictions[:, :40], torch.arange(40), 6, smoothing=0.1 * scale).tolist()
    assert ours == qnipv(F @ F.T, 0.1, 6)


def test_algorithm_1_picks_what_qnipv_picks_from_the_noisy_covariance(predictions):
    F = standard(predictions[:, :40])
    scale = predictions[:, :40].var(0).mean().item()
    ours = select(predictions[:, :40], torch.arange(40), 6, noise=0.1 * scale).tolist()
    assert ours == qnipv(F @ F.T + 0.1 * torch.eye(40, dtype=torch.float64), 1e-9, 6)
