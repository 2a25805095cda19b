"""Today's rivals in regression as bmdal_reg has them, asked with our network's features.

    lcmd  the farthest point of the largest cluster, labelled points being the first centres
          (Holzmüller et al., 2023)
    bait  what tells a linear last layer with its bias most, picked forward and backward
          (Ash et al., 2021)

Neither looks at a label or at a prediction: which points are labelled is all that they are told.

Axes:  S sample points, the labelled ones among them · h features · b batch size
"""

from types import SimpleNamespace

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from deimos.acquisition.beliefs import Beliefs, checked_candidates, checked_features, filled_up
from deimos.extras import extra

SIGMA = 0.1  # of the labels, features having length one in the mean: the library's own
SELECTIONS = {
    "lcmd": {"selection_method": "lcmd", "kernel_transforms": []},
    "bait": {
        "selection_method": "bait",
        "kernel_transforms": [("train", [SIGMA, None])],
        "bait_sigma": SIGMA,
        "overselection_factor": 2.0,
    },
}


def query(
    beliefs: Beliefs, batch_size: int, rng: np.random.Generator, selection: str
) -> tuple[Int[Tensor, " b"], int]:
    """The batch of one of `SELECTIONS`, in the order in which it picks; how many chance filled up.

    Where points coincide a selection may end before the batch is full: the rest is drawn at random
    then. Needs the features of all sample points, and labelled points among them.
    """
    with extra("bmdal"):
        from bmdal_reg.bmdal import selection as of_numpy_1
        from bmdal_reg.bmdal.algorithms import select_batch
        from bmdal_reg.bmdal.feature_data import TensorFeatureData

    candidates = checked_candidates(beliefs, batch_size)
    features = checked_features(beliefs, selection).double()
    features = torch.nn.functional.pad(features, (0, 1), value=1)  # the bias
    labelled = torch.ones(len(features), dtype=torch.bool, device=features.device)
    labelled[candidates] = False
    if not labelled.any():
        raise ValueError(f"{selection} needs labelled points in the sample, and there is none")
    data = {"train": TensorFeatureData(features[labelled])}
    data["pool"] = TensorFeatureData(features[candidates])
    settings = {"base_kernel": "linear", "allow_float64": True, "verbosity": 0}
    of_numpy_1.np = SimpleNamespace(**{**vars(np), "Inf": np.inf})  # as numpy 2 calls it no longer
    picked, _ = select_batch(batch_size, [None], data, None, **settings, **SELECTIONS[selection])
    return filled_up(candidates[picked].tolist(), candidates, batch_size, rng)
