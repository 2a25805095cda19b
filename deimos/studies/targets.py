"""Targets: which end of a scale does DEIMOS ask for, does it matter, and to which method (B4)?

A network with rectified units may be less sure where it predicts more, and the expected improvement
counts variance wherever it is. Here the same points have the same labels on other scales: an error
is what it was, and each scale is an experiment of its own in the record.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pandas as pd
from torch import Tensor

from deimos import stats
from deimos.experiment.settings_check import WORDS
from deimos.tasks.task import Task, checksum

TARGETS = WORDS["targets"]
RIVALS = {
    "lcmd": "LCMD, the farthest point of the largest cluster (Holzmüller et al., 2023)",
    "bait": "BAIT, what tells a linear last layer most (Ash et al., 2021)",
}


def methods() -> pd.DataFrame:
    """The rivals in regression, a row each."""
    return pd.DataFrame(RIVALS.items(), columns=["method", "what it asks for"])


def with_targets(task: Task, targets: Sequence[str]) -> list[Task]:
    """The task of regression once for each of `TARGETS` asked for.

    The mean is that of all points that may be labelled. Raises `ValueError` for a target that is
    not known, and for a task of classes.
    """
    strange = [target for target in targets if target not in TARGETS]
    if strange or task.n_classes > 1:
        got = f"{', '.join(strange)}" if strange else f"{task.name}, which has classes"
        raise ValueError(f"targets are {', '.join(TARGETS)}, of a task of regression; got {got}")
    mean = task.y[task.train_ids].mean()
    changed = {"y": lambda y: y, "1 - y": lambda y: 1 - y, "y - mean": lambda y: y - mean}
    return [_changed(task, target, changed[target]) for target in targets]


def _changed(task: Task, target: str, change: Callable[[Tensor], Tensor]) -> Task:
    y = change(task.y)
    return replace(
        task,
        name=f"targets-{task.name}: {target}",
        y=y,
        test_y=change(task.test_y),
        checksum=checksum([task.x, y]),
    )


def asked_for(task: Task, table: pd.DataFrame) -> pd.DataFrame:
    """A row a method: its error less DEIMOS', paired by repeat, and the labels that it asked for.

    The interval is Student's t over run means, 95 %. `asked for` is the mean label of all that was
    acquired, beside the mean of all that could be.
    """
    errors = table[table.metric == task.metric]
    pairs = stats.paired_differences(errors).set_index("method")
    less = pairs.apply(lambda one: stats.with_interval(one.effect, one.low, one.high), axis=1)
    labels = table[table.metric == "mean_label"].groupby("method", sort=False).value.mean()
    return pd.DataFrame({
        "target": task.name.partition(": ")[2],
        "method": labels.index,
        f"{task.metric} less DEIMOS'": less.reindex(labels.index).fillna("").to_numpy(),
        "asked for": labels.map("{:.2f}".format).to_numpy(),
        "mean of all": f"{task.y[task.train_ids].mean().item():.2f}",
    })  # fmt: skip
