"""Check settings before any work starts; report every problem and suggest the nearest valid name.

`invalid_settings` needs no more than the values, so that a notebook is refused before its kernel
starts; `task_conflicts` needs the data, and a fleet is refused before its first fit.
"""

import difflib
from collections.abc import Iterable, Mapping
from math import inf
from typing import Any

from deimos.experiment.methods import by_name
from deimos.experiment.runs import FITTING
from deimos.models.mc_dropout import SPACES
from deimos.models.training import OPTIMISERS, PRECISIONS, REMAINDERS
from deimos.tasks.task import Task

# The smallest value that means something; one mask or sample alone has no variance.
LEAST = {
    "batch_size": 1,
    "n_initial": 1,
    "n_acquired": 0,
    "n_candidates": 1,
    "n_points": 1,
    "n_samples": 2,
    "n_instances": 1,
    "n_masks": 2,
    "n_passes": 1,
    "epochs": 1,
    "minibatch": 1,
    "repeats": 1,
    "seeds": 1,
    "decay": 0,
    "noise": 0,
    "noise_share": 0,
    "smoothing": 0,
    "seed": 0,
}
WORDS = {
    "methods": tuple(by_name(0.0, 0.0)),
    "optimiser": tuple(OPTIMISERS),
    "precision": tuple(PRECISIONS),
    "remainder": REMAINDERS,
    "fitting": FITTING,
    "space": SPACES,
    "initial_sets": ("authors", "random"),
    "targets": ("y", "1 - y", "y - mean"),
    "scale": ("paper", "quick", "smoke", "reference"),
}


def invalid_settings(settings: Mapping[str, Any]) -> list[str]:
    """A sentence for each value, or pair of them, called as in a schedule, that no run can have.

    Values must be of the right types. `methods` are those of a fleet; what is left out is not
    looked at.
    """
    said = []
    for name, value in settings.items():
        for one in value if isinstance(value, list | tuple) else [value]:
            if name in WORDS and one not in WORDS[name]:
                said.append(unknown(name.removesuffix("s").replace("_", " "), one, WORDS[name]))
            elif name in LEAST and one is not None and not LEAST[name] <= one < inf:
                said.append(f"{name} = {one}, wanted {LEAST[name]} or more")
    b, wanted, methods = (settings.get(k) for k in ("batch_size", "n_acquired", "methods"))
    if b and wanted and wanted % b:
        said.append(f"n_acquired = {wanted} is no multiple of the batch size {b}")
    for pool in ("n_candidates", "n_points"):
        if b and settings.get(pool) and settings[pool] < b:
            said.append(f"{pool} = {settings[pool]} is less than the batch size {b}")
    if settings.get("noise") and settings.get("smoothing"):
        said.append("noise and smoothing: one of the two must be 0")
    if methods is not None and (not methods or len(set(methods)) < len(methods)):
        said.append(f"methods = {list(methods)}, wanted one or more, each once")
    return said


def task_conflicts(task: Task, schedule: Any, methods: Iterable[str] = ()) -> list[str]:
    """A sentence for each way in which schedule and methods ask for more than the data have."""
    s, said, n = schedule, [], len(task.train_ids)
    if s.n_initial + s.n_acquired > n:
        said.append(
            f"n_initial + n_acquired = {s.n_initial + s.n_acquired}, but {task.name} has {n} points"
        )
    if task.n_classes == 1 and (s.space == "logits" or "deimos_logits" in methods):
        said.append(
            f"logits are asked for, but {task.name} has no classes: leave the space as it is"
        )
    if task.n_classes == 1:
        known = by_name(0.0, 0.0)
        for method in methods:
            if method in known and known[method].of_classes:
                said.append(f"{method} needs classes, but {task.name} has values to regress on")
    stored = s.initial_sets == "authors" and {len(ids) for ids in task.initial_sets}
    if task.n_classes > 1 and stored != {s.n_initial}:
        if s.n_initial % task.n_classes:
            said.append(f"n_initial = {s.n_initial} is no multiple of the {task.n_classes} classes")
        counts = task.y[task.train_ids].long().bincount(minlength=task.n_classes)
        if counts.min() < s.n_initial // task.n_classes:
            said.append(f"n_initial = {s.n_initial}, but a class has only {counts.min()} points")
    return said


def what_is_wrong(task: Task, schedule: Any, methods: Iterable[str], **others: Any) -> list[str]:
    """A sentence for all that a fleet of these methods cannot have, of any data or of these."""
    methods = list(methods)
    settings = {**schedule.settings, "methods": methods, **others}
    return invalid_settings(settings) + task_conflicts(task, schedule, methods)


def unknown(kind: str, name: object, known: Iterable[str]) -> str:
    """There is no such thing, and which of the known ones was probably meant."""
    near = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.0)
    hint = f"; the nearest is {near[0]!r}" if near else ""
    return f"there is no {kind} {name!r}{hint}"
