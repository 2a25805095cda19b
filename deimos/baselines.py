"""The acquisition functions that DEIMOS is compared with (§5).

All are called alike, `acquire(beliefs, batch_size, rng) -> positions`, and are handed no label.
Each scores points one by one and takes the best; ties go to the lowest position. The two sampling
functions of Kirsch et al. (2023) take points at random instead, good ones more often. BatchBALD,
which scores batches, stands in `batchbald.py` and is one of them all the same. `margin` is none of
the paper's rivals; it is what many would use today.

Axes:  J dropout masks · S sample points · c outputs (1 in regression) · n candidates · b batch size
"""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from deimos.acquisition.batchbald import batchbald as batchbald
from deimos.acquisition.beliefs import Beliefs, checked_candidates, entropy
from deimos.acquisition.checks import check_predictions

Score = Callable[[Beliefs], Float[Tensor, " S"]]


def random(beliefs: Beliefs, batch_size: int, rng: np.random.Generator) -> Int[Tensor, " b"]:
    """Candidates drawn uniformly without replacement."""
    candidates = checked_candidates(beliefs, batch_size)
    chosen = rng.choice(len(candidates), batch_size, replace=False)
    return candidates[torch.from_numpy(chosen).to(candidates.device)]


def variance(beliefs: Beliefs) -> Float[Tensor, " S"]:
    """Dropout variances, summed over outputs."""
    return _known(beliefs).var(dim=0).sum(-1)


def predictive_entropy(beliefs: Beliefs) -> Float[Tensor, " S"]:
    """Entropies of the mean predicted class probabilities."""
    return entropy(_known(beliefs).mean(dim=0))


def information(beliefs: Beliefs) -> Float[Tensor, " S"]:
    """The information that one label holds about the model, H(E_j p) − E_j H(p)."""
    p = _known(beliefs)
    return entropy(p.mean(dim=0)) - entropy(p).mean(dim=0)


SCORES: dict[str, Score] = {
    "variance": variance,
    "entropy": predictive_entropy,
    "bald": information,
}


def max_variance(beliefs: Beliefs, batch_size: int, rng: np.random.Generator) -> Int[Tensor, " b"]:
    """The largest dropout variances."""
    return _best(variance(beliefs), beliefs, batch_size)


def max_entropy(beliefs: Beliefs, batch_size: int, rng: np.random.Generator) -> Int[Tensor, " b"]:
    """The largest entropies (Gal et al., 2017)."""
    return _best(predictive_entropy(beliefs), beliefs, batch_size)


def bald(beliefs: Beliefs, batch_size: int, rng: np.random.Generator) -> Int[Tensor, " b"]:
    """The most information: Houlsby et al. (2011); with dropout Gal et al. (2017)."""
    return _best(information(beliefs), beliefs, batch_size)


def margin(beliefs: Beliefs, batch_size: int, rng: np.random.Generator) -> Int[Tensor, " b"]:
    """The smallest lead of the likeliest class over the next one (Scheffer et al., 2001)."""
    first, second = _known(beliefs).mean(dim=0).topk(2, dim=-1).values.unbind(-1)
    return _best(second - first, beliefs, batch_size)


def power_sampling(
    beliefs: Beliefs, batch_size: int, rng: np.random.Generator, score: Score, beta: float = 1.0
) -> Int[Tensor, " b"]:
    """One after another, without replacement, each with probability ∝ score^β (Kirsch et al.).

    Points that score 0 come last. In Gumbel's way, all at once: the largest of β log s + noise.
    """
    logs = score(beliefs).clamp(min=0).log()  # an information may be -1e-17
    return _best(beta * logs + _gumbel(logs, rng), beliefs, batch_size)


def softmax_sampling(
    beliefs: Beliefs, batch_size: int, rng: np.random.Generator, score: Score, beta: float = 1.0
) -> Int[Tensor, " b"]:
    """The same with probability ∝ exp(β score), which is near 1 for all where scores are small."""
    scores = score(beliefs)
    return _best(beta * scores + _gumbel(scores, rng), beliefs, batch_size)


def _best(scores: Float[Tensor, " S"], beliefs: Beliefs, batch_size: int) -> Int[Tensor, " b"]:
    candidates = checked_candidates(beliefs, batch_size)
    # A stable sort leaves equal scores in order of position.
    order = scores[candidates].argsort(descending=True, stable=True)
    return candidates[order[:batch_size]]


def _gumbel(like: Float[Tensor, " S"], rng: np.random.Generator) -> Float[Tensor, " S"]:
    return torch.from_numpy(rng.gumbel(size=len(like))).to(like)


def _known(beliefs: Beliefs) -> Float[Tensor, "J S c"]:
    """The predictions in double precision; ValueError where NaN would be taken for the best."""
    check_predictions(beliefs.predictions)
    return beliefs.predictions.double()
