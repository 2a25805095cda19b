"""Today's rivals as scikit-activeml has them, asked with our network's features and probabilities.

    badge         diverse gradients of the last layer (Ash et al., 2020)
    typiclust     the typical point of each new cluster (Hacohen et al., 2022)
    prob_cover    balls that cover most (Yehuda et al., 2022)
    core_set      the farthest point, again and again (Sener & Savarese, 2018)
    max_herding   most coverage by a smooth kernel (Bae et al., 2024)

None of them is handed a label: which points are labelled is all that they are told.

Axes:  S sample points, the labelled ones among them · h features · c classes · b batch size
"""

from typing import Any

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from deimos.acquisition.beliefs import Beliefs, checked_candidates, checked_features, filled_up
from deimos.acquisition.checks import check_predictions
from deimos.extras import extra

STRATEGIES = {
    "badge": "Badge",
    "typiclust": "TypiClust",
    "prob_cover": "ProbCover",
    "core_set": "CoreSet",
    "max_herding": "MaxHerding",
}
UNIT_LENGTH = ("typiclust", "prob_cover")  # whose authors bring features to length one


def query(
    beliefs: Beliefs, batch_size: int, rng: np.random.Generator, strategy: str
) -> tuple[Int[Tensor, " b"], int]:
    """The batch of one of `STRATEGIES`, in the order in which it picks; how many chance filled up.

    Where many points coincide, some strategies pick one twice, or end before the batch is full
    (scikit-activeml 1.0): the rest is drawn at random then. Needs the features of all sample
    points; BADGE and ProbCover the predictions too. Computes on one core.
    """
    with extra("skactiveml"):
        from skactiveml import pool
        from threadpoolctl import threadpool_limits

    candidates = checked_candidates(beliefs, batch_size)
    features = checked_features(beliefs, strategy).cpu().double().numpy()
    if strategy in UNIT_LENGTH:
        features = features / np.linalg.norm(features, axis=1, keepdims=True).clip(1e-12)
    asked, y = candidates.cpu().numpy(), np.zeros(len(features))
    y[asked] = np.nan
    settings = {"random_state": int(rng.integers(2**31))}
    about = {"X": features, "y": y, "candidates": asked, "batch_size": batch_size}
    if strategy in ("badge", "prob_cover"):
        check_predictions(beliefs.predictions)
        mean = beliefs.predictions.detach().cpu().double().mean(0).numpy()
        if strategy == "badge":
            rows = np.arange(len(features), dtype=float)[:, None]
            about |= {"X": rows, "clf": _known_answers(mean, features), "fit_clf": False}
        else:
            settings["n_classes"] = mean.shape[1]
    with threadpool_limits(1):
        try:
            picked = getattr(pool, STRATEGIES[strategy])(**settings).query(**about)
        except UnboundLocalError:  # TypiClust's, where no cluster is left
            picked = []
    return filled_up(list(map(int, picked)), candidates, batch_size, rng)


def _known_answers(mean: Float[np.ndarray, "S c"], features: Float[np.ndarray, "S h"]) -> Any:
    """A classifier as BADGE asks for one, fitted already: its inputs are the points' numbers."""
    from skactiveml.base import SkactivemlClassifier

    class KnownAnswers(SkactivemlClassifier):
        def fit(self, X: Any, y: Any) -> Any:
            return self

        def predict_proba(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
            rows = np.asarray(X)[:, 0].astype(int)
            return mean[rows], features[rows]

    return KnownAnswers(classes=list(range(mean.shape[1])))
