"""What Algorithm 1 is given, in its plain form and in its fast one, and what it calls a tie.

Axes:  J dropout masks · S sample points · c outputs (1 in regression) · n candidates
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

TIE = 1e-10  # improvements that differ by less than this fraction of the best are equal


def centred(predictions: Float[Tensor, "J S c"]) -> Float[Tensor, "J S c"]:
    """The predictions less their mean over masks, in double precision where the device has it."""
    double = torch.float32 if predictions.device.type == "mps" else torch.float64
    F = predictions.to(double, copy=True)
    F -= F.mean(0)
    return F


def first_best(scores: Float[Tensor, " n"], nothing: float = 0.0) -> tuple[int, float]:
    """The first of the scores that tie for the best, and the best; `nothing` is as good as 0."""
    best = scores.max().item()
    as_good = best - max(TIE * abs(best), nothing)
    return scores.clamp(max=as_good).argmax().item(), best  # argmax takes the first


def in_order(candidates: Int[Tensor, " n"], S: int, batch_size: int) -> Int[Tensor, " m"]:
    """The candidates in order of position; ValueError if they are no positions or too few."""
    candidates = candidates.unique()
    n = len(candidates)
    if n and not 0 <= candidates[0] <= candidates[-1] < S:
        low, high = candidates[0].item(), candidates[-1].item()
        raise ValueError(f"got candidates from {low} to {high}, wanted positions from 0 to {S - 1}")
    if not 1 <= batch_size <= n:
        raise ValueError(f"got batch size {batch_size}, wanted 1 to {n}, the number of candidates")
    return candidates


def check_nuggets(noise: float, smoothing: float) -> None:
    """ValueError unless τ⁻¹ and τ_s⁻¹ are numbers from 0 and one of them is 0."""
    if not (0 <= noise < math.inf and 0 <= smoothing < math.inf) or (noise and smoothing):
        raise ValueError(f"got {noise=} and {smoothing=}, wanted one ≥ 0 and the other 0")


def check_weights(weights: Float[Tensor, " n"], S: int) -> Float[Tensor, " S"]:
    """The weights; ValueError unless every point has one, from 0, and some point matters."""
    if len(weights) != S:
        raise ValueError(f"got {len(weights)} weights for {S} points, wanted one a point")
    if not (weights.isfinite().all() and (weights >= 0).all() and weights.any()):
        raise ValueError("got weights that are negative, not finite or all 0, wanted numbers ≥ 0")
    return weights


def check_predictions(predictions: Float[Tensor, "J S c"]) -> None:
    """ValueError unless every point has two predictions or more, all of them numbers."""
    if len(predictions) < 2:
        raise ValueError(f"got predictions from {len(predictions)} mask, wanted 2 or more")
    if not predictions.sum().isfinite():
        raise ValueError("got predictions that are NaN or infinite, wanted numbers")
