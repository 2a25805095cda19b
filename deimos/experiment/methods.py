"""Every acquisition function by its name: what it is shown, and with what settings (§5, App. D).

Beside the positions a method may report what the record should keep of how they were chosen.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from deimos import baselines, k_center
from deimos.acquisition import batchbald, from_bmdal, from_skactiveml
from deimos.acquisition.beliefs import Beliefs
from deimos.acquisition.epig import epig
from deimos.acquisition.fast_selection import batch_improvement, select_with_gains
from deimos.acquisition.forward_backward import forward_backward

Report = dict[str, float]  # metric → value
Acquire = Callable[[Beliefs, int, np.random.Generator], tuple[Int[Tensor, " b"], Report]]
SAMPLING = {"power": baselines.power_sampling, "softmax": baselines.softmax_sampling}


@dataclass(frozen=True)
class Method:
    """An acquisition function and what it is shown of the data and of the model."""

    acquire: Acquire
    sample: str = "pool"  # one of the kinds that `sample_points` knows
    masks: str | None = "fresh"  # "fresh" for every point, "shared" by all, None: no predictions
    features: bool = False  # whether it needs penultimate activations
    n_candidates: int | None = None  # where it is not the schedule's
    space: str = "probabilities"  # of predictions with shared masks, in classification
    of_classes: bool = False  # whether it needs class probabilities


def by_name(
    noise: float,
    smoothing: float,
    labelled_in_sample: bool = True,
    space: str = "probabilities",
) -> dict[str, Method]:
    """The methods of the paper, their settings bound, what its critics ask for, and its rivals.

    DEIMOS stands there with three |X_samp|, and on logits whatever `space` it has else; `power_…`
    and `softmax_…` sample by a score; `…_authors` is what the authors ran, where ours is not that.
    """
    nugget = {"noise": noise, "smoothing": smoothing}
    sample = "with labelled" if labelled_in_sample else "pool"
    paper = Method(partial(deimos, **nugget), sample, masks="shared", space=space)
    return {
        "deimos": paper,
        "deimos_500": replace(paper, n_candidates=500),
        "deimos_5000": replace(paper, n_candidates=5000),
        "deimos_logits": replace(paper, space="logits"),
        "deimos_forward_backward": replace(paper, acquire=partial(_forward_backward, **nugget)),
        "epig": Method(_plain(epig), sample, masks="shared", of_classes=True),
        "random": Method(_plain(baselines.random), sample="whole pool", masks=None),
        **_by_uncertainty(),
        **_by_features(),
    }


def _by_uncertainty() -> dict[str, Method]:
    """Methods that look at predictions alone, one by one but for BatchBALD."""
    joint = Method(_batchbald, masks="shared", of_classes=True)
    return {
        "max_variance": Method(_plain(baselines.max_variance)),
        "max_entropy": Method(_plain(baselines.max_entropy), of_classes=True),
        "bald": Method(_plain(baselines.bald), of_classes=True),
        "margin": Method(_plain(baselines.margin), of_classes=True),
        "batchbald": joint,
        "batchbald_authors": replace(joint, acquire=_plain(batchbald.batchbald_authors)),
        **{
            f"{kind}_{name}": Method(
                _plain(partial(sampling, score=score)), of_classes=name != "variance"
            )
            for kind, sampling in SAMPLING.items()
            for name, score in baselines.SCORES.items()
        },
    }


def _by_features() -> dict[str, Method]:
    """Methods that look at penultimate activations, and at which points are labelled."""
    centres = Method(_k_center, "and labelled", masks=None, features=True)
    return {
        "k_center": centres,
        "k_center_authors": replace(centres, acquire=partial(_k_center, bounds="authors")),
        "greedy_k_center": replace(centres, acquire=_plain(k_center.greedy_k_center)),
        **{
            name: Method(
                partial(_rival, query=from_skactiveml.query, name=name),
                "and labelled",
                features=True,
                of_classes=True,
            )
            for name in from_skactiveml.STRATEGIES
        },
        **{
            name: replace(centres, acquire=partial(_rival, query=from_bmdal.query, name=name))
            for name in from_bmdal.SELECTIONS
        },
    }


def deimos(
    beliefs: Beliefs,
    batch_size: int,
    rng: np.random.Generator,
    noise: float = 0.0,
    smoothing: float = 0.0,
) -> tuple[Int[Tensor, " b"], Report]:
    """The paper's own: Algorithm 1 on the sample points, in its fast form."""
    positions, gains = select_with_gains(
        beliefs.predictions, beliefs.candidates, batch_size, noise, smoothing
    )
    return positions, {"batch/expected_improvement": gains.sum().item()}


