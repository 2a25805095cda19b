"""Expected improvement: the variance that one more label would remove (§3.3–4).

Everything here is linear algebra on V, the covariance of the model's predictions
between every pair of sample points: no network, no data set, no label.

Axes, always in this order:  J dropout masks · S sample points · c outputs (1 in regression)
and  n candidates · b batch size
"""

from collections import defaultdict
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from deimos.fast_selection import select as select  # part of this module's face
from deimos.fast_selection import select_with_gains
from deimos.inputs import (
    centred,
    check_nuggets,
    check_predictions,
    check_weights,
    first_best,
    in_order,
)


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
    candidates = in_order(candidates, len(V), batch_size)
    floor, batch = rounding(V), []
    for _ in range(batch_size):
        left = candidates[~torch.isin(candidates, candidates.new_tensor(batch))]
        best, _ = first_best(expected_improvement(V, left, smoothing, floor, weights))
        batch.append(left[best].item())
        V = condition(V, batch[-1], smoothing, floor)
    return candidates.new_tensor(batch)


def variance_removed(
    V: Float[Tensor, "S c S c"],
    batch: Sequence[int] | Int[Tensor, " b"],
    smoothing: float = 0.0,
    weights: Float[Tensor, " S"] | None = None,
) -> float:
    """By how much conditioning on a batch, in any order, lowers the (weighted) trace of V."""
    floor, left = rounding(V), V
    for n in torch.as_tensor(batch).tolist():
        left = condition(left, n, smoothing, floor)
    lowered = variances(V) - variances(left)
    return (lowered if weights is None else weights.to(V) * lowered).sum().item()


def batch_improvement(
    predictions: Float[Tensor, "J S c"],
    batch: Int[Tensor, " b"],
    noise: float = 0.0,
    smoothing: float = 0.0,
    weights: Float[Tensor, " S"] | None = None,
) -> float:
    """`variance_removed` from `covariance(predictions, noise)`, without that matrix."""
    gains = select_with_gains(predictions, batch, len(batch), noise, smoothing, weights)[1]
    return gains.sum().item()


def optimal_batch(
    V: Float[Tensor, "S c S c"], candidates: Int[Tensor, " n"], batch_size: int
) -> tuple[Int[Tensor, " b"], float]:
    """Of all batches the one that lowers the trace of V most, and by how much (App. A)."""
    batches, removed = optimal_batches(V[None], candidates, batch_size)
    return batches[0], removed[0].item()


def optimal_batches(
    V: Float[Tensor, "I S c S c"], candidates: Int[Tensor, " n"], batch_size: int
) -> tuple[Int[Tensor, "I b"], Float[Tensor, " I"]]:
    """`optimal_batch` for I covariances side by side.

    Batches that begin alike share the conditioning on their beginning, and beginnings that end with
    the same point are extended together. P is the covariance, given the beginning, of the m
    candidates after it, and Q the same rows and columns of its square. Time and memory grow with
    the number of batches.
    """
    candidates = in_order(candidates, V.shape[1], batch_size)
    n, c = len(candidates), V.shape[2]
    rows = V[:, candidates].flatten(3).flatten(1, 2)  # [I nc Sc]
    P = rows.unflatten(2, (-1, c))[:, :, candidates].flatten(2)  # [I nc nc]
    P, Q = (X.movedim(0, -1)[:, :, None].contiguous() for X in (P, rows @ rows.mT))  # [nc nc 1 I]
    floor = torch.stack([rounding(instance) for instance in V]).mean().item()
    if batch_size == 1:
        P, Q = diagonal_blocks(P, c), diagonal_blocks(Q, c)

    # For each last point its beginnings [K k], what they remove [K I], P and Q [… K I].
    ends = {-1: (candidates.new_empty(1, 0), V.new_zeros(1, len(V)), P, Q)}
    for size in range(1, batch_size):
        longer = defaultdict(list)
        for last, (beginnings, removed, P, Q) in ends.items():
            for point in range(last + 1, n - batch_size + size):
                row = c * (point - last - 1)
                gain, *PQ = given(P[row:, row:], Q[row:, row:], c, floor, size == batch_size - 1)
                beginning = torch.nn.functional.pad(beginnings, (0, 1), value=point)
                longer[point].append((beginning, removed + gain, *PQ))
        ends = {
            point: [torch.cat(x, max(0, x[0].dim() - 2)) for x in zip(*parts, strict=True)]
            for point, parts in longer.items()
        }

    most, batches = V.new_full((len(V),), -torch.inf), candidates.new_zeros(len(V), batch_size)
    for last, (beginnings, removed, P, Q) in ends.items():
        gain, _, _ = given(P.flatten(3), Q.flatten(3), c, floor)  # [m KI]
        best, where = (removed.flatten() + gain).unflatten(1, removed.shape).flatten(0, 1).max(0)
        ending = last + 1 + where // len(beginnings)
        batch = torch.cat([beginnings[where % len(beginnings)], ending[:, None]], 1)
        batches = torch.where((best > most)[:, None], candidates[batch], batches)
        most = torch.maximum(best, most)
    return batches, most


