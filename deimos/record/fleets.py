"""Writing the record: an iteration becomes an MLflow step of its member's run.

One MLflow experiment a notebook; in it one run a member, and one run an execution of the notebook.
The ids that a member acquires are a metric too, so that the database alone resumes a run. An
iteration is written in one transaction: it is there whole, or not at all.
"""

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import product
from math import isfinite
from typing import Any

from mlflow.entities import Dataset, DatasetInput, Metric, Param, Run, RunTag

from deimos.experiment import settings_check
from deimos.experiment.iteration import points_of_repeat
from deimos.experiment.runs import Iteration, Member, Schedule, Slice, fitting_here
from deimos.record import claims, executions, points, queries, results, store
from deimos.record.executions import Experiment
from deimos.record.provenance import code_fingerprint, machine
from deimos.tasks.task import Task, checksum

# Settings that runs did not have at first, with the value that was then the only one.
LATER = {"fitting": "auto", "space": "probabilities"}
LATER_IN_INSTANCES = {"precision": "float32"}
_planned: list[Slice] | None = None  # what `planning` collects
LARGEST_BATCH = 900  # an iteration is one write, of at most `store.LARGEST_WRITE` metrics


@dataclass(frozen=True)
class _Fleet:
    """Everything that a fleet's runs have in common."""

    experiment: Experiment
    task: Task
    schedule: Schedule
    settings: dict[str, Any]  # a run's parameters
    identity: dict[str, str]  # tags that its runs are known by
    here: dict[str, str]  # tags on how and where it is run now


@contextmanager
def fleet(
    experiment: Experiment,
    task: Task,
    network_name: str,
    methods: Sequence[str],
    repeats: int,
    schedule: Schedule,
    **tags: str,
) -> Iterator[list[Member]]:
    """Every method in every repeat as a run of the record; yields the members with work left.

    A run is known by its data, network, schedule, method, repeat, scale and the fingerprint of the
    code: a finished one is skipped, one that was stopped goes on after its last whole iteration.
    One that another execution is at work on is waited for. On leaving, each run gets the status
    that its record deserves. `tags` are part of what a run is known by; `variant`, the run's name
    where its method is not enough, stands in tables for the method (`ablations`). Of an execution
    of a slice, all members but the slice's are left to others; inside `planning`, all of them.
    """
    wanted = [(method, repeat) for repeat, method in product(range(1, repeats + 1), methods)]
    if _planned is not None:
        _planned.extend(Slice(schedule.batch_size, (m,), (repeat,)) for m, repeat in wanted)
        yield []
        return
    _check(task, methods, repeats, schedule)
    asked = _describe(experiment, task, network_name, schedule, tags)
    if part := experiment.part:
        wanted = [member for member in wanted if part.covers(schedule.batch_size, *member)]
    known = _known(experiment, asked.identity)
    finished = {member for member, run in known.items() if queries.is_finished(run)}
    names = [_digest({**asked.identity, "member": m})[:8] for m in wanted if m not in finished]
    with claims.claim(experiment, names):
        members = _open_runs(asked, wanted)
        _keep_beginnings(task, members)
        left = "KILLED"  # by Ctrl-C, or by leaving early
        try:
            yield members
        except Exception:
            left = "FAILED"
            raise
        finally:
            for member in members:
                _, whole = queries.recorded(member.run_id, schedule)
                store.client().set_terminated(member.run_id, "FINISHED" if whole else left)


@contextmanager
def planning() -> Iterator[list[Slice]]:
    """Collect a slice for each member of every fleet that is entered in here; run none of them."""
    global _planned
    _planned = slices = []
    try:
        yield slices
    finally:
        _planned = None


def _describe(
    experiment: Experiment, task: Task, network: str, schedule: Schedule, tags: dict[str, str]
) -> _Fleet:
    data = {"task": task.name, "checksum": task.checksum, "network": network}
    settings = {**data, **schedule.settings}
    identity = {
        "kind": "run",
        "experiment": task.name,
        "scale": experiment.scale,
        "settings": _digest(_known_by(settings)),
        "fingerprint": code_fingerprint(),
        **tags,
    }
    here = {**machine(), "fitted": fitting_here(schedule), "execution": experiment.run_id}
    return _Fleet(experiment, task, schedule, settings, identity, here)


