"""The active-learning loop: every member of a fleet, from its first iteration to its last (§5).

One by one, each member in a thread of its own; or in step, members with as many labels as each
other fitted as one.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial

import torch

from deimos.experiment import settings_check
from deimos.experiment.iteration import Build, StartedIteration, finish, fit_group, iterate
from deimos.experiment.runs import Iteration, Member, fitting_here
from deimos.experiment.runs import Schedule as Schedule  # part of this module's face
from deimos.models.networks import Network
from deimos.models.training import Fit as Fit
from deimos.progress import progress
from deimos.tasks.task import Task

Ended = tuple[Member, Iteration | BaseException]  # who, and what came of it


def active_learning(task: Task, build: Build, members: Iterable[Member]) -> Iterator[Iteration]:
    """Run every member to the end of its schedule, yielding each iteration as it is done.

    Members that the record has brought part of the way go on from there. Iterations of different
    members come in no fixed order, those of one member do. On a CPU every member works in a thread
    of its own on one core, so that no result depends on how many cores there are. Fitted in
    step, as on a GPU unless their schedules say otherwise, members with as many labels as each
    other are one, which changes how sums are rounded. Left early, as by Ctrl-C, it waits for
    nothing that is under way: fits stop by themselves at their next step. A member that fails, as
    by training that diverges, stops none of the others: when they are done, RuntimeError names it.
    Raises ValueError for schedules that cannot be, or of which some are in step and some are not.
    """
    members, failed = list(members), {}
    check_fleet(task, members)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cuda":  # torch loads its solvers when first used, and no two threads may
        torch.linalg.eigh(torch.eye(2, device=device))
    task, left = task.to(device), threading.Event()
    if any(fitting_here(member.schedule) == "in_step" for member in members):
        ended = _in_step(members, partial(fit_group, task, build, left.is_set))
    else:
        at_once = torch.get_num_threads() if device.type == "cpu" else 1
        ended = _one_by_one(members, partial(iterate, task, build, left.is_set), at_once)
    # Labelled points are what a step costs: counted in them, the bar's expected end is about right.
    total = sum(sum(_labelled_counts(member)) for member in members)
    try:
        with (
            closing(ended),
            progress(total=total, unit="label", name=task.name) as bar,
        ):
            for member, outcome in ended:
                if isinstance(outcome, BaseException):
                    failed[member] = outcome
                    continue
                yield outcome
                bar.update(outcome.n_labelled)
    finally:
        left.set()
    if failed:
        said = [
            f"{m.method}, repeat {m.repeat}, {len(m.acquired)} acquired: {error}"
            for m, error in failed.items()
        ]
        raise RuntimeError("; ".join(said)) from next(iter(failed.values()))


def check_fleet(task: Task, members: Iterable[Member]) -> None:
    """ValueError naming all that is wrong with the members' schedules, or too much for the data."""
    methods: dict[Schedule, list[str]] = {}
    for member in members:
        methods.setdefault(member.schedule, []).append(member.method)
    found = [
        [*settings_check.invalid_settings(s.settings), *settings_check.task_conflicts(task, s, its)]
        for s, its in methods.items()
    ]
    if len({fitting_here(s) for s in methods}) > 1:
        found.append(["fitting differs among schedules: run those in step by themselves"])
    if any(found):
        raise ValueError("; ".join(dict.fromkeys(sum(found, []))))


def _labelled_counts(member: Member) -> list[int]:
    """Labelled points at every step still to come."""
    s = member.schedule
    return [s.n_initial + n for n in range(len(member.acquired), s.n_acquired + 1, s.batch_size)]


def _one_by_one(
    members: list[Member], step: Callable[[Member], Iteration], at_once: int
) -> Iterator[Ended]:
    """Every member by itself, so many at once."""
    with _threads(at_once, cores=1) as pool:
        running = {pool.submit(step, member): member for member in members}
        while running:
            ended = _ended(running)
            running |= {pool.submit(step, member): member for member in _going_on(ended)}
            yield from ended


def _in_step(
    members: list[Member],
    fit: Callable[[list[Member]], list[tuple[StartedIteration, Network | ValueError, float]]],
) -> Iterator[Ended]:
    """Members at one point of one schedule are fitted as one, then acquire side by side.

    The next are fitted while whoever takes these outcomes records them.
    """
    cores = torch.get_num_threads()
    with _threads(1, cores) as fitter, _threads(cores, cores=1) as pool:

        def begin(waiting: list[Member]) -> tuple[list[Member], Future, list[Member]] | None:
            """Start the next group's fit; return its members, the fit, and those still waiting."""
            if not waiting:
                return None
            group, others = _next(waiting)
            return group, fitter.submit(fit, group), others

        fitting = begin(members)
        while fitting:
            group, fitted, waiting = fitting
            if (error := fitted.exception()) is not None:
                fitting = begin(waiting)
                yield from ((member, error) for member in group)
                continue
            running = {pool.submit(finish, *one): one[0].member for one in fitted.result()}
            while running:
                ended = _ended(running)
                waiting += _going_on(ended)
                if not running:
                    fitting = begin(waiting)
                yield from ended


@contextmanager
def _threads(n: int, cores: int) -> Iterator[ThreadPoolExecutor]:
    """So many threads, with so many cores for torch in each; left, it waits for none of them."""
    pool = ThreadPoolExecutor(n, initializer=torch.set_num_threads, initargs=(cores,))
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _ended(running: dict[Future[Iteration], Member]) -> list[Ended]:
    """Collect the results of finished work, and take it out of `running`."""
    done, _ = wait(running, return_when=FIRST_COMPLETED)
    return [(running.pop(future), future.exception() or future.result()) for future in done]


def _going_on(ended: list[Ended]) -> list[Member]:
    """Members that continue, with their new labels."""
    return [
        replace(member, acquired=member.acquired + outcome.acquired)
        for member, outcome in ended
        if isinstance(outcome, Iteration) and outcome.acquired
    ]


def _next(members: list[Member]) -> tuple[list[Member], list[Member]]:
    """Those that are to be fitted next, at one point of one schedule, and the others.

    Who is behind comes first, so that what was stopped at different points falls into step.
    """
    first = min(members, key=lambda member: len(member.acquired))
    group = [m for m in members if _point(m) == _point(first)]
    return group, [m for m in members if m not in group]


def _point(member: Member) -> tuple[Schedule, int]:
    return member.schedule, len(member.acquired)