def given(
    P: Float[Tensor, "mc mc K I"],
    Q: Float[Tensor, "mc mc K I"],
    c: int,
    floor: float,
    ending: bool = False,
) -> tuple[Float[Tensor, "K I"], Tensor, Tensor]:
    """What the first point removes, and P and Q of the others given its c outputs, one by one.

    An output with no variance above the floor removes nothing. Of P and Q only the diagonal blocks
    are kept where the batch is ending: the scores need no more.
    """
    removed = 0.0
    for output in range(c):
        precision = torch.where(P[0, 0] > floor, 1 / P[0, 0], 0.0)
        gain = Q[0, 0] * precision
        removed = removed + gain
        x = P[1:, 0]
        y = (Q[1:, 0] + Q[0, 1:] - x * gain) * precision
        P, Q = P[1:, 1:], Q[1:, 1:]
        if ending and output == c - 1:
            P, Q = diagonal_blocks(P, c), diagonal_blocks(Q, c)
            x, y = (v.unflatten(0, (-1, c)).transpose(0, 1) for v in (x, y))  # [c m K I]
        P = P.addcmul(x[:, None], x * precision, value=-1)
        Q = Q.addcmul(x[:, None], y, value=-1)  # its symmetric part is right, and all that counts
    return removed, P, Q


def diagonal_blocks(P: Float[Tensor, "mc mc K I"], c: int) -> Float[Tensor, "c c m K I"]:
    """Each point's own c × c block."""
    apart = P.unflatten(0, (-1, c)).unflatten(2, (-1, c))  # [m c m c K I]
    return apart.diagonal(dim1=0, dim2=2).movedim(-1, 2)


def rounding(V: Float[Tensor, "S c S c"]) -> Float[Tensor, " S"]:
    """What rounding may leave of each point's variance when conditioning has brought it to 0.

    Every calculation with a covariance begins here: ValueError if V holds what is no number.
    """
    if not V.isfinite().all():
        raise ValueError("got a covariance with NaN or infinite entries, wanted numbers")
    return 64 * torch.finfo(V.dtype).eps * variances(V)


def variances(V: Float[Tensor, "S c S c"]) -> Float[Tensor, " S"]:
    """Each point's variance, summed over its outputs."""
    return torch.einsum("ikik->i", V)


def root_of_inverse(
    V_ii: Float[Tensor, "*n c c"], smoothing: float, floor: Float[Tensor, "*n"]
) -> Float[Tensor, "*n c c"]:
    """R with RRᵀ = (V_ii + τ_s⁻¹I)⁻¹, the pseudo-inverse where V_ii is not above the floor."""
    check_nuggets(0.0, smoothing)
    variance, axes = torch.linalg.eigh(V_ii)
    scale = torch.where(variance > floor[..., None], (variance + smoothing).rsqrt(), 0.0)
    return axes * scale[..., None, :]