def _open_runs(asked: _Fleet, wanted: Sequence[tuple[str, int]]) -> list[Member]:
    """Find or make the run of each wanted member; return the members with work left."""
    known = _known(asked.experiment, asked.identity)
    counts, now = dict.fromkeys(executions.COUNTS, 0), _asked(asked.experiment)
    members = []
    for method, repeat in wanted:
        run = known.get((method, repeat))
        run_id = run.info.run_id if run else _create(asked, method, repeat)
        acquired, whole = queries.recorded(run_id, asked.schedule)
        counts["skipped" if whole else "resumed" if run else "new"] += 1
        # `table` shows the settings that were last asked for, had they to be run or not.
        fresh = {"asked": now}
        if not whole:
            fresh |= asked.here
            members.append(Member(method, repeat, asked.schedule, acquired, run_id))
        params = {**asked.settings, "method": method, "repeat": repeat}
        store.client().log_batch(
            run_id,
            params=[Param(name, str(value)) for name, value in params.items()],
            tags=[RunTag(name, value) for name, value in fresh.items()],
        )
        store.client().update_run(run_id, "FINISHED" if whole else "RUNNING")
    executions.count(asked.experiment, counts)
    return members


def _keep_beginnings(task: Task, members: Sequence[Member]) -> None:
    """Record the points that members begin with and are tested on, as a file of each run."""
    shared = None
    for member in members:
        initial, test = points_of_repeat(task, member.schedule, member.repeat)
        if test is None:
            shared = shared or checksum([task.test_x, task.test_y])
        points.keep_beginning(member.run_id, initial, shared if test is None else None, test)


def _known(experiment: Experiment, identity: dict[str, str]) -> dict[tuple[str, int], Run]:
    """The run of each member that has one: of several, the one that came furthest."""
    runs = queries.search([experiment.id], **identity)
    tags = [(run.data.tags, run) for run in queries.by_progress(runs)]
    return {(known["method"], int(known["repeat"])): run for known, run in tags}


def _known_by(settings: dict, later: dict = LATER) -> dict:
    """The settings, but for those that came `later` and are what they always were."""
    return {k: v for k, v in settings.items() if k not in later or v != later[k]}


def _digest(settings: dict) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def _asked(experiment: Experiment) -> str:
    """The time; if the clock was set back since something was last asked for, just after that."""
    last = max(run.data.tags.get("asked", "") for run in queries.search([experiment.id]))
    after = datetime.fromisoformat(last) + timedelta(microseconds=1) if last else None
    return max(_now(), after.isoformat(timespec="microseconds") if after else "")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _check(task: Task, methods: Sequence[str], repeats: int, schedule: Schedule) -> None:
    """ValueError naming all that is wrong, before any run is made."""
    said = settings_check.what_is_wrong(task, schedule, methods, repeats=repeats)
    if schedule.batch_size > LARGEST_BATCH:
        said.append(f"batch_size = {schedule.batch_size} is more than {LARGEST_BATCH}")
    if said:
        raise ValueError("; ".join(said))


def _create(asked: _Fleet, method: str, repeat: int) -> str:
    """A new run for a member, found again by its tags, with the data set as its input."""
    task, b = asked.task, asked.schedule.batch_size
    data = {name: asked.settings[name] for name in ("task", "checksum", "network")}
    about = {**data, **asked.identity, **asked.here, "method": method, "repeat": str(repeat)}
    shown = about.get("variant", method)
    tags = {
        **about,
        "batch_size": str(b),
        "source": task.source,
        "stand_in": str(task.stand_in),
        "mlflow.source.name": asked.experiment.name,
        "mlflow.source.type": "NOTEBOOK",
        store.NOTE: f"{shown} on {task.name} ({task.source}), repeat {repeat}: "
        f"{asked.schedule.n_acquired} labels acquired, {b} an iteration.",
    }
    name = f"{shown} · b{b} · repeat {repeat}"
    run_id = store.client().create_run(asked.experiment.id, tags=tags, run_name=name).info.run_id
    data = Dataset(task.name, task.checksum[:36], "local", json.dumps({"source": task.source}))
    store.log_inputs(run_id, [DatasetInput(data)])
    return run_id


