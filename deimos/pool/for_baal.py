"""DEIMOS for users of baal: a heuristic, and predictions whose masks are shared by all points.

    wrapper = SharedMasks(model, TrainingArgs(...))  # in the place of ModelWrapper
    loop = ActiveLearningLoop(
        dataset, wrapper.predict_on_dataset, DEIMOS(query_size=25), query_size=25, iterations=50
    )

Needs baal (`pip install "deimos[baal]"`); nothing else in deimos does.

Axes, baal's:  n points · c classes (1 in regression) · J iterations, last
"""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from baal.active.heuristics import AbstractHeuristic
from baal.modelwrapper import ModelWrapper
from baal.utils.array_utils import to_prob
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from deimos.acquisition.checks import whole_number
from deimos.acquisition.fast_selection import improvements, select
from deimos.pool.answers import main_part
from deimos.pool.batch_inputs import inputs
from deimos.pool.batches import batches
from deimos.pool.model_calls import randomness_as_before
from deimos.pool.posteriors import check_variation, predictions_of
from deimos.pool.select_batch import usual_noise
from deimos.pool.shared_masks import DropoutPosterior


class BaalHeuristic(AbstractHeuristic):
    """The `query_size` points that would shrink the covariance most come first (Algorithm 1).

    The trap: baal's own Monte-Carlo dropout draws a fresh mask for every point, and its consistent
    dropout one for every place in a minibatch. From such predictions there is no covariance to be
    had, and nothing here can tell: take them from `SharedMasks`. All points must come in one array,
    or in one generator of its parts. Points beyond the batch follow by what each would still add
    to it by itself: ask for `query_size` points, since what follows is no batch of Algorithm 1.

    `noise` is τ⁻¹, by default a share of the mean dropout variance (App. E), and `smoothing` is
    τ_s⁻¹; one of the two is 0. Logits of classes become probabilities, as in baal; `regression`
    leaves several outputs as they are.
    """

    def __init__(
        self,
        query_size: int,
        noise: float | None = None,
        smoothing: float = 0.0,
        regression: bool = False,
    ):
        super().__init__(reverse=True)
        self.query_size = whole_number(query_size, "query_size", least=1)
        self.noise = noise
        self.smoothing = smoothing
        self.regression = regression

    def compute_score(self, predictions: Any, target_predictions: Any = None) -> np.ndarray:
        """b, b − 1, … 1 for the batch in the order of picking, and less than 1 for all others.

        ValueError if the predictions are the same in every iteration.
        """
        predictions = np.asarray(predictions)
        if predictions.ndim != 3:
            got = predictions.shape
            raise ValueError(f"got predictions {got}, wanted [n, classes, iterations]")
        if predictions.shape[1] > 1 and not self.regression:
            predictions = to_prob(predictions)
        answers = torch.from_numpy(predictions).permute(2, 0, 1)  # [J S c]
        check_variation(answers)
        noise = self.noise
        if noise is None:
            noise = 0.0 if self.smoothing else usual_noise(answers)
        n = len(predictions)
        batch_size = min(self.query_size, n)  # the last of a pool may be fewer
        picked = select(answers, torch.arange(n), batch_size, noise, self.smoothing)
        rest = torch.ones(n, dtype=torch.bool).index_fill(0, picked, False).nonzero().squeeze(1)
        scores = np.zeros(n)
        scores[picked.numpy()] = np.arange(batch_size, 0, -1)
        if len(rest):
            left = improvements(answers, rest, picked, noise, self.smoothing).clamp(min=0)
            scores[rest.numpy()] = (left / (2 * left.max().clamp(min=1e-300))).numpy()
        return scores

    def get_uncertainties_generator(
        self, predictions: Iterable, target_predictions: Any = None
    ) -> np.ndarray:
        """Of all parts together: a batch cannot be chosen part by part."""
        parts = list(predictions)
        if not parts:
            raise ValueError("No prediction! Cannot order the values!")
        return self.get_uncertainties(np.concatenate(parts), target_predictions)

    def reorder_indices(self, scores: Any) -> np.ndarray:
        """The batch, best first, then all others; equals in their own order."""
        return np.argsort(-np.asarray(scores), kind="stable")


class SharedMasks(ModelWrapper):
    """baal's wrapper, whose predictions come from one set of masks for all points of the data set.

    Iteration j of every point is then one and the same thinned network, as DEIMOS needs and
    BatchBALD would like. The model may be patched for Monte-Carlo dropout or not; the same `seed`
    gives the same masks. Training and testing stay baal's.
    """

    def __init__(self, model: torch.nn.Module, args: Any, seed: int = 0):
        super().__init__(model, args)
        self.seed = seed

    def predict_on_dataset_generator(
        self, dataset: Dataset, iterations: int, half: bool = False, verbose: bool = True
    ) -> Iterator[np.ndarray]:
        """Predictions [n, classes, iterations] in one part; nothing for no points."""
        if len(dataset) == 0:
            return
        args = self.args
        loader = DataLoader(
            dataset, args.batch_size, num_workers=args.workers, collate_fn=args.collate_fn
        )
        with randomness_as_before():
            answers = predictions_of(
                self.posterior(iterations),
                batches(loader, model=self.model),
                outputs=main_part,
                total=len(dataset),
            )
        yield (answers.half() if half else answers).permute(1, 2, 0).numpy()

    def predict_on_batch(self, data: Any, iterations: int = 1) -> Tensor:
        """The model's answers to a batch, [n, classes, iterations], under the same masks."""
        with randomness_as_before():
            answers = self.posterior(iterations)(inputs(data, self.model))
        return answers.permute(1, 2, 0)

    def posterior(self, iterations: int) -> DropoutPosterior:
        """The model under as many masks, drawn anew from the seed."""
        return DropoutPosterior(self.model, None, iterations, main_part, self.seed)
