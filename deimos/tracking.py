"""The record: an iteration becomes an MLflow step, and runs become one tidy table.

One MLflow experiment a notebook; in it one run a member, and one run an execution of the notebook.
The ids that a member acquires are a metric too, so that the database alone resumes a run. An
iteration is written in one transaction: it is there whole, or not at all.
"""

import argparse
import atexit
import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from itertools import product
from math import isfinite
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from deimos import loop, record, store, views
from deimos.data import ROOT as ROOT  # the store and the notebooks lie under it
from deimos.data import Task, published_curves
from deimos.loop import Iteration, Member, Schedule
from deimos.provenance import code_fingerprint, machine
from deimos.store import uri as store_uri

SCALES = ("paper", "quick", "smoke")
STATUS = {"finished": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}
COUNTS = ("new", "resumed", "skipped")
LARGEST_BATCH = 900  # an iteration is one write, of at most 1,000 metrics


@dataclass(frozen=True)
class Experiment:
    """A notebook's place in the record, and the run of this execution of it."""

    name: str
    id: str
    scale: str
    run_id: str


def _client() -> MlflowClient:
    return _open(store_uri())


@cache
def _open(uri: str) -> MlflowClient:
    """The store, made if it is missing; `ConnectionError` if it cannot be reached or written."""
    try:
        with store.alone(uri):
            client = MlflowClient(uri)
            client.search_experiments(max_results=1)
    except (OSError, sqlite3.Error, SQLAlchemyError, MlflowException) as problem:
        raise ConnectionError(f"the record at {uri} cannot be opened: {problem}") from problem
    return client


def experiment(name: str, description: str, scale: str) -> Experiment:
    """The notebook `name`, described by plain prose, and this execution of it.

    `DEIMOS_EXECUTION` names the run of whoever executes the notebook; by hand, it gets its own.
    """
    client = _client()
    id = _experiment_id(client, name)
    client.set_experiment_tag(id, "mlflow.note.content", description)
    run_id = os.environ.get("DEIMOS_EXECUTION")
    if run_id is None:
        run_id = open_execution(name, scale)
        atexit.register(client.set_terminated, run_id)
    run = client.get_run(run_id)
    if (run.info.experiment_id, run.data.tags["scale"]) != (id, scale):
        raise ValueError(
            f"{name} at scale {scale} cannot join the execution {run_id}, which is of "
            f"{run.data.tags['notebook']} at scale {run.data.tags['scale']}"
        )
    return Experiment(name, id, scale, run_id)


def _experiment_id(client: MlflowClient, name: str) -> str:
    found = client.get_experiment_by_name(name)
    if found is not None:
        return found.experiment_id
    place = store.artifact_location(store_uri(), name)
    # The kind makes the UI open on runs and charts, not on the dashboard of language models.
    tags = {"mlflow.experimentKind": "custom_model_development"}
    try:
        return client.create_experiment(name, artifact_location=place, tags=tags)
    except MlflowException:  # another process was first, or it cannot be made at all
        found = client.get_experiment_by_name(name)
        if found is None:
            raise
        return found.experiment_id


def open_execution(notebook: str, scale: str) -> str:
    """The id of a new run for one execution of a notebook: its page, figures and verdicts."""
    if scale not in SCALES:
        raise ValueError(f"scale {scale!r} is none of {', '.join(SCALES)}")
    client = _client()
    tags = {"kind": "execution", "notebook": notebook, "scale": scale, **machine()}
    tags |= {f"runs_{count}": "0" for count in COUNTS}
    run_name = f"{notebook} · {scale}"
    run = client.create_run(_experiment_id(client, notebook), tags=tags, run_name=run_name)
    return run.info.run_id


def close_execution(run_id: str, status: str, html: Path | None = None) -> None:
    """End an execution as finished, failed or stopped, and with it members that it left running.

    A killed kernel cannot say of its runs that they have ended.
    """
    if status not in STATUS:
        raise ValueError(f"status {status!r} is none of {', '.join(STATUS)}")
    client = _client()
    if html is not None:
        client.log_artifact(run_id, str(html))
    place = [client.get_run(run_id).info.experiment_id]
    for run in record.search(client, place, kind="run", execution=run_id):
        if run.info.status == "RUNNING":
            client.set_terminated(run.info.run_id, "FAILED" if status == "failed" else "KILLED")
    client.set_terminated(run_id, STATUS[status])