def log(iteration: Iteration) -> None:
    """Write one iteration, whole: its metrics at step `n_acquired`, its ids at their positions.

    What the model said of the points that it picked goes to a file of the run (`points.py`). Raises
    `ValueError`, and writes nothing, if a metric is not finite or a batch is not full.
    """
    member, n = iteration.member, iteration.n_acquired
    who = f"{member.method}, repeat {member.repeat}, {n} acquired"
    full = member.schedule.batch_size if n < member.schedule.n_acquired else 0
    if len(iteration.acquired) != full:
        raise ValueError(f"{who}: a batch of {len(iteration.acquired)} points, not {full}")
    values = {**iteration.metrics, queries.LABELLED: float(iteration.n_labelled)}
    names = [results.metric_name(key) for key in (*values, queries.IDS)]
    if len(values) == len(iteration.metrics) or len(set(names)) < len(names):
        raise ValueError(f"{who}: metrics {list(iteration.metrics)} need names of their own")
    for key, value in values.items():
        if not isfinite(value):
            raise ValueError(f"{who}: {key} is {value}")
    if iteration.mean_predictions:
        points.keep_predictions(iteration)  # first: an iteration that is recorded has them
    now = int(time.time() * 1000)
    written = [Metric(key, value, now, n) for key, value in values.items()]
    written += [Metric(queries.IDS, id, now, n + i) for i, id in enumerate(iteration.acquired, 1)]
    store.client().log_batch(member.run_id, metrics=written)  # metrics alone: one transaction


def log_instances(
    experiment: Experiment,
    name: str,
    columns: dict[str, Sequence[float]],
    source: str = "simulation",
    modules: Sequence[str] = (),
    **settings: int | float | str,
) -> None:
    """A simulation as one run: each metric's value for every instance, in `table` the repeats.

    `settings` has at least a `batch_size`. Logged once: the same settings and code give the same
    values again. `modules` are those that the values depend on beside the science modules.
    """
    identity = {
        "kind": "run",
        "experiment": name,
        "scale": queries.ANY_SCALE,
        "batch_size": str(settings["batch_size"]),
        "settings": _digest(_known_by(settings, LATER_IN_INSTANCES)),
        "fingerprint": code_fingerprint(also=modules),
    }
    with claims.claim(experiment, [_digest(identity)[:8]]):
        runs = filter(queries.is_finished, queries.search([experiment.id], **identity))
        done = next((run.info.run_id for run in runs), None)
        executions.count(experiment, {"skipped" if done else "new": 1})
        run_id = done or _create_simulation(experiment, identity, columns, source, settings)
        store.client().set_tag(run_id, "asked", _asked(experiment))


def _create_simulation(
    experiment: Experiment,
    identity: dict[str, str],
    columns: dict[str, Sequence[float]],
    source: str,
    settings: dict[str, int | float | str],
) -> str:
    """A new run with every instance as a step, in as many writes as it takes, then finished."""
    about = {"method": "deimos", "repeat": "1", "step": "repeat", "stand_in": "False"}
    about |= {"source": source, "execution": experiment.run_id, **machine(), **identity}
    longest = max(map(len, columns.values()))
    about |= {"mlflow.source.name": experiment.name, "mlflow.source.type": "NOTEBOOK"}
    about[store.NOTE] = f"{identity['experiment']} ({source}): {longest} instances, one a step."
    run_name = f"deimos · b{settings['batch_size']} · {longest} instances"
    client = store.client()
    run_id = client.create_run(experiment.id, tags=about, run_name=run_name).info.run_id
    client.log_batch(run_id, params=[Param(k, str(v)) for k, v in settings.items()])
    now = int(time.time() * 1000)
    for metric, column in columns.items():
        written = [Metric(f"instance/{metric}", v, now, i) for i, v in enumerate(column, 1)]
        store.log_metrics(run_id, written)
    client.set_terminated(run_id)
    return run_id
