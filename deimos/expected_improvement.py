"""Expected improvement: the variance that one more label would remove (§3.3–4).

Everything here is linear algebra on V, the covariance of the model's predictions
between every pair of sample points: no network, no data set, no label.

Axes, always in this order:  J dropout masks · S sample points · c outputs (1 in regression)
and  n candidates · b batch size
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from deimos.acquisition.checks import (
    best_with_ties,
    centred,
    check_nuggets,
    check_predictions,
    check_weights,
    rounding,
    sorted_candidates,
    variances,
)
from deimos.acquisition.exhaustive import optimal_batch as optimal_batch
from deimos.acquisition.fast_selection import select as select  # part of this module's face


def covariance(predictions: Float[Tensor, "J S c"], noise: float = 0.0) -> Float[Tensor, "S c S c"]:
    """V = τ⁻¹I + the sample covariance of the predictions (eq. 3), with τ⁻¹ = `noise`.

    In double precision whatever the predictions are in: conditioning lives on small differences.
    """
    check_nuggets(noise, 0.0)
    check_predictions(predictions)
    J, S, c = predictions.shape
    F = centred(predictions).flatten(1)
    V = F.T @ F / (J - 1)
    V.diagonal().add_(noise)
    return V.view(S, c, S, c)


def expected_improvement(
    V: Float[Tensor, "S c S c"],
    candidates: Int[Tensor, " n"],
    smoothing: float = 0.0,
    floor: Float[Tensor, " S"] | None = None,
    weights: Float[Tensor, " S"] | None = None,
) -> Float[Tensor, " n"]:
    """EI(i) = tr(V_i (V_ii + τ_s⁻¹I)⁻¹ V_iᵀ), with τ_s⁻¹ = `smoothing` (eqs. 5, 6).

    That is Σ_j tr(V_ji (V_ii + τ_s⁻¹I)⁻¹ V_ij); with `weights`, point j counts w_j times.
    Where V_ii has no more variance than `floor` (`rounding(V)` unless given), 0/0 counts as 0.
    """
    V_i = V[candidates]  # [n c S c], since V is symmetric
    if weights is not None:
        V_i = V_i * check_weights(weights, len(V)).to(V).sqrt()[:, None]
    V_i = V_i.flatten(2)  # [n c Sc]
    V_ii = V[candidates, :, candidates]  # [n c c]
    floor = (rounding(V) if floor is None else floor)[candidates]
    # tr(A B⁻¹ Aᵀ) = ‖A B^-½‖²: only c × c systems are solved, never an S × S one.
    R = root_of_inverse(V_ii, smoothing, floor)
    return torch.linalg.vector_norm(R.mT @ V_i, dim=(1, 2)) ** 2


def condition(
    V: Float[Tensor, "S c S c"],
    n: int,
    smoothing: float = 0.0,
    floor: Float[Tensor, " S"] | None = None,
) -> Float[Tensor, "S c S c"]:
    """V − V_n (V_nn + τ_s⁻¹I)⁻¹ V_nᵀ: what the label of point n leaves of V (eqs. 4, 6)."""
    S, c = V.shape[:2]
    V_n = V[:, :, n].flatten(0, 1)  # [Sc c]
    floor = rounding(V) if floor is None else floor
    known = V_n @ root_of_inverse(V[n, :, n], smoothing, floor[n])
    return V - (known @ known.T).view(S, c, S, c)


def greedy_batch(
    V: Float[Tensor, "S c S c"],
    candidates: Int[Tensor, " n"],
    batch_size: int,
    smoothing: float = 0.0,
    weights: Float[Tensor, " S"] | None = None,
) -> Int[Tensor, " b"]:
    """Algorithm 1 as printed: pick the best candidate, condition on it, pick the next.

    Ties go to the lowest position; `weights` say how much each point matters, all the same unless
    given. Slow and plain: `select` is the same, fast.
    """
    candidates = sorted_candidates(candidates, len(V), batch_size)
    floor, batch = rounding(V), []
    for _ in range(batch_size):
        left = candidates[~torch.isin(candidates, candidates.new_tensor(batch))]
        best, _ = best_with_ties(expected_improvement(V, left, smoothing, floor, weights))
        batch.append(left[best].item())
        V = condition(V, batch[-1], smoothing, floor)
    return candidates.new_tensor(batch)


def variance_removed(
    V: Float[Tensor, "S c S c"],
    batch: Sequence[int] | Int[Tensor, " b"],
    smoothing: float = 0.0,
    weights: Float[Tensor, " S"] | None = None,
) -> float:
    """Decrease of the (weighted) trace of V by conditioning on a batch, in any order."""
    floor, left = rounding(V), V
    for n in torch.as_tensor(batch).tolist():
        left = condition(left, n, smoothing, floor)
    lowered = variances(V) - variances(left)
    return (lowered if weights is None else weights.to(V) * lowered).sum().item()


def root_of_inverse(
    V_ii: Float[Tensor, "*n c c"], smoothing: float, floor: Float[Tensor, "*n"]
) -> Float[Tensor, "*n c c"]:
    """R with RRᵀ = (V_ii + τ_s⁻¹I)⁻¹, the pseudo-inverse where V_ii is not above the floor."""
    check_nuggets(0.0, smoothing)
    variance, axes = torch.linalg.eigh(V_ii)
    scale = torch.where(variance > floor[..., None], (variance + smoothing).rsqrt(), 0.0)
    return axes * scale[..., None, :]
