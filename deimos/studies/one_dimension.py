"""The picture of the method: where it looks in one dimension, and what the labels bring (Fig. 1).

A network is fitted to points that leave a gap; DEIMOS asks for one batch on a grid; a new network
is fitted with its labels. As the authors did, the sample is the pool alone.

Axes:  J dropout masks · S points of the grid · b batch size
"""

from dataclasses import replace

import torch
from torch import Tensor

from deimos.acquisition.fast_selection import one_thread
from deimos.expected_improvement import covariance, expected_improvement, select
from deimos.experiment.iteration import fit_on_labels, initial_set
from deimos.experiment.runs import Schedule, Streams
from deimos.models import mc_dropout, networks
from deimos.models.networks import Network
from deimos.progress import progress
from deimos.tasks.task import Task

MetricColumns = dict[str, list[float]]  # metric → one value, or one for every point of a grid


SPARSE, POOR, ACCURATE = (-2.5, 2.5), (-10.0, -7.0), (2.5, 10.0)  # §5.1's intervals
CLAIMED = (
    "ei_sparse_over_accurate", "ei_poor_over_accurate", "mse_poor_over_accurate",
    "queried_in_centre", "mse_before_over_after", "mse_before_over_after_sparse",
    "mse_before_over_after_poor",
)  # fmt: skip


def acquire_over_seeds(
    task: Task, schedule: Schedule, noise_share: float, n_seeds: int
) -> MetricColumns:
    """Fig. 1 as `acquire_once` has it, its `CLAIMED` numbers for this seed and those after it."""
    seeds = range(schedule.seed, schedule.seed + n_seeds)
    each = [
        acquire_once(task, replace(schedule, seed=seed), noise_share)
        for seed in progress(seeds, unit="seed", name=task.name)
    ]
    return each[0] | {name: [one[name][0] for one in each] for name in CLAIMED}


@one_thread()
def acquire_once(task: Task, schedule: Schedule, noise_share: float) -> MetricColumns:
    """Fig. 1 as numbers: both models over the grid, the pool's EI, the batch, and what is claimed.

    τ⁻¹ is `noise_share` times the pool's mean dropout variance. EI is divided by its largest value.
    """
    before = Streams(schedule.seed, 1, 0, task.x.device)
    after = Streams(schedule.seed, 1, schedule.batch_size, task.x.device)
    labelled = torch.tensor(initial_set(task, schedule, 1))
    pool = task.train_ids[~torch.isin(task.train_ids, labelled)]

    network = fit_on_labels(task, networks.synthetic_1d, schedule.fit, labelled, before)
    features = mc_dropout.trunk_features(network, task.x[pool])
    masks = mc_dropout.draw_masks(network, (schedule.n_masks,), before.torch("masks"))
    predictions = mc_dropout.predict_shared(network, features, masks)
    noise = noise_share * mc_dropout.mean_variance(predictions)
    candidates = torch.arange(len(pool))
    improvement = expected_improvement(covariance(predictions, noise), candidates)
    improvement = improvement / improvement.max()
    batch = select(predictions, candidates, schedule.batch_size, noise)

    extended = torch.cat([labelled, pool[batch]])
    again = fit_on_labels(task, networks.synthetic_1d, schedule.fit, extended, after)
    x, queried = task.x[pool, 0], task.x[pool[batch], 0]
    old, new = (_over_the_grid(task, *m, schedule) for m in ((network, before), (again, after)))
    return {
        "x_labelled": task.x[labelled, 0].tolist(),
        "y_labelled": task.y[labelled].tolist(),
        "x_queried": queried.tolist(),
        "y_queried": task.y[pool[batch]].tolist(),
        "x_pool": x.tolist(),
        "improvement": improvement.tolist(),
        "x_test": task.test_x[:, 0].tolist(),
        "y_test": task.test_y.tolist(),
        **{f"{name}_before": values for name, values in old.items()},
        **{f"{name}_after": values for name, values in new.items()},
        **_claimed(x, improvement, queried),
        "mse_before_over_after": [old["mse"][0] / new["mse"][0]],
        **_errors_by_region(task, old["mean"], new["mean"]),
    }


def _over_the_grid(
    task: Task, network: Network, streams: Streams, schedule: Schedule
) -> MetricColumns:
    """The model's mean and standard deviation at the test points, and its error there."""
    features = mc_dropout.trunk_features(network, task.test_x)
    passes = mc_dropout.predict_fresh(
        network, features, schedule.n_passes, streams.torch("evaluation")
    )
    mean, sd = passes.mean(0), passes.std(0)
    return {
        "mean": mean[:, 0].tolist(),
        "sd": sd[:, 0].tolist(),
        "mse": [task.scores(mean)["mse"]],
    }


def _claimed(x: Tensor, improvement: Tensor, queried: Tensor) -> MetricColumns:
    """Numbers for §5.1: EI is high where data are sparse or the fit is poor, low elsewhere."""

    def level(low: float, high: float) -> float:
        return improvement[(low <= x) & (x <= high)].mean().item()

    accurate = level(*ACCURATE)
    return {
        "ei_sparse_over_accurate": [level(*SPARSE) / accurate],
        "ei_poor_over_accurate": [level(*POOR) / accurate],
        "queried_in_centre": [float((queried.abs() <= 3).sum())],
    }


def _errors_by_region(task: Task, before: list[float], after: list[float]) -> MetricColumns:
    """Mean squared errors of both models on §5.1's intervals, as ratios."""
    x = task.test_x[:, 0]

    def error(mean: list[float], low: float, high: float) -> float:
        inside = (low <= x) & (x <= high)
        return (torch.tensor(mean)[inside] - task.test_y[inside]).square().mean().item()

    return {
        "mse_poor_over_accurate": [error(before, *POOR) / error(before, *ACCURATE)],
        "mse_before_over_after_sparse": [error(before, *SPARSE) / error(after, *SPARSE)],
        "mse_before_over_after_poor": [error(before, *POOR) / error(after, *POOR)],
    }
