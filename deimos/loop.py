"""The active-learning loop: label, fit from scratch, evaluate, acquire (§5, App. D).

A fleet is every method in every repeat of one experiment; each member is one run. What a member
does depends on its own (seed, repeat, iteration) alone, through named random streams: never on who
else is in the fleet, nor on how often it was stopped and taken up again.

Two index spaces: *ids* count the rows of the full training data, *positions* the sample points of
one iteration. They meet in `_acquire` and nowhere else.
"""

import os
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from tqdm import tqdm

from deimos import limits, mc_dropout, splits, training
from deimos.data import Task
from deimos.mc_dropout import Beliefs
from deimos.methods import Method, by_name, sample_points
from deimos.networks import Network
from deimos.together import Start, fit_together

Build = Callable[[torch.Generator], Network]


@dataclass(frozen=True)
class Schedule:
    """Every setting of a run but its method and repeat; the paper's values are the notebooks'."""

    batch_size: int  # b, points labelled per iteration
    n_initial: int  # labelled points at the start
    n_acquired: int  # points labelled by the end, a multiple of the batch size
    n_candidates: int | None  # unlabelled points considered per iteration; None is the whole pool
    epochs: int
    minibatch: int
    decay: float  # C, with λ = C/N
    n_masks: int  # J
    n_passes: int  # Monte-Carlo passes behind every test score
    noise: float = 0.0  # τ⁻¹ on the diagonal of V
    smoothing: float = 0.0  # τ_s⁻¹ inside the inverse of eq. 6; one of the two is 0
    labelled_in_sample: bool = True  # whether DEIMOS' sample holds labelled points, as X_samp does
    optimiser: str = "adam"
    initial_sets: str = "authors"  # theirs for the repeats and data they exist for; or "random"
    seed: int = 0
    precision: str = field(default_factory=training.asked_precision)  # of the trunk's fit


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


def methods(schedule: Schedule) -> dict[str, Method]:
    """Every method by its name, with this schedule's settings."""
    return by_name(schedule.noise, schedule.smoothing, schedule.labelled_in_sample)


def active_learning(
    task: Task, build: Build, members: Iterable[Member], together: bool | None = None
) -> Iterator[Iteration]:
    """Run every member to the end of its schedule, yielding each iteration as it is done.

    Members that the record has brought part of the way go on from there. Iterations of different
    members come in no fixed order, those of one member do. On a CPU every member works in a thread
    of its own on one core, so that no result depends on how many cores there are. With `together`,
    as on a GPU unless `DEIMOS_TOGETHER` is 0, members with as many labels as each other are fitted
    in step, which changes how sums are rounded. Left early, as by Ctrl-C, it waits for nothing that
    is under way: fits stop by themselves at their next step. A member that fails, as by training
    that diverges, stops none of the others: when they are done, RuntimeError names it.
    """
    waiting, failed = list(members), {}
    check(task, waiting)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if together is None:
        asked = os.environ.get("DEIMOS_TOGETHER")
        together = asked == "1" if asked else device.type == "cuda"
    if device.type == "cuda":  # torch loads its solvers when first used, and no two threads may
        torch.linalg.eigh(torch.eye(2, device=device))
    task = task.to(device)
    left = threading.Event()
    step = partial(_iterate, task, build, left.is_set)
    cores = torch.get_num_threads()
    pool = ThreadPoolExecutor(
        cores if together or device.type == "cpu" else 1,
        initializer=torch.set_num_threads,
        initargs=(1,),
    )
    fitter = ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(cores,))

    def begin() -> tuple[list[Member], Future]:
        """Have the next members be fitted in step, who are not `waiting` any more then."""
        group, waiting[:] = _in_step(waiting)
        return group, fitter.submit(_fit_in_step, task, build, left.is_set, group)

    # Labelled points are what a step costs: counted in them, the bar's expected end is about right.
    total = sum(sum(_labelled_counts(member)) for member in waiting)
    running: dict[Future[Iteration], Member] = {}
    fitting = None  # in step
    try:
        with tqdm(total=total, unit="label", desc=task.name, mininterval=1.0) as bar:
            while waiting or running or fitting:
                if not together:
                    running |= {pool.submit(step, member): member for member in waiting}
                    waiting = []
                elif not running:
                    group, fitted = fitting or begin()
                    fitting = None
                    if (error := fitted.exception()) is not None:
                        failed |= dict.fromkeys(group, error)
                        continue
                    running = {pool.submit(_finish, *one): one[0].member for one in fitted.result()}
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                ended = [(running.pop(future), future) for future in done]
                failed |= {
                    member: error for member, future in ended if (error := future.exception())
                }
                iterations = [future.result() for member, future in ended if member not in failed]
                for one in iterations:
                    if one.acquired:
                        acquired = one.member.acquired + one.acquired
                        waiting.append(replace(one.member, acquired=acquired))
                if together and waiting and not running:
                    fitting = begin()  # while what is done is recorded
                for one in iterations:
                    yield one
                    bar.update(one.n_labelled)
    finally:
        left.set()
        for threads in (pool, fitter):
            threads.shutdown(wait=False, cancel_futures=True)
    if failed:
        said = [
            f"{m.method}, repeat {m.repeat}, {len(m.acquired)} acquired: {error}"
            for m, error in failed.items()
        ]
        raise RuntimeError("; ".join(said)) from next(iter(failed.values()))