def execution_summary(run_id: str) -> dict[str, int | tuple[str, ...]]:
    """How many members of an execution were new, resumed and skipped; its verdicts in words."""
    tags = _client().get_run(run_id).data.tags
    counts = {count: int(tags[f"runs_{count}"]) for count in COUNTS}
    return {**counts, "verdicts": tuple(tags.get("verdicts", "").splitlines())}


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
    code: a finished one is skipped, one that was stopped goes on after its last whole iteration. On
    leaving, each run gets the status that its record deserves. New runs carry `tags` too.
    """
    _check(methods, repeats, schedule)
    client = _client()
    data = {"task": task.name, "checksum": task.checksum, "network": network_name}
    settings = {**data, **asdict(schedule)}
    identity = {
        "kind": "run",
        "experiment": task.name,
        "scale": experiment.scale,
        "settings": _digest(settings),
        "fingerprint": code_fingerprint(),
    }
    known = {
        record.member(run)[2:]: run
        for run in record.by_progress(record.search(client, [experiment.id], **identity))
    }
    here = {**machine(), "execution": experiment.run_id}
    members, counts = [], dict.fromkeys(COUNTS, 0)
    for repeat, method in product(range(1, repeats + 1), methods):
        run = known.get((method, repeat))
        about = {**tags, **data, **identity, **here, "method": method, "repeat": str(repeat)}
        run_id = run.info.run_id if run else _create(experiment, task, schedule, about)
        acquired, whole = record.recorded(client, run_id, schedule)
        counts["skipped" if whole else "resumed" if run else "new"] += 1
        # `table` shows the settings that were last asked for, had they to be run or not.
        fresh = {"asked": _now()}
        if whole:
            status = "FINISHED"
        else:
            status, fresh = "RUNNING", fresh | here
            members.append(Member(method, repeat, schedule, acquired, run_id))
        params = {**settings, "method": method, "repeat": repeat}
        client.log_batch(
            run_id,
            params=[Param(name, str(value)) for name, value in params.items()],
            tags=[RunTag(name, value) for name, value in fresh.items()],
        )
        client.update_run(run_id, status)
    _count(experiment, counts)

    left = "KILLED"  # by Ctrl-C, or by leaving early
    try:
        yield members
    except Exception:
        left = "FAILED"
        raise
    finally:
        for member in members:
            _, whole = record.recorded(client, member.run_id, schedule)
            client.set_terminated(member.run_id, "FINISHED" if whole else left)


def _digest(settings: dict) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _count(experiment: Experiment, counts: dict[str, int]) -> None:
    so_far = execution_summary(experiment.run_id)
    for count, n in counts.items():
        _client().set_tag(experiment.run_id, f"runs_{count}", so_far[count] + n)


def _check(methods: Sequence[str], repeats: int, schedule: Schedule) -> None:
    known, b = loop.methods(schedule), schedule.batch_size
    if not methods or len(set(methods)) < len(methods) or set(methods) - known.keys():
        raise ValueError(f"methods {list(methods)} are not some of {', '.join(known)}, each once")
    if repeats < 1:
        raise ValueError(f"{repeats} repeats leave nothing to run")
    if not 1 <= b <= LARGEST_BATCH:
        raise ValueError(f"batch size {b} is not within 1 and {LARGEST_BATCH}")
    if schedule.n_acquired % b:
        raise ValueError(f"{schedule.n_acquired} acquisitions are no multiple of batch size {b}")


def _create(experiment: Experiment, task: Task, schedule: Schedule, about: dict[str, str]) -> str:
    """A new run for a member, found again by its tags, with the data set as its input."""
    method, repeat, b = about["method"], about["repeat"], schedule.batch_size
    tags = {
        **about,
        "batch_size": str(b),
        "source": task.source,
        "stand_in": str(task.stand_in),
        "mlflow.source.name": experiment.name,
        "mlflow.source.type": "NOTEBOOK",
        "mlflow.note.content": f"{method} on {task.name} ({task.source}), repeat {repeat}: "
        f"{schedule.n_acquired} labels acquired, {b} an iteration.",
    }
    name = f"{method} · b{b} · repeat {repeat}"
    run_id = _client().create_run(experiment.id, tags=tags, run_name=name).info.run_id
    data = Dataset(task.name, task.checksum[:36], "local", json.dumps({"source": task.source}))
    _client().log_inputs(run_id, [DatasetInput(data)])
    return run_id


def log(iteration: Iteration) -> None:
    """Write one iteration, whole: its metrics at step `n_acquired`, its ids at their positions.

    Raises `ValueError`, and writes nothing, if a metric is not finite or a batch is not full.
    """
    member, n = iteration.member, iteration.n_acquired
    who = f"{member.method}, repeat {member.repeat}, {n} acquired"
    full = member.schedule.batch_size if n < member.schedule.n_acquired else 0
    if len(iteration.acquired) != full:
        raise ValueError(f"{who}: a batch of {len(iteration.acquired)} points, not {full}")
    values = {**iteration.metrics, record.LABELLED: float(iteration.n_labelled)}
    names = [record.short(key) for key in (*values, record.IDS)]
    if len(values) == len(iteration.metrics) or len(set(names)) < len(names):
        raise ValueError(f"{who}: metrics {list(iteration.metrics)} need names of their own")
    for key, value in values.items():
        if not isfinite(value):
            raise ValueError(f"{who}: {key} is {value}")
    now = int(time.time() * 1000)
    points = [Metric(key, value, now, n) for key, value in values.items()]
    points += [Metric(record.IDS, id, now, n + i) for i, id in enumerate(iteration.acquired, 1)]
    _client().log_batch(member.run_id, metrics=points)  # metrics alone: one transaction


def log_instances(
    experiment: Experiment,
    name: str,
    columns: dict[str, Sequence[float]],
    source: str = "simulation",
    **settings: int | float | str,
) -> None:
    """A simulation as one run: each metric's value for every instance, in `table` the repeats.

    `settings` has at least a `batch_size`. Logged once: the same settings and code give the same
    values again.
    """
    client = _client()
    batch_size = settings["batch_size"]
    identity = {
        "kind": "run",
        "experiment": name,
        "scale": record.ANY_SCALE,
        "batch_size": str(batch_size),
        "settings": _digest(settings),
        "fingerprint": code_fingerprint(),
    }
    runs = record.search(client, [experiment.id], **identity)
    done = [run.info.run_id for run in runs if run.info.status == "FINISHED"]
    _count(experiment, {"skipped" if done else "new": 1})
    if not done:
        about = {"method": "deimos", "repeat": "1", "step": "repeat", "stand_in": "False"}
        about |= {"source": source, "execution": experiment.run_id, **machine(), **identity}
        run_name = f"deimos · b{batch_size} · {max(map(len, columns.values()))} instances"
        done = [client.create_run(experiment.id, tags=about, run_name=run_name).info.run_id]
        client.log_batch(done[0], params=[Param(k, str(v)) for k, v in settings.items()])
        now = int(time.time() * 1000)
        for metric, column in columns.items():
            points = [Metric(f"instance/{metric}", v, now, i) for i, v in enumerate(column, 1)]
            for first in range(0, len(points), LARGEST_BATCH):
                client.log_batch(done[0], metrics=points[first : first + LARGEST_BATCH])
        client.set_terminated(done[0])
    client.set_tag(done[0], "asked", _now())


def table(
    experiment: str | None = None,
    scale: str | None = None,
    batch_size: int | None = None,
    metric: str | None = None,
    **settings: str | int | float,
) -> pd.DataFrame:
    """The record as the tidy table of `record.COLUMNS`: a row for each metric at each step.

    `experiment` is the task ("mnist-7-vs-9"), `metric` its name there ("accuracy"), `settings` any
    other parameter or tag of the runs (`n_candidates=500`). Of an experiment, scale and batch size
    it shows the settings and code that a fleet asked for last, never a mixture; of a member that
    has several runs, the one that came furthest. Scales are never mixed: `ValueError` if `scale` is
    left out and there are several.
    """
    client = _client()
    return record.tidy(
        client, record.chosen(client, experiment, scale, batch_size, settings), metric
    )


def acquired_ids(
    experiment: str | None = None,
    scale: str | None = None,
    batch_size: int | None = None,
    **settings: str | int | float,
) -> pd.DataFrame:
    """What each member acquired, in order (`position` from 1), in the runs that `table` shows."""
    client = _client()
    return record.ids(client, record.chosen(client, experiment, scale, batch_size, settings))


def provenance(experiment: str, scale: str | None = None) -> dict:
    """Where the numbers of `table(experiment, scale)` come from; `ValueError` if there are none."""
    runs = record.chosen(_client(), experiment, scale, None, {})
    if not runs:
        raise ValueError(f"the record has no runs of {experiment} at scale {scale or 'any'}")
    return record.origin(runs)


def notes(scale: str) -> dict[str, str]:
    """What must stand in a figure's title, by experiment: its scale and where the data are from."""
    said = {}
    for name in _experiments(scale):
        came = provenance(name, scale)
        size = [] if came["scale"] == record.ANY_SCALE else [f"{came['scale']} scale"]
        said[name] = ", ".join([*size, came["source"]])
    return said


