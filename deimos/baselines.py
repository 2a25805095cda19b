"""The acquisition functions that DEIMOS is compared with (§5).

All are called alike, `acquire(beliefs, batch_size, rng) -> positions`, and are handed no label.
Each scores points one by one and takes the best; ties go to the lowest position.

Axes:  J dropout masks · S sample points · c outputs (1 in regression) · n candidates · b batch size
"""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from deimos.fast_selection import check_predictions
from deimos.mc_dropout import Beliefs


def random(beliefs: Beliefs, batch_size: int, rng: np.random.Generator) -> Int[Tensor, " b"]:
    """Candidates drawn uniformly without replacement."""
    candidates = enough(beliefs, batch_size)
    chosen = rng.choice(len(candidates), batch_size, replace=False)
    return candidates[torch.from_numpy(chosen).to(candidates.device)]


def max_variance(beliefs: Beliefs, batch_size: int, rng: np.random.Generator) -> Int[Tensor, " b"]:
    """The largest dropout variances, summed over outputs."""
    return _best(_known(beliefs).var(dim=0).sum(-1), beliefs, batch_size)


def max_entropy(beliefs: Beliefs, batch_size: int, rng: np.random.Generator) -> Int[Tensor, " b"]:
    """The largest entropies of the mean predicted class probabilities (Gal et al., 2017)."""
    return _best(entropy(_known(beliefs).mean(dim=0)), beliefs, batch_size)


def bald(beliefs: Beliefs, batch_size: int, rng: np.random.Generator) -> Int[Tensor, " b"]:
    """The largest information that one label holds about the model, H(E_j p) − E_j H(p).

    Houlsby et al. (2011); with dropout Gal et al. (2017).
    """
    p = _known(beliefs)
    return _best(entropy(p.mean(dim=0)) - entropy(p).mean(dim=0), beliefs, batch_size)


def entropy(probabilities: Float[Tensor, "*S c"]) -> Float[Tensor, "*S"]:
    """Shannon entropy −Σ p log p in nats; a probability of 0 contributes 0."""
    return -torch.special.xlogy(probabilities, probabilities).sum(-1)


def _best(scores: Float[Tensor, " S"], beliefs: Beliefs, batch_size: int) -> Int[Tensor, " b"]:
    candidates = enough(beliefs, batch_size)
    # A stable sort leaves equal scores in order of position.
    order = scores[candidates].argsort(descending=True, stable=True)
    return candidates[order[:batch_size]]


def _known(beliefs: Beliefs) -> Float[Tensor, "J S c"]:
    """The predictions in double precision; ValueError where NaN would be taken for the best."""
    check_predictions(beliefs.predictions)
    return beliefs.predictions.double()


def enough(beliefs: Beliefs, batch_size: int) -> Int[Tensor, " n"]:
    """The candidates, each once and in order; ValueError if too few for the batch, or it empty."""
    candidates = beliefs.candidates.unique()
    if not 1 <= batch_size <= len(candidates):
        raise ValueError(
            f"a batch of {batch_size} cannot be drawn from {len(candidates)} candidates"
        )
    return candidates
