"""Beliefs: all that an acquisition function may know, and what every one of them asks of it.

Axes:  J dropout masks · S sample points · c outputs (1 in regression) · n candidates · h features
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Beliefs:
    """The model's view of the sample points, as acquisition functions receive it: no label.

    `candidates` are the positions, among the S sample points, that may be acquired; the others are
    labelled already. `features` are the penultimate activations without dropout (k-Center alone
    needs them), `predictions` probabilities in classification, or logits where DEIMOS asked for
    them. Random acquisition needs neither.
    """

    candidates: Int[Tensor, " n"]
    predictions: Float[Tensor, "J S c"] | None = None
    features: Float[Tensor, "S h"] | None = None


def checked_candidates(beliefs: Beliefs, batch_size: int) -> Int[Tensor, " n"]:
    """The candidates, each once and in order; ValueError if too few for the batch, or it empty."""
    candidates = beliefs.candidates.unique()
    if not 1 <= batch_size <= len(candidates):
        raise ValueError(
            f"a batch of {batch_size} cannot be drawn from {len(candidates)} candidates"
        )
    return candidates


def checked_features(beliefs: Beliefs, method: str) -> Float[Tensor, "S h"]:
    """The features of all sample points; ValueError if they are missing or not finite."""
    if beliefs.features is None or not beliefs.features.isfinite().all():
        raise ValueError(f"{method} needs the features of all sample points, and finite ones")
    return beliefs.features.detach()


def filled_up(
    picked: list[int], candidates: Int[Tensor, " n"], batch_size: int, rng: np.random.Generator
) -> tuple[Int[Tensor, " b"], int]:
    """The batch picked, each once, its rest drawn at random; how many were drawn."""
    once = list(dict.fromkeys(picked))
    left, n_missing = np.setdiff1d(candidates.cpu().numpy(), once), batch_size - len(once)
    once += rng.choice(left, n_missing, replace=False).tolist()
    return torch.tensor(once).to(candidates), n_missing


def entropy(probabilities: Float[Tensor, "*S c"]) -> Float[Tensor, "*S"]:
    """Shannon entropy −Σ p log p in nats; a probability of 0 contributes 0."""
    return -torch.special.xlogy(probabilities, probabilities).sum(-1)
