"""Check the input of Algorithm 1, in its plain and in its fast form; define a tie.

Axes:  J dropout masks · S sample points · c outputs (1 in regression) · n candidates
"""

import math
import operator
from typing import Any, SupportsIndex

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

Whole = SupportsIndex | float  # what `whole_number` takes: of numpy and torch, too
TIE = 1e-10  # improvements that differ by less than this fraction of the best are equal


def centred(predictions: Float[Tensor, "J S c"]) -> Float[Tensor, "J S c"]:
    """The predictions less their mean over masks, in double precision where the device has it."""
    double = torch.float32 if predictions.device.type == "mps" else torch.float64
    F = predictions.to(double, copy=True)
    F -= F.mean(0)
    return F


def best_with_ties(scores: Float[Tensor, " n"], nothing: float = 0.0) -> tuple[int, float]:
    """The first of the scores that tie for the best, and the best; `nothing` is as good as 0."""
    best = scores.max().item()
    as_good = best - max(TIE * abs(best), nothing)
    return scores.clamp(max=as_good).argmax().item(), best  # argmax takes the first


def whole_number(value: Any, name: str, least: int | None = None) -> int:
    """A whole number as Python's own; ValueError for a fraction, a truth value, or too small."""
    try:
        if isinstance(value, bool | np.bool_) or getattr(value, "dtype", None) == torch.bool:
            raise TypeError
        is_whole = isinstance(value, float | np.floating) and float(value).is_integer()
        found = int(value) if is_whole else operator.index(value)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"{name} is {value!r}, wanted a whole number: an integer") from None
    if least is not None and found < least:
        raise ValueError(f"{name} is {found}, wanted {least} or more")
    return found


def positions(given: Any, n: int) -> Int[Tensor, " m"]:
    """Positions among n points, from a list, a set or an array of them, or from a mask of bools.

    ValueError for what may be either, and for what is no position.
    """
    if isinstance(given, Tensor | np.ndarray) or hasattr(given, "to_numpy"):
        given = given.to_numpy() if hasattr(given, "to_numpy") else given
        found = given.detach().cpu().numpy() if isinstance(given, Tensor) else given
    else:
        try:
            found = np.array([] if given is None else list(given))
        except (TypeError, ValueError):
            raise ValueError(f"labelled is {given!r}, wanted positions or a mask") from None
    if found.size == 0:
        return torch.zeros(0, dtype=torch.long)
    if found.size == max(found.shape, default=0):
        found = found.reshape(-1)
    if found.dtype == bool and found.shape == (n,):
        return torch.from_numpy(found).nonzero().squeeze(1)
    if found.dtype.kind not in "iu" or found.ndim != 1:
        raise ValueError(
            f"labelled holds {found.dtype} of shape {list(found.shape)}, wanted whole numbers, the "
            f"positions of labelled points, or a mask of {n} bools"
        )
    if len(found) == n > 2 and set(np.unique(found)) == {0, 1}:
        raise ValueError(
            f"labelled has {n} numbers, all 0 or 1: a mask is of bools, positions come once"
        )
    if not 0 <= found.min() <= found.max() < n:
        raise ValueError(f"labelled positions lie within 0 and {n - 1}, the pool has {n} points")
    return torch.from_numpy(found.astype(np.int64))


def sorted_candidates(
    candidates: Shaped[Tensor, " n"], S: int, batch_size: Whole
) -> Int[Tensor, " m"]:
    """The candidates in order of position; ValueError if they are no positions or too few."""
    batch_size = whole_number(batch_size, "the batch size")
    if candidates.dtype == torch.bool:
        if len(candidates) != S:
            raise ValueError(f"got a mask of {len(candidates)} candidates for {S} points")
        candidates = candidates.nonzero().squeeze(1)
    if candidates.is_floating_point() or candidates.is_complex():
        raise ValueError(f"got candidates of type {candidates.dtype}, wanted positions")
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
    if predictions.dim() != 3 or predictions.is_complex():
        kind = f"{predictions.dtype} predictions of shape {list(predictions.shape)}"
        raise ValueError(f"got {kind}, wanted real numbers [J S c]: masks, points, outputs")
    if len(predictions) < 2:
        raise ValueError(f"got predictions from {len(predictions)} mask, wanted 2 or more")
    wide = {} if predictions.is_mps else {"dtype": torch.float64}  # the sum must not overflow
    # Mask by mask: a sum of them all at once would take a copy of them all in that precision.
    if not torch.stack([of_mask.sum(**wide) for of_mask in predictions]).isfinite().all():
        raise ValueError("got predictions that are NaN or infinite, wanted numbers")


def rounding(V: Float[Tensor, "S c S c"]) -> Float[Tensor, " S"]:
    """Largest variance of each point that may be mere rounding, after conditioning brought it to 0.

    Every calculation with a covariance begins here: ValueError if V holds what is no number.
    """
    if not V.isfinite().all():
        raise ValueError("got a covariance with NaN or infinite entries, wanted numbers")
    return 64 * torch.finfo(V.dtype).eps * variances(V)


def variances(V: Float[Tensor, "S c S c"]) -> Float[Tensor, " S"]:
    """Each point's variance, summed over its outputs."""
    return torch.einsum("ikik->i", V)
