"""The next batch to label from a pool of your own, with a model of your own that has dropout.

Nothing of the paper's experiments is needed: any `nn.Module` with dropout layers will do, or one of
the paper's networks. The points whose variance counts are the pool's, unless weights or a target
population say otherwise (the paper's D_samp, which may be any).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from deimos import shared_masks
from deimos.fast_selection import select_with_gains
from deimos.inputs import check_weights
from deimos.mc_dropout import mean_variance
from deimos.networks import Network
from deimos.shared_masks import Pool

SHARES = (0.15, 0.005)  # of σ̄², in regression τ⁻¹ and in classification τ_s⁻¹: amid App. E's ranges


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
    """What a model believes of the points that matter and of those that may be picked."""

    predictions: Float[Tensor, "J S c"]
    rows: Int[Tensor, " n"]  # the first n sample points' positions in the pool; the rest: target
    candidates: Int[Tensor, " m"]  # the sample points that may be picked
    noise: float
    weights: Float[Tensor, " S"] | None

    def pick(self, batch_size: int) -> Selection:
        """The greedy batch (Algorithm 1)."""
        n = len(self.candidates)
        if not 1 <= batch_size <= n:
            raise ValueError(f"a batch of {batch_size} cannot be picked from {n} points")
        picked, gains = select_with_gains(
            self.predictions, self.candidates, batch_size, self.noise, weights=self.weights
        )
        return Selection(tuple(self.rows[picked].tolist()), tuple(gains.tolist()))


def select_batch(
    model: nn.Module,
    pool: Pool,
    batch_size: int,
    *,
    labelled: Iterable[int] = (),
    weights: Sequence[float] | np.ndarray | Tensor | None = None,
    target: Pool | None = None,
    sample: int | None = None,
    trunk: nn.Module | None = None,
    n_masks: int = 50,
    noise: float | None = None,
    outputs: Callable[[Tensor], Tensor] | None = None,
    at_once: int | None = None,
    seed: int = 0,
) -> Selection:
    """The `batch_size` points of the pool whose labels would shrink the model's covariance most.

    `pool` is an array or a tensor, a row a point, or an iterable of batches such as a DataLoader
    gives: batches, or pairs and dicts of which the first part is the input. It is read once. The
    points at the positions `labelled` count in the covariance and are not picked.

    Every point matters as much, unless `weights` has a number from 0 for each point of the pool, or
    `target` another pool: of points that matter instead, and cannot be picked. With both, the
    target's points weigh 1. `sample` draws so many points of the pool, at random, to pick from.

    `model` takes inputs, or what `trunk` makes of them: the trunk is without dropout and runs once
    a point; that of an `nn.Sequential` is found. `outputs` turns what the model returns into
    predictions [S c]; by default logits of two or more classes become probabilities and anything
    else stays. `noise` is τ⁻¹, by default a share of the mean dropout variance (App. E). `n_masks`
    masks have that many independent things to tell, less one, and a label in c classes takes c − 1
    of them: with fewer masks than `enough_masks` says, the last picks are little more than random.
    The model is left as it was.

    Raises ValueError if the model has no dropout, or the pool too few points to pick from.
    """
    return prepare(
        model, pool, labelled=labelled, weights=weights, target=target, sample=sample, trunk=trunk,
        n_masks=n_masks, noise=noise, outputs=outputs, at_once=at_once, seed=seed,
    ).pick(batch_size)  # fmt: skip


def prepare(
    model: nn.Module,
    pool: Pool,
    *,
    labelled: Iterable[int] = (),
    weights: Sequence[float] | np.ndarray | Tensor | None = None,
    target: Pool | None = None,
    sample: int | None = None,
    trunk: nn.Module | None = None,
    n_masks: int = 50,
    noise: float | None = None,
    outputs: Callable[[Tensor], Tensor] | None = None,
    at_once: int | None = None,
    seed: int = 0,
) -> Sample:
    """All of `select_batch` but the picking."""
    check_dropout(model, trunk)
    total = shared_masks.length(pool)
    drawn = None if sample is None else draw(sample, total, seed)
    sizes: list[int] = []

    def inputs() -> Iterator[Tensor]:
        for part, rows in ((pool, drawn), *([] if target is None else [(target, None)])):
            sizes.append(0)
            for x in shared_masks.batches(part, at_once, rows):
                sizes[-1] += len(x)
                yield x

    lengths = [sample or total, 0 if target is None else shared_masks.length(target)]
    expected = None if None in lengths else sum(lengths)
    predictions = shared_masks.predict(model, inputs(), trunk, n_masks, outputs, seed, expected)
    S, n = predictions.shape[1], sizes[0]
    whole = n if drawn is None else total
    rows = torch.arange(n) if drawn is None else torch.from_numpy(drawn)
    known = torch.as_tensor(list(labelled), dtype=torch.long)
    if len(known) and not 0 <= known.min() <= known.max() < whole:
        raise ValueError(
            f"labelled positions lie within 0 and {whole - 1}, the pool has {whole} points"
        )
    matter = None
    if weights is not None or target is not None:
        matter = torch.ones(S, dtype=torch.float64)
        matter[:n] = 0
        if weights is not None:
            matter[:n] = check_weights(torch.as_tensor(weights).double().flatten(), whole)[rows]
    if noise is None:
        noise = usual_noise(predictions)
    candidates = (~torch.isin(rows, known)).nonzero().squeeze(1)
    return Sample(predictions, rows, candidates, float(noise), matter)


def draw(n: int, total: int | None, seed: int) -> Int[np.ndarray, " n"]:
    """n of the pool's positions at random, in ascending order."""
    if total is None:
        raise ValueError(
            "a sample needs a pool whose length is known before it is read: an array, or a "
            "DataLoader over a data set with a length"
        )
    if not 1 <= n <= total:
        raise ValueError(f"a sample of {n} cannot be drawn from a pool of {total} points")
    return np.sort(np.random.default_rng(seed).choice(total, n, replace=False))


def check_dropout(model: nn.Module, trunk: nn.Module | None) -> None:
    """ValueError unless there is dropout in the model, and none before it."""
    name = type(model).__name__
    if not isinstance(model, Network) and not shared_masks.dropout_layers(model):
        raise ValueError(
            f"{name} has no dropout layer that is switched on: add nn.Dropout before its dense "
            f"layers and train with it, else it has no covariance to shrink"
        )
    if trunk is not None and shared_masks.dropout_layers(trunk):
        raise ValueError("the trunk has a dropout layer: cut it before the first of them")


def enough_masks(batch_size: int, n_outputs: int) -> int:
    """J for a batch of so many: the paper's 50, or more where that is too few, up to 400.

    On 0-9 with 30 labels, batches of 50 were no better than random ones with 50 masks, and better
    in each of five repeats with 400.
    """
    return min(400, max(50, batch_size * max(1, n_outputs - 1)))


def usual_noise(predictions: Float[Tensor, "J S c"]) -> float:
    """τ⁻¹ as a share of the mean dropout variance, amid the ranges of App. E."""
    return SHARES[predictions.shape[2] > 1] * mean_variance(predictions)