def _forward_backward(
    beliefs: Beliefs,
    batch_size: int,
    rng: np.random.Generator,
    noise: float = 0.0,
    smoothing: float = 0.0,
) -> tuple[Int[Tensor, " b"], Report]:
    """Twice the batch picked as by DEIMOS, then half of it dropped again."""
    nugget, seen = {"noise": noise, "smoothing": smoothing}, beliefs.predictions
    positions = forward_backward(seen, beliefs.candidates, batch_size, **nugget)
    improvement = batch_improvement(seen, positions, **nugget)
    return positions, {"batch/expected_improvement": improvement}


def _batchbald(
    beliefs: Beliefs, batch_size: int, rng: np.random.Generator
) -> tuple[Int[Tensor, " b"], Report]:
    """BatchBALD, with the point of the batch at which the masks have nothing left to tell."""
    positions, bits = batchbald.batchbald_with_information(beliefs, batch_size, rng)
    report = {"batch/information_bits": bits[-1].item()}
    saturated = batchbald.saturation(bits, len(beliefs.predictions))
    return positions, report | ({} if saturated is None else {"batch/saturated_at": saturated})


def _k_center(
    beliefs: Beliefs, batch_size: int, rng: np.random.Generator, bounds: str = "correct"
) -> tuple[Int[Tensor, " b"], Report]:
    """Robust k-Center, with its certificate."""
    found = k_center.robust_search(beliefs, batch_size, bounds=bounds)
    return found.positions, {
        "k_center/radius": found.radius,
        "k_center/lower_bound": found.lower_bound,
        "k_center/greedy_radius": found.greedy_radius,
        "k_center/limit_met": float(found.limit_met),
    }


def _rival(
    beliefs: Beliefs, batch_size: int, rng: np.random.Generator, query: Callable, name: str
) -> tuple[Int[Tensor, " b"], Report]:
    """One of a library's, and how much of its batch chance had to fill up."""
    positions, n_random = query(beliefs, batch_size, rng, name)
    return positions, {"batch/filled_at_random": float(n_random)} if n_random else {}


def _plain(acquire: Callable[[Beliefs, int, np.random.Generator], Tensor]) -> Acquire:
    """An acquisition function that has nothing to report."""
    return lambda beliefs, batch_size, rng: (acquire(beliefs, batch_size, rng), {})


def sample_points(
    train_ids: Int[Tensor, " n"],
    labelled: Int[Tensor, " N"],
    n_candidates: int | None,
    kind: str,
    rng: np.random.Generator,
) -> tuple[Int[Tensor, " S"], Bool[Tensor, " S"]]:
    """Ids of the sample points, and which of them are candidates, `n_candidates` or the whole pool.

    "with labelled" is the paper's X_samp: drawn from labelled and pool alike until it holds enough
    of the pool (App. D). "pool" draws from the pool alone, as for the baselines; "and labelled"
    adds all labelled points, k-Center's first centres; "whole pool" takes all of it.
    """
    ids = train_ids[torch.from_numpy(rng.permutation(len(train_ids))).to(labelled.device)]
    is_candidate = ~torch.isin(ids, labelled)
    if kind != "with labelled":
        ids, is_candidate = ids[is_candidate], is_candidate[is_candidate]
    if n_candidates is not None and kind != "whole pool":
        wanted = is_candidate.cumsum(0) <= n_candidates
        ids, is_candidate = ids[wanted], is_candidate[wanted]
    if kind == "and labelled":
        ids = torch.cat([ids, labelled])
        is_candidate = torch.cat([is_candidate, torch.zeros_like(labelled, dtype=torch.bool)])
    return ids, is_candidate
