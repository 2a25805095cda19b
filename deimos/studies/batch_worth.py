"""Measure a batch's worth: fit the model before it, with it, and with a random batch instead.

A repeat starts from its own labelled points; all three models of it have the same random streams.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int
from torch import Tensor

from deimos.experiment.iteration import Build, evaluate, fit_on_labels, initial_set
from deimos.experiment.runs import Schedule, Streams
from deimos.models.networks import Network
from deimos.tasks.task import Task

CLAIM = "The picked batch brings more accuracy than a random one of its size"
# Beside the science: the pool's modules, but for the adapters to other libraries.
POOL = sorted((Path(__file__).parents[1] / "pool").glob("[!_]*.py"))
MODULES = (
    *(f"pool/{file.stem}" for file in POOL if not file.stem.startswith("for_")),
    "studies/batch_worth",
)


def first_labels(task: Task, schedule: Schedule, repeat: int) -> Int[Tensor, " N"]:
    """The ids that a repeat starts from."""
    return torch.tensor(initial_set(task, schedule, repeat))


def random_batch(
    task: Task, labelled: Int[Tensor, " N"], batch_size: int, repeat: int
) -> Int[Tensor, " b"]:
    """Ids drawn from what is not labelled."""
    left = task.train_ids[~torch.isin(task.train_ids, labelled)]
    drawn = np.random.default_rng(repeat).choice(len(left), batch_size, replace=False)
    return left[torch.from_numpy(drawn)]


def fit_and_score(
    task: Task,
    build: Build,
    schedule: Schedule,
    repeat: int,
    labelled: Int[Tensor, " N"],
) -> tuple[Network, float]:
    """A new network, trained from scratch on these labels, and its test accuracy."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    streams, task = Streams(schedule.seed, repeat, 0, device), task.to(device)
    network = fit_on_labels(task, build, schedule.fit, labelled.to(device), streams)
    return network, evaluate(task, network, schedule.n_passes, streams)["accuracy"]


def verdict(table: pd.DataFrame, scale: str) -> pd.DataFrame:
    """Compare the batch with a random one, repeat by repeat."""
    scores = table.pivot(index="repeat", columns="metric", values="value")
    gap = (scores["with_the_picks"] - scores["with_a_random_batch"]).dropna()
    ours = f"{gap.mean():+.3f} on average, {(gap > 0).sum()} of {len(gap)} repeats above"
    if scale == "smoke":
        outcome = "not tested"
    elif (gap > 0).all() or (gap < 0).all():
        outcome = "supported" if (gap > 0).all() else "contradicted"
    else:
        outcome = "undecided"
    return pd.DataFrame([{"claim": CLAIM, "ours": ours, "outcome": outcome}])
