"""Runs: a method in a repeat under a schedule, its iterations and its random streams (§5).

A fleet is every method in every repeat of one experiment; each member is one run. What a member
does depends on its own (seed, repeat, iteration) alone, through named random streams: never on who
else is in the fleet, nor on how often it was stopped and taken up again.
"""

import json
import zlib
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch

from deimos.models.training import Fit

FITTING = ("auto", "in_step", "one_by_one")


@dataclass(frozen=True)
class Schedule:
    """Every setting of a run but its method and repeat; the paper's values are the notebooks'."""

    batch_size: int  # b, points labelled per iteration
    n_initial: int  # labelled points at the start
    n_acquired: int  # points labelled by the end, a multiple of the batch size
    n_candidates: int | None  # unlabelled points considered per iteration; None is the whole pool
    fit: Fit  # of each new network
    n_masks: int  # J
    n_passes: int  # Monte-Carlo passes behind every test score
    noise: float = 0.0  # τ⁻¹ on the diagonal of V
    smoothing: float = 0.0  # τ_s⁻¹ inside the inverse of eq. 6; one of the two is 0
    labelled_in_sample: bool = True  # whether DEIMOS' sample holds labelled points, as X_samp does
    initial_sets: str = "authors"  # theirs for the repeats and data they exist for; or "random"
    seed: int = 0
    fitting: str = "auto"  # of a fleet: as one, "in_step", or "one_by_one"; auto: in step on a GPU
    space: str = "probabilities"  # of DEIMOS' covariance, and so of noise; or "logits" (§3.4)

    @property
    def settings(self) -> dict[str, int | float | str | bool | None]:
        """Every setting by its name, those of the fit among them, as the record has them."""
        return {k: v for k, v in vars(self).items() if k != "fit"} | vars(self.fit)

    def changed(self, **settings: int | float | str | bool | None) -> "Schedule":
        """The schedule with other values of these settings, which may be those of its fit."""
        of_fit = {name: settings.pop(name) for name in vars(self.fit) if name in settings}
        return replace(self, fit=replace(self.fit, **of_fit), **settings)


def fitting_here(schedule: Schedule) -> str:
    """The way in which this machine fits a fleet: the schedule's, or else the faster one."""
    if schedule.fitting != "auto":
        return schedule.fitting
    return "in_step" if torch.cuda.is_available() else "one_by_one"


@dataclass(frozen=True)
class Member:
    """One method in one repeat: one run of the record, with the ids it has acquired so far."""

    method: str
    repeat: int  # from 1
    schedule: Schedule
    acquired: tuple[int, ...] = ()
    run_id: str = ""


@dataclass(frozen=True)
class Iteration:
    """One step of one member: the scores of the model fitted after `n_acquired` acquisitions."""

    member: Member
    n_acquired: int
    n_labelled: int
    metrics: dict[str, float]
    acquired: tuple[int, ...]  # ids picked with that model, in order; none at the last step
    mean_predictions: tuple[tuple[float, ...], ...] = ()  # its answers for them, one a point


@dataclass(frozen=True)
class Streams:
    """The named random streams of one iteration, the same for every method of a repeat."""

    seed: int
    repeat: int
    n_acquired: int
    device: torch.device

    def numpy(self, name: str) -> np.random.Generator:
        """Stream `name` as numpy's generator."""
        key = [self.seed, self.repeat, self.n_acquired, zlib.crc32(name.encode())]
        return np.random.default_rng(np.random.SeedSequence(key))

    def torch(self, name: str, device: str | torch.device | None = None) -> torch.Generator:
        """Stream `name` as torch's generator, on this iteration's device unless told otherwise."""
        seed = int(self.numpy(name).integers(2**62))
        return torch.Generator(device or self.device).manual_seed(seed)


def repeat_streams(seed: int, repeat: int) -> Streams:
    """The streams of what a repeat decides once, before its first iteration."""
    return Streams(seed, repeat, 0, torch.device("cpu"))


@dataclass(frozen=True)
class Slice:
    """The members of a notebook's fleets at one batch size that have these methods and repeats."""

    batch_size: int
    methods: tuple[str, ...]
    repeats: tuple[int, ...]

    def __str__(self) -> str:
        repeats = ", ".join(map(str, self.repeats))
        return f"b{self.batch_size} · {', '.join(self.methods)} · repeat {repeats}"

    def covers(self, batch_size: int, method: str, repeat: int) -> bool:
        """True if this member is one of the slice's."""
        return batch_size == self.batch_size and method in self.methods and repeat in self.repeats

    def to_tag(self) -> str:
        """As a tag holds it."""
        return json.dumps(asdict(self))

    @classmethod
    def from_tag(cls, tag: str | None) -> "Slice | None":
        """The slice that `to_tag` wrote; None of None."""
        if tag is None:
            return None
        values = json.loads(tag)
        return cls(values["batch_size"], tuple(values["methods"]), tuple(values["repeats"]))