def check(task: Task, members: Iterable[Member]) -> None:
    """ValueError naming all that is wrong with the members' schedules, or too much for the data."""
    schedules = dict.fromkeys(member.schedule for member in members)
    found = [[*limits.problems(vars(s)), *limits.misfits(task, s)] for s in schedules]
    if any(found):
        raise ValueError("; ".join(dict.fromkeys(sum(found, []))))


def _labelled_counts(member: Member) -> list[int]:
    """Labelled points at every step still to come."""
    s = member.schedule
    return [s.n_initial + n for n in range(len(member.acquired), s.n_acquired + 1, s.batch_size)]


@dataclass(frozen=True)
class _Begun:
    """An iteration of a member before its network is fitted."""

    task: Task  # as the member's repeat meets it
    member: Member
    labelled: Int[Tensor, " N"]  # ids
    streams: Streams


def _begin(task: Task, member: Member) -> _Begun:
    schedule = member.schedule
    streams = Streams(schedule.seed, member.repeat, len(member.acquired), task.x.device)
    task = splits.for_repeat(task, member.repeat, _of_repeat(member).numpy("test set"))
    labelled = torch.tensor([*initial_set(task, member), *member.acquired], device=task.x.device)
    return _Begun(task, member, labelled, streams)


def _iterate(task: Task, build: Build, stopped: Callable[[], bool], member: Member) -> Iteration:
    """Label, fit, evaluate and acquire, once."""
    begun = _begin(task, member)
    began = time.perf_counter()
    network = fit(task, build, member.schedule, begun.labelled, begun.streams, stopped)
    return _finish(begun, network, time.perf_counter() - began)


def _finish(begun: _Begun, network: Network | ValueError, fit_seconds: float) -> Iteration:
    """Evaluate and acquire, once, with the fitted network; or raise why there is none."""
    if isinstance(network, ValueError):
        raise network
    task, member, streams = begun.task, begun.member, begun.streams
    schedule, n_acquired = member.schedule, len(member.acquired)
    began = time.perf_counter()
    scores = evaluate(task, network, schedule.n_passes, streams)
    evaluated = time.perf_counter()
    acquired, seen = (), {}
    if n_acquired < schedule.n_acquired:
        acquired, seen = _acquire(task, network, member, begun.labelled, streams)
    metrics = {
        **{f"test/{name}": score for name, score in scores.items()},
        **seen,
        "time/fit_seconds": fit_seconds,
        "time/evaluate_seconds": evaluated - began,
        "time/acquire_seconds": time.perf_counter() - evaluated,
    }
    return Iteration(member, n_acquired, len(begun.labelled), metrics, acquired)


def _in_step(members: list[Member]) -> tuple[list[Member], list[Member]]:
    """Those that are to be fitted next, at one point of one schedule, and the others.

    Who is behind comes first, so that what was stopped at different points falls into step.
    """
    first = min(members, key=lambda member: len(member.acquired))
    group = [m for m in members if _point(m) == _point(first)]
    return group, [m for m in members if m not in group]


def _point(member: Member) -> tuple[Schedule, int]:
    return member.schedule, len(member.acquired)


