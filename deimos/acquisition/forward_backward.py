"""Forward–backward selection as in BAIT (Ash et al., 2021), with DEIMOS' own criterion.

Algorithm 1 picks twice the batch. Then, one after another, the point goes without which the batch
removes almost as much variance. With K = (V_BB + τ_s⁻¹I)⁻¹ of a batch B that removes tr(K (VV)_BB),

    point k takes away  tr(K_kk⁻¹ Q_kk),  where  Q = K (VV)_BB K,

and without it K and Q are Schur complements of what they were: nothing S × S is ever built.

Axes:  J dropout masks · S sample points · c outputs · n candidates · b batch size
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from deimos.acquisition.checks import Whole, best_with_ties, sorted_candidates, whole_number
from deimos.acquisition.cores import one_thread
from deimos.acquisition.fast_selection import select
from deimos.acquisition.mask_space import second_moment, standard_features


@torch.no_grad()
@one_thread()
def forward_backward(
    predictions: Float[Tensor, "J S c"],
    candidates: Int[Tensor, " n"],
    batch_size: Whole,
    noise: float = 0.0,
    smoothing: float = 0.0,
) -> Int[Tensor, " b"]:
    """Pick 2b greedily, then drop the least missed half; of equals the earlier stay.

    `noise` and `smoothing` are those of `select`; ValueError unless one of them is above 0.
    """
    if not noise + smoothing > 0:
        raise ValueError("forward–backward selection needs noise or smoothing above 0, got neither")
    candidates = sorted_candidates(candidates, predictions.shape[1], batch_size)
    batch_size = whole_number(batch_size, "the batch size")
    most = min(2 * batch_size, len(candidates))
    batch = select(predictions, candidates, most, noise, smoothing)
    F, scale = standard_features(predictions, noise + smoothing)
    noise, nugget = noise / scale, (noise + smoothing) / scale
    F_B = F[:, :, batch].mT.flatten(1)  # [J md], the d outputs of a point side by side
    return batch[without_the_least(F_B, second_moment(F), noise, nugget, len(F[0]), batch_size)]


def without_the_least(
    F_B: Float[Tensor, "J md"],
    G: Float[Tensor, "J J"],
    noise: float,
    nugget: float,
    d: int,
    batch_size: int,
) -> list[int]:
    """Drop the least missed of m points, of d outputs each, until `batch_size` are left."""
    variance, axes = torch.linalg.eigh(F_B.T @ F_B)
    variance = variance.clamp(min=0)
    K = axes / (variance + nugget) @ axes.T
    VV = F_B.T @ G @ F_B + axes * noise * (2 * variance + noise) @ axes.T
    Q = K @ VV @ K
    left = list(range(len(Q) // d))
    while len(left) > batch_size:
        own = [X.unflatten(1, (-1, d)).unflatten(0, (-1, d)) for X in (K, Q)]  # [m d m d]
        K_kk, Q_kk = (X.diagonal(dim1=0, dim2=2).movedim(-1, 0) for X in own)
        loss = torch.linalg.solve(K_kk, Q_kk).diagonal(dim1=-2, dim2=-1).sum(-1)
        k = len(left) - 1 - best_with_ties(-loss.flip(0))[0]  # of equals the last
        del left[k]
        rest = torch.arange(len(Q), device=Q.device) // d != k
        Z = torch.linalg.solve(K_kk[k], K[~rest][:, rest])
        K, Q = complement(K, rest, Z), complement(Q, rest, Z)
    return left


def complement(
    X: Float[Tensor, "m m"], rest: Bool[Tensor, " m"], Z: Float[Tensor, "d r"]
) -> Float[Tensor, "r r"]:
    """TXTᵀ with T = [I −Zᵀ], the I at the rest and −Zᵀ at the others."""
    XZ = X[rest][:, ~rest] @ Z
    return X[rest][:, rest] - XZ - XZ.T + Z.T @ X[~rest][:, ~rest] @ Z