def doubts(scale: str) -> dict[str, tuple[str, ...]]:
    """Why the runs of an experiment, at this scale, cannot decide a claim; nothing if they can."""
    said = {}
    for name in _experiments(scale):
        came = provenance(name, scale)
        small = (f"{came['scale']} scale",) if came["scale"] in ("quick", "smoke") else ()
        said[name] = (*small, *(("not the paper's data",) if came["stand_in"] else ()))
    return said


def published(scale: str) -> pd.DataFrame:
    """The authors' curves, without those of experiments whose runs here are on other data."""
    other = [name for name in _experiments(scale) if provenance(name, scale)["stand_in"]]
    curves = published_curves()
    return curves[~curves.experiment.isin(other)]


def _experiments(scale: str) -> list[str]:
    runs = record.chosen(_client(), None, scale, None, {})
    return sorted({run.data.tags["experiment"] for run in runs})


def log_figure(experiment: Experiment, figure: Any, name: str) -> None:
    """A figure as PNG and SVG, in the run of this execution."""
    for ending in ("png", "svg"):
        _client().log_figure(experiment.run_id, figure, f"figures/{name}.{ending}")


def log_table(experiment: Experiment, frame: pd.DataFrame, name: str) -> None:
    """A table as CSV and HTML, in the run of this execution."""
    _client().log_text(experiment.run_id, frame.to_csv(index=False), f"tables/{name}.csv")
    _client().log_text(experiment.run_id, frame.to_html(index=False), f"tables/{name}.html")