def _fit_in_step(
    task: Task, build: Build, stopped: Callable[[], bool], members: list[Member]
) -> list[tuple[_Begun, Network | ValueError, float]]:
    """What `_finish` takes, for members at one point of one schedule, who share the time."""
    began = time.perf_counter()
    begun = [_begin(task, member) for member in members]

    networks = fit_together(
        lambda i: _start(build, begun[i].labelled, begun[i].streams), len(begun), task.x, task.y,
        **_fitting(members[0].schedule), stopped=stopped,
    )  # fmt: skip
    share = (time.perf_counter() - began) / len(begun)
    return [(one, network, share) for one, network in zip(begun, networks, strict=True)]


def fit(
    task: Task,
    build: Build,
    schedule: Schedule,
    labelled: Int[Tensor, " N"],
    streams: Streams,
    stopped: Callable[[], bool] = lambda: False,
) -> Network:
    """A new network, trained from scratch on the labelled ids unless `stopped` first."""
    start = _start(build, labelled, streams)
    return training.fit(
        start.network, task.x[labelled], task.y[labelled], order=start.order, dropout=start.dropout,
        **_fitting(schedule), stopped=stopped,
    )  # fmt: skip


def _start(build: Build, labelled: Int[Tensor, " N"], streams: Streams) -> Start:
    """What a fit begins with, anew at each call: weights and streams as the iteration's are."""
    network = build(streams.torch("weights", "cpu")).to(streams.device)
    return Start(network, labelled, streams.torch("minibatch order"), streams.torch("dropout"))


def _fitting(schedule: Schedule) -> dict[str, object]:
    """The settings of a schedule that training takes."""
    names = "epochs", "minibatch", "decay", "optimiser", "precision"
    return {name: getattr(schedule, name) for name in names}


def evaluate(task: Task, network: Network, n_passes: int, streams: Streams) -> dict[str, float]:
    """Test scores of the mean of `n_passes` predictions with fresh masks."""
    features = mc_dropout.trunk_features(network, task.test_x)
    answers = mc_dropout.predictive_mean(network, features, n_passes, streams.torch("evaluation"))
    return task.scores(answers)


def _acquire(
    task: Task, network: Network, member: Member, labelled: Int[Tensor, " N"], streams: Streams
) -> tuple[tuple[int, ...], dict[str, float]]:
    """The ids to label next, and what the record keeps of how they were chosen."""
    schedule = member.schedule
    method = methods(schedule)[member.method]
    ids, is_candidate = sample_points(
        task.train_ids,
        labelled,
        method.n_candidates or schedule.n_candidates,
        method.sample,
        streams.numpy("candidates"),
    )
    features, predictions, embedded, seen = None, None, None, {}
    if method.masks or method.features:
        features = mc_dropout.trunk_features(network, task.x[ids])
    if method.masks == "shared":
        masks = mc_dropout.draw_masks(network, (schedule.n_masks,), streams.torch("masks"))
        predictions = mc_dropout.predict(network, features, masks)
    elif method.masks == "fresh":
        predictions = mc_dropout.predict_fresh(
            network, features, schedule.n_masks, streams.torch("masks")
        )
    if method.features:
        embedded = mc_dropout.embeddings(network, features)
    if predictions is not None:
        seen["model/mean_variance"] = mc_dropout.mean_variance(predictions)
    beliefs = Beliefs(is_candidate.nonzero().squeeze(1), predictions, embedded)
    batch, report = method.acquire(beliefs, schedule.batch_size, streams.numpy(member.method))
    seen |= report
    if network.classifies and schedule.batch_size > 1:
        features = mc_dropout.trunk_features(network, task.x[ids[batch]])
        probabilities = mc_dropout.predictive_mean(
            network, features, schedule.n_masks, streams.torch("diversity")
        )
        seen["batch/diversity"] = mc_dropout.batch_diversity(probabilities)
    return tuple(ids[batch].tolist()), seen


def initial_set(task: Task, member: Member) -> tuple[int, ...]:
    """Ids labelled at the start of a repeat, the same for every method."""
    schedule = member.schedule
    stored = task.initial_sets if schedule.initial_sets == "authors" else ()
    if member.repeat <= len(stored) and len(stored[member.repeat - 1]) == schedule.n_initial:
        return stored[member.repeat - 1]
    return task.draw_initial_set(schedule.n_initial, _of_repeat(member).numpy("initial set"))


def _of_repeat(member: Member) -> Streams:
    """The streams of what a repeat decides once, before its first iteration."""
    return Streams(member.schedule.seed, member.repeat, 0, torch.device("cpu"))
