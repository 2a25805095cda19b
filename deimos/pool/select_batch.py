"""The next batch to label from a pool of your own, with a model of your own.

Nothing of the paper's experiments is needed: any `nn.Module` with dropout will do, an ensemble, or
a function that gives samples of predictions. The points whose variance counts are the pool's,
unless weights or a target population say otherwise (the paper's D_samp, which may be any).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from deimos.acquisition.checks import (
    Whole,
    check_nuggets,
    check_weights,
    positions,
    whole_number,
)
from deimos.acquisition.fast_selection import select_with_gains
from deimos.models.mc_dropout import mean_variance
from deimos.pool.answers import Outputs, check_outputs, check_problem
from deimos.pool.batch_points import PoolPoints
from deimos.pool.batches import Pool, as_pool, length
from deimos.pool.model_calls import randomness_as_before
from deimos.pool.posteriors import Posterior, of_ensemble, of_function, predictions_of
from deimos.pool.reading import Reading
from deimos.pool.shared_masks import DropoutPosterior

# Of σ̄², in regression τ⁻¹ and in classification τ_s⁻¹: amid App. E's ranges
SHARES = (0.15, 0.005)
Models = nn.Module | Sequence[nn.Module] | None


@dataclass(frozen=True)
class Selection:
    """Positions in the pool, best first, and what each adds to those before it."""

    positions: tuple[int, ...]
    expected_improvement: tuple[float, ...]  # variance removed, summed over the points that matter

    def share(self) -> tuple[float, ...]:
        """Each pick's expected improvement in units of the first one's: when to stop asking."""
        first = self.expected_improvement[0] or 1.0
        return tuple(gain / first for gain in self.expected_improvement)


@dataclass(frozen=True)
class Sample:
    """Predictions for the points that matter and for those that may be picked."""

    predictions: Float[Tensor, "J S c"]
    rows: Int[Tensor, " n"]  # the first n sample points' positions in the pool; the rest: target
    candidates: Int[Tensor, " m"]  # the sample points that may be picked
    noise: float
    weights: Float[Tensor, " S"] | None

    def pick(self, batch_size: Whole) -> Selection:
        """The greedy batch (Algorithm 1)."""
        n, batch_size = len(self.candidates), whole_number(batch_size, "the batch size")
        if not 1 <= batch_size <= n:
            raise ValueError(f"a batch of {batch_size} cannot be picked from {n} points")
        picked, gains = select_with_gains(
            self.predictions, self.candidates, batch_size, self.noise, weights=self.weights
        )
        return Selection(tuple(self.rows[picked].tolist()), tuple(gains.tolist()))


def select_batch(
    model: Models,
    pool: Pool,
    batch_size: Whole,
    *,
    predict: Callable[[PoolPoints], Any] | None = None,
    labelled: Any = (),
    weights: Sequence[float] | np.ndarray | Tensor | None = None,
    target: Pool | None = None,
    sample: Whole | None = None,
    trunk: nn.Module | None = None,
    n_masks: Whole = 50,
    noise: float | None = None,
    outputs: Outputs = None,
    part: str | int | None = None,
    at_once: Whole | None = None,
    seed: Whole = 0,
) -> Selection:
    """The `batch_size` points of the pool whose labels would shrink the model's covariance most.

    `model` is an `nn.Module` with dropout, or a sequence of models, an ensemble. `predict` in its
    place is a function from a batch to predictions [J n c] of the same J samples for every batch.
    `pool` is an array, a row a point, a Dataset, or an iterable of batches. Of a tuple the first
    part is the input, of a dict what `forward` has arguments for; `part` says it otherwise. Points
    at the positions `labelled`, or where a mask `labelled` is true, count and are not picked.

    Every point matters as much, unless `weights` has a number from 0 for each, or `target` is
    another pool, which matters instead; with both, the target's points weigh 1. `sample` draws so
    many points of the pool, at random. `trunk` makes of inputs what `model` takes, without dropout
    and once a point; that of an `nn.Sequential` is found. `outputs`, a function, makes predictions
    [n c] of the model's answer, or says that its numbers are "values", "logits" or "probabilities":
    else one is a value, and several are logits unless they are probabilities. `noise` is τ⁻¹, by
    default a share of the mean variance (App. E). With fewer masks than `enough_masks` says, the
    last picks are little more than random. Model, pool and random numbers are left as they were.

    ValueError if nothing drops, if something is random beside it, if anything may be understood in
    two ways, or if the pool has too few points.
    """
    whole_number(batch_size, "the batch size")
    return prepare(
        model, pool, predict=predict, labelled=labelled, weights=weights, target=target,
        sample=sample, trunk=trunk, n_masks=n_masks, noise=noise, outputs=outputs, part=part,
        at_once=at_once, seed=seed,
    ).pick(batch_size)  # fmt: skip


def prepare(
    model: Models,
    pool: Pool,
    *,
    predict: Callable[[PoolPoints], Any] | None = None,
    labelled: Any = (),
    weights: Sequence[float] | np.ndarray | Tensor | None = None,
    target: Pool | None = None,
    sample: Whole | None = None,
    trunk: nn.Module | None = None,
    n_masks: Whole = 50,
    noise: float | None = None,
    outputs: Outputs = None,
    part: str | int | None = None,
    at_once: Whole | None = None,
    seed: Whole = 0,
) -> Sample:
    """All of `select_batch` but the picking."""
    seed, n_masks = checked_seed(seed), whole_number(n_masks, "n_masks", least=2)
    at_once = None if at_once is None else whole_number(at_once, "at_once", least=1)
    sample = None if sample is None else whole_number(sample, "sample")
    noise, pool = checked_noise(noise), as_pool(pool)
    with randomness_as_before():
        posterior, reader = posterior_of(model, predict, trunk, n_masks, outputs, seed)
        total = length(pool)
        drawn = None if sample is None else draw_sample(sample, total, seed)
        parts = [Reading(pool, at_once, drawn, reader, part)]
        if target is not None:
            parts.append(Reading(target, at_once, None, reader, part))
        lengths = [sample or total, *(length(read.pool) for read in parts[1:])]
        predictions = predict_all(parts, posterior, outputs, lengths)
    n = parts[0].size
    whole = n if drawn is None else total
    rows = torch.arange(n) if drawn is None else torch.from_numpy(drawn)
    known = positions(labelled, whole)
    own = None if weights is None else check_weights(as_weights(weights), whole)[rows]
    matter = None
    if own is not None or target is not None:
        matter = torch.ones(predictions.shape[1], dtype=torch.float64)
        matter[:n] = 0.0 if own is None else own
    noise = usual_noise(predictions) if noise is None else noise
    candidates = (~torch.isin(rows, known)).nonzero().squeeze(1)
    return Sample(predictions, rows, candidates, float(noise), matter)


def predict_all(
    parts: Sequence[Reading], posterior: Posterior, outputs: Outputs, lengths: list[int | None]
) -> Float[Tensor, "J S c"]:
    """Predictions of all points of the pool, and of the target after it; each is read once."""
    pool = parts[0]

    def name_of(i: int) -> str:
        if i >= pool.size:
            return f"row {i - pool.size} of the target"
        return f"row {i if pool.rows is None else pool.rows[i]} of the pool"

    inputs = (points for read in parts for points in read)
    total = None if None in lengths else sum(lengths)
    predictions = predictions_of(posterior, inputs, outputs, total, name_of)
    for read in parts:
        read.check_again()
    return predictions


def checked_seed(seed: Whole) -> int:
    """The seed; ValueError for one too large for the seeds that it is multiplied into."""
    seed = whole_number(seed, "the seed")
    if abs(seed) >= 2**48:
        raise ValueError(f"the seed is {seed}, wanted a whole number below 2⁴⁸")
    return seed


def checked_noise(noise: float | None) -> float | None:
    """τ⁻¹; ValueError unless it is a number from 0."""
    if noise is None:
        return None
    try:
        noise = float(noise)
    except (TypeError, ValueError, RuntimeError):
        said = f"the noise is {noise!r}, wanted a number: the variance of a label"
        raise ValueError(said) from None
    check_nuggets(noise, 0.0)
    return noise


def as_weights(weights: Sequence[float] | np.ndarray | Tensor) -> Float[Tensor, " n"]:
    """The weights as numbers on one axis; ValueError for what has several, or is none."""
    try:
        found = weights.to_numpy() if hasattr(weights, "to_numpy") else weights
        found = torch.as_tensor(found).double()
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(
            f"the weights are a {type(weights).__name__}, wanted a number a point"
        ) from None
    if found.numel() != max(found.shape, default=0):
        raise ValueError(f"the weights have shape {list(found.shape)}, wanted a number a point")
    return found.flatten()


def posterior_of(
    model: Models,
    predict: Callable[[PoolPoints], Any] | None,
    trunk: nn.Module | None,
    n_masks: int,
    outputs: Outputs,
    seed: int,
) -> tuple[Posterior, nn.Module | None]:
    """Choose the source of predictions, and the module whose arguments name the input."""
    check_outputs(outputs)
    if predict is not None:
        return of_function(predict), None
    if isinstance(model, nn.ModuleList | list | tuple):
        models = list(model)
        for one in models:
            check_problem(one, outputs)
        return of_ensemble(models, outputs), models[0]
    if not isinstance(model, nn.Module):
        raise ValueError(
            f"got a model of type {type(model).__name__}, wanted an nn.Module or a sequence of "
            f"them; a function from a batch to predictions [J n c] goes in as predict="
        )
    check_problem(model, outputs)
    return DropoutPosterior(model, trunk, n_masks, outputs, seed), model if trunk is None else trunk


def draw_sample(n: int, total: int | None, seed: int) -> Int[np.ndarray, " n"]:
    """n of the pool's positions at random, in ascending order."""
    if total is None:
        raise ValueError(
            "a sample needs a pool whose length is known before it is read: an array, or a "
            "DataLoader over a data set with a length"
        )
    if not 1 <= n <= total:
        raise ValueError(f"a sample of {n} cannot be drawn from a pool of {total} points")
    return np.sort(np.random.default_rng(seed % 2**64).choice(total, n, replace=False))


def enough_masks(batch_size: int, n_outputs: int) -> int:
    """J for a batch of so many: the paper's 50, or more where that is too few, up to 400.

    On 0-9 with 30 labels, batches of 50 were no better than random ones with 50 masks, and better
    in each of five repeats with 400.
    """
    return min(400, max(50, batch_size * max(1, n_outputs - 1)))


def usual_noise(predictions: Float[Tensor, "J S c"]) -> float:
    """τ⁻¹ as a share of the mean dropout variance, amid the ranges of App. E."""
    return SHARES[predictions.shape[2] > 1] * mean_variance(predictions)
