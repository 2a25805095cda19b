"""EPIG: how much a label would tell about the labels of the sample (Bickford Smith et al., 2023).

DEIMOS' cousin in information: where DEIMOS asks how much the sample's predictive covariance would
shrink, the expected predictive information gain asks how much less uncertain its labels would be,

    EPIG(i) = mean over the sample's j of  I(y_i; y_j) = H(p_i) + H(p_j) − H(P_ij),

with p = E_j' p_j' the mean prediction and P_ij the mean over masks of the two points' joint
prediction, in which they are independent given a mask.

Axes:  J dropout masks · S sample points · c classes · n candidates · b batch size
"""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from deimos.acquisition.beliefs import Beliefs, checked_candidates, entropy
from deimos.acquisition.checks import check_predictions
from deimos.acquisition.cores import one_thread

ENTRIES = 2**22  # of joint predictions that are held at once


def epig(beliefs: Beliefs, batch_size: int, rng: np.random.Generator) -> Int[Tensor, " b"]:
    """The candidates with the largest EPIG, as its authors take a batch; ties go to the lowest.

    Predictions are class probabilities under masks that all points share. `rng` is not used.
    """
    candidates = checked_candidates(beliefs, batch_size)
    check_predictions(beliefs.predictions)
    gains = predictive_information(beliefs.predictions, candidates)
    order = gains.argsort(descending=True, stable=True)
    return candidates[order[:batch_size]]


@torch.no_grad()
@one_thread()
def predictive_information(
    probabilities: Float[Tensor, "J S c"], candidates: Int[Tensor, " n"]
) -> Float[Tensor, " n"]:
    """EPIG of each candidate, in nats; the sample is every point, the candidate itself too."""
    p = probabilities.double()
    J, S, c = p.shape
    own = entropy(p.mean(0))
    everyone = p.flatten(1)  # [J Sc]
    joint = []
    for some in candidates.split(max(1, ENTRIES // (S * c * c))):
        P = p[:, some].flatten(1).T @ everyone / J  # [mc Sc]
        H = -torch.special.xlogy(P, P).unflatten(0, (-1, c)).sum(1)  # [m Sc]
        joint.append(H.sum(1) / S)
    return own[candidates] + own.mean() - torch.cat(joint)
