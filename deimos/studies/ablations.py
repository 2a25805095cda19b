"""Ablations: the paper's DEIMOS with one thing changed at a time, and other methods (B2).

Every variant is a run of its own name, "question: answer"; all start from the same labelled sets
and random streams, so that a repeat of one is paired with the same repeat of the base.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from deimos.experiment import settings_check
from deimos.experiment.runs import Schedule
from deimos.tasks.mnist import rescaled
from deimos.tasks.task import Task

EXPERIMENT = "what-matters"  # a task's name of its own: these are none of the paper's runs
BASE = "deimos"


@dataclass(frozen=True)
class Variant:
    """One row of the comparison: its name, and what it runs."""

    name: str
    method: str
    schedule: Schedule
    task: Task
    base: str  # what it is a variant of: those of one base are compared

    @property
    def tags(self) -> dict[str, str]:
        """Tags that its runs are known by, beside their settings."""
        return {"variant": self.name, "base": self.base}


def variants(
    task: Task,
    base: Schedule,
    *,
    n_candidates: Sequence[int | None] = (),
    n_masks: Sequence[int] = (),
    noise_factors: Sequence[int | float] = (),
    brightest: Sequence[int | float] = (),
    as_printed: bool = False,
    precisions: Sequence[str] = (),
    spaces: Sequence[str] = (),
    optimisers: Sequence[str] = (),
    remainders: Sequence[str] = (),
    methods: Sequence[str] = (),
) -> list[Variant]:
    """The base and a variant for every other value of a setting, and for every other method.

    `n_candidates` None is the whole pool; `brightest` the largest value of a pixel, 255 in the
    base. Raises `ValueError` for a variant that is the base or another one again, and, before
    anything is run, for all that cannot be run.
    """
    task = replace(task, name=EXPERIMENT)
    printed = {"noise": 0.0, "smoothing": base.noise + base.smoothing}
    changes = [
        *((f"sample: {_sample(n)}", {"n_candidates": n}) for n in n_candidates),
        *((f"masks: J = {J}", {"n_masks": J}) for J in n_masks),
        *((f"noise: × {by:g}", _times(base, by)) for by in noise_factors),
        *([("eq. 6: as printed", printed)] if as_printed else []),
        *((f"precision: {one}", {"precision": one}) for one in precisions),
        *((f"space: {one}", {"space": one}) for one in spaces),
        *((f"optimiser: {one}", {"optimiser": one}) for one in optimisers),
        *((f"remainder: {one}", {"remainder": one}) for one in remainders),
    ]
    digest = hashlib.sha256(f"{task.checksum} {base}".encode()).hexdigest()[:16]
    found = [Variant(BASE, BASE, base, task, digest)]
    found += [Variant(name, BASE, base.changed(**new), task, digest) for name, new in changes]
    found += [
        Variant(f"pixels: 0 to {most:g}", BASE, base, rescaled(task, most), digest)
        for most in brightest
    ]
    found += [Variant(f"method: {method}", method, base, task, digest) for method in methods]
    said, known = [], {}
    for one in found:
        said += settings_check.what_is_wrong(one.task, one.schedule, [one.method])
        what = (one.method, one.schedule, one.task.checksum)
        if what in known:
            said.append(f"{one.name!r} is {known[what]!r} again: give it another value")
        known[what] = one.name
    if said:
        raise ValueError("; ".join(dict.fromkeys(said)))
    return found


def _sample(n: int | None) -> str:
    return "the whole pool" if n is None else f"{n:,} candidates"


def _times(base: Schedule, by: int | float) -> dict[str, float]:
    return {"noise": by * base.noise, "smoothing": by * base.smoothing}