def log_verdicts(experiment: Experiment, frame: pd.DataFrame) -> None:
    """The verdicts, with columns `claim` and `verdict`, as a table and for the closing summary."""
    log_table(experiment, frame, "verdicts")
    said = [
        f"{verdict}: {claim}" for claim, verdict in zip(frame.claim, frame.verdict, strict=True)
    ]
    _client().set_tag(experiment.run_id, "verdicts", "\n".join(said))


def view(experiment: Experiment, name: str, task: str, batch_size: int, metric: str) -> str:
    """Save a chart in the UI: `metric` ("test/accuracy") by method in the runs that `table` shows.

    Returns its key. The runs are those of now: an execution writes its views again.
    """
    client = _client()
    runs = record.chosen(client, task, experiment.scale, batch_size, {})
    if not runs:
        raise ValueError(f"the record has no runs of {task} at batch size {batch_size} to show")
    settings, fingerprint = record.version(runs[0])
    where = (
        f"tags.settings = '{settings}' and tags.fingerprint = '{fingerprint}'"
        f" and tags.scale = '{experiment.scale}'"
    )
    title = f"{name} ({experiment.scale})"
    tag = views.TAG + views.key(title)
    client.set_experiment_tag(experiment.id, tag, views.saved_view(title, metric, where))
    return views.key(title)


def links(port: int = 5000) -> list[str]:
    """A line for each notebook and each saved view: its name, and where the UI shows it."""
    uri, lines = store_uri(), []
    host = uri.rstrip("/") if uri.startswith("http") else f"http://127.0.0.1:{port}"
    for found in sorted(_client().search_experiments(), key=lambda found: found.name):
        place = f"{host}{views.RUNS.format(id=found.experiment_id)}"
        if "mlflow.note.content" in found.tags:
            lines.append(f"{found.name}: {place}")
        for tag in sorted(tag for tag in found.tags if tag.startswith(views.TAG)):
            name = json.loads(found.tags[tag])["name"]
            lines.append(f"{name}: {place}{views.SHARED.format(key=tag.removeprefix(views.TAG))}")
    return lines


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description="Browse the record in MLflow's UI.")
    arguments.add_argument("--ui", type=int, metavar="PORT", required=True)
    port = arguments.parse_args().ui
    print(*links(port), sep="\n", flush=True)
    if not store_uri().startswith("http"):  # that server shows its own
        views.serve(store_uri(), store.artifact_location(store_uri(), ""), port)
