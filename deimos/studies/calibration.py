"""Calibrate p, C and τ⁻¹, or τ_s⁻¹, as the authors describe it (App. E).

Networks fitted to the initial labelled set are compared on a validation set drawn from the pool.
First C is chosen by the validation score, at the network's own p; then p, at that C, by Pearson R²
between squared error and predicted variance; last, τ⁻¹ is a share of the average dropout variance.

Validation points stay in the pool and may be acquired, as in the authors' code. No test point is
looked at: the validation set takes the test set's place.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float, Num
from torch import Tensor

from deimos.experiment.iteration import Build, fit_on_labels, initial_set
from deimos.experiment.runs import Schedule, Streams
from deimos.extras import extra
from deimos.models.mc_dropout import mean_variance, predict_fresh, trunk_features
from deimos.models.networks import Network
from deimos.tasks.task import Task, hold_out, task_of_repeat

with extra("reproduce"):
    import pandas as pd

PS = (0.1, 0.2, 0.3, 0.4, 0.5)


@dataclass(frozen=True)
class Trial:
    """One fit to the initial set, and what the validation set says of it."""

    p: float
    decay: float
    score: float  # in the task's own metric
    r_squared: float
    variance: float  # σ̄², over points and outputs


@dataclass(frozen=True)
class Calibration:
    """The trials, the values in use first, and the choice that calibration would make."""

    metric: str
    trials: tuple[Trial, ...]
    chosen: Trial
    noise: float  # τ⁻¹, or τ_s⁻¹ in classification, as in use
    noises: tuple[float, float]  # its lowest and highest value by calibration


def calibrate(
    task: Task,
    build: Build,
    schedule: Schedule,
    n_validation: int | None = None,
    ps: Sequence[float] = PS,
    decays: Sequence[float] | None = None,
    repeat: int = 1,
) -> Calibration:
    """Choose among `ps` and `decays` and the values in use, which win a tie.

    Unless told otherwise it validates on as many points as the task says, and tries a tenth of the
    C in use and ten times it. At the values in use the network is the initial model of `repeat`
    itself, weight for weight.
    """
    n_validation, in_use = n_validation or task.n_validation, schedule.fit.decay
    decays = (in_use / 10, in_use * 10) if decays is None else decays
    if n_validation < 3 or schedule.n_passes < 2:
        got = f"{n_validation} and {schedule.n_passes}"
        raise ValueError(f"R² takes 3 validation points and 2 passes or more, got {got}")
    if not all(0 < p < 1 for p in ps):
        raise ValueError(f"a dropout rate lies between 0 and 1, got {ps}")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    streams = Streams(schedule.seed, repeat, 0, device)
    task = task_of_repeat(task, repeat, streams.numpy("test set"))
    initial = initial_set(task, schedule, repeat)
    _, ids = hold_out(task.train_ids, n_validation, streams.numpy("validation"), initial)
    labelled = torch.tensor(initial, device=ids.device)
    x, y = task.x[labelled], task.y[labelled]
    task = replace(task, x=x, y=y, test_x=task.x[ids], test_y=task.y[ids]).to(device)
    trial = partial(_trial, task, build, schedule, streams)
    own_p = build(streams.torch("weights", "cpu")).p
    better = max if task.better == "higher" else min  # both take the first of equals
    workers = 1 if device.type == "cuda" else torch.get_num_threads()
    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        by_decay = list(pool.map(partial(trial, own_p), dict.fromkeys((in_use, *decays))))
        best = better(by_decay, key=lambda tried: tried.score)
        by_p = list(pool.map(partial(trial, decay=best.decay), (p for p in ps if p != own_p)))
    chosen = max([best, *by_p], key=lambda tried: tried.r_squared)
    shares = (0.001, 0.01) if task.n_classes > 1 else (0.1, 0.2)  # of σ̄², for τ_s⁻¹ or τ⁻¹
    low, high = (share * chosen.variance for share in shares)
    noise = schedule.noise + schedule.smoothing  # one of them is 0
    return Calibration(task.metric, (*by_decay, *by_p), chosen, noise, (low, high))


def compare(found: Calibration) -> pd.DataFrame:
    """The values in use (by default the authors') beside those that calibration would choose."""
    used, chosen = found.trials[0], found.chosen
    name, (low, high) = "τ_s⁻¹" if found.metric == "accuracy" else "τ⁻¹", found.noises
    rows = [
        ("dropout rate p", f"{used.p:.3g}", f"{chosen.p:.3g}"),
        ("weight decay C", f"{used.decay:.3g}", f"{chosen.decay:.3g}"),
        (name, f"{found.noise:.3g}", f"{low:.2g} to {high:.2g}"),
        (f"validation {found.metric}", f"{used.score:.3g}", f"{chosen.score:.3g}"),
        ("R² of error and variance", f"{used.r_squared:.2f}", f"{chosen.r_squared:.2f}"),
    ]
    return pd.DataFrame(rows, columns=["setting", "in use", "calibration would choose"])


def r_squared(predictions: Float[Tensor, "J S c"], y: Num[Tensor, " S"]) -> float:
    """Pearson R² over points between squared error of the mean and predicted variance.

    In classification both are summed over the class probabilities, the error against one-hot
    labels. It is 0 where either does not vary and, unlike a plain square, where the correlation is
    negative: a model that is the surer the more it errs does not know its errors.
    """
    predictions, c = predictions.double(), predictions.shape[-1]
    truth = F.one_hot(y.long(), c) if c > 1 else y.unsqueeze(1)
    error = (predictions.mean(0) - truth).square().sum(1)
    both = torch.stack([error, predictions.var(0).sum(1)])
    constant = (both == both[:, :1]).all(1).any()
    return 0.0 if constant else max(torch.corrcoef(both)[0, 1].item(), 0.0) ** 2


def _trial(
    task: Task, build: Build, schedule: Schedule, streams: Streams, p: float, decay: float
) -> Trial:
    """Fit to all of the task's x as the loop's first step does, and evaluate."""

    def build_with_p(generator: torch.Generator) -> Network:
        network = build(generator)
        network.p = p  # all masks are drawn with the network's own rate
        return network

    everything = torch.arange(len(task.x), device=task.x.device)
    how = replace(schedule.fit, decay=decay)
    network = fit_on_labels(task, build_with_p, how, everything, streams)
    features, masks = trunk_features(network, task.test_x), streams.torch("evaluation")
    predictions = predict_fresh(network, features, schedule.n_passes, masks)
    score = task.scores(predictions.mean(0))[task.metric]
    return Trial(p, decay, score, r_squared(predictions, task.test_y), mean_variance(predictions))
