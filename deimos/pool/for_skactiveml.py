"""DEIMOS for users of scikit-activeml: a pool query strategy like any other of theirs.

    strategy = DEIMOS(predict)  # predict(clf, X) -> predictions [J S c], the same J masks for all X
    query_indices = strategy.query(X, y, clf, batch_size=25)

Needs scikit-activeml (`pip install "deimos[skactiveml]"`); nothing else in deimos does.

Axes:  J dropout masks · S points of X · c outputs (1 in regression) · b batch size
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from skactiveml.base import SingleAnnotatorPoolQueryStrategy
from skactiveml.utils import MISSING_LABEL
from torch import Tensor

from deimos.acquisition.fast_selection import improvements, select
from deimos.pool.posteriors import check_places, check_variation, of_function
from deimos.pool.select_batch import usual_noise

Predict = Callable[[Any, np.ndarray], np.ndarray | Tensor]


class PoolStrategy(SingleAnnotatorPoolQueryStrategy):
    """The batch whose labels would shrink the model's predictive covariance most (Algorithm 1).

    `predict(clf, X)` gives predictions [J S c] of all points under the same J dropout masks:
    probabilities in classification. With masks of its own for every point, as dropout that is
    simply left on has them, the covariance is zero but for noise, and the batch is no better than
    the most uncertain points. `noise` is τ⁻¹, by default a share of the mean dropout variance
    (App. E), and `smoothing` τ_s⁻¹; one of the two is 0. Ties go to the first of X. `predict` is
    asked again for a few points in another order: other answers are refused, and so are such as are
    the same under every mask.
    """

    def __init__(
        self,
        predict: Predict,
        noise: float | None = None,
        smoothing: float = 0.0,
        missing_label: Any = MISSING_LABEL,
        random_state: Any = None,
    ):
        super().__init__(missing_label=missing_label, random_state=random_state)
        self.predict = predict
        self.noise = noise
        self.smoothing = smoothing

    def query(
        self,
        X: Any,
        y: Any,
        clf: Any,
        candidates: Any = None,
        batch_size: int = 1,
        return_utilities: bool = False,
    ) -> Any:
        """Indices of the batch in X, best first; or in `candidates`, if those are rows of values.

        All of X counts in the covariance, labelled points too, and rows of values beside it. `clf`
        is passed on to `predict`, fitted or not. The utilities [b n] of a step are the candidates'
        expected improvements given the picks before it, and nan for all others.
        """
        X, y, candidates, batch_size, return_utilities = self._validate_data(
            X, y, candidates, batch_size, return_utilities, reset=True
        )
        rows, mapping = self._transform_candidates(candidates, X, y)
        if mapping is None:  # candidates of their own, not among X
            mapping = len(X) + np.arange(len(rows))
            X, first, n = np.concatenate([X, rows]), len(X), len(rows)
        else:
            first, n = 0, len(X)
        predictions = self.asked_of(clf, X)
        noise = self.noise
        if noise is None:
            noise = 0.0 if self.smoothing else usual_noise(predictions)
        asked = torch.as_tensor(mapping)
        picked = select(predictions, asked, batch_size, noise, self.smoothing)
        if not return_utilities:
            return picked.numpy() - first
        utilities = np.full((batch_size, n), np.nan)
        for step, row in enumerate(utilities):  # what is left after the picks before it
            left = asked[~torch.isin(asked, picked[:step])]
            values = improvements(predictions, left, picked[:step], noise, self.smoothing)
            row[left.numpy() - first] = values.numpy()
        return picked.numpy() - first, utilities

    def asked_of(self, clf: Any, X: np.ndarray) -> Tensor:
        """The predictions [J S c]; ValueError if they are of another shape, or not what is due."""
        predictions = torch.as_tensor(self.predict(clf, X))
        if predictions.dim() != 3 or predictions.shape[1] != len(X):
            raise ValueError(
                f"predict gave {tuple(predictions.shape)} for {len(X)} points, wanted [J S c]: "
                f"masks, points, outputs"
            )
        again = of_function(lambda rows: self.predict(clf, X[rows.numpy()]))
        check_places(again, torch.arange(len(X)), predictions)
        check_variation(predictions)
        return predictions
