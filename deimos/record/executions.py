"""An execution of a notebook: a run of its own, with its page, figures, tables and verdicts.

An execution is RUNNING for as long as one of its processes lives: the driver's, the kernel's. What
a killed one leaves behind is marked as stopped by the next, whatever notebook that executes.
"""

import atexit
import json
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from deimos.experiment.runs import Slice
from deimos.record import process_locks, queries, store
from deimos.record.provenance import machine

SCALES = ("paper", "quick", "smoke")
STATUS = {"finished": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}
COUNTS = ("new", "resumed", "skipped")
PAGE = """<!doctype html><meta charset="utf-8"><style>
table { border-collapse: collapse; font: 14px sans-serif }
th, td { padding: 4px 12px; text-align: left; border-bottom: 1px solid #ddd }
</style>
"""
BEAT, SILENCE = 20.0, 180.0  # seconds between signs of life on a server, and without one for dead


@dataclass(frozen=True)
class Experiment:
    """A notebook's place in the record, and the run of this execution of it."""

    name: str
    id: str
    scale: str
    run_id: str
    part: Slice | None = None  # of its fleets, if it is not for this execution to run all of them


def experiment(name: str, description: str, scale: str) -> Experiment:
    """The notebook `name`, described by plain prose, and this execution of it.

    `DEIMOS_EXECUTION` names the run of whoever executes the notebook; by hand, it gets its own.
    """
    client = store.client()
    id = experiment_id(name)
    store.set_experiment_tag(id, store.NOTE, description)
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
    processes, this = run.data.tags["processes"].split(), process_locks.this_process(store.locks())
    if this not in processes:
        client.set_tag(run_id, "processes", " ".join([*processes, this]))
    return Experiment(name, id, scale, run_id, Slice.from_tag(run.data.tags.get("slice")))


def experiment_id(name: str) -> str:
    """MLflow's id of the experiment `name`, made if it is missing; ValueError if it is deleted."""
    client = store.client()
    found = client.get_experiment_by_name(name)
    if found is not None:
        return _not_deleted(found)
    place = store.artifact_location(store.uri(), name)
    # The kind makes the UI open on runs and charts, not on the dashboard of language models.
    tags = {"mlflow.experimentKind": "custom_model_development"}
    try:
        return client.create_experiment(name, artifact_location=place, tags=tags)
    except MlflowException:  # another process was first, or it cannot be made at all
        found = client.get_experiment_by_name(name)
        if found is None:
            raise
        return _not_deleted(found)


def _not_deleted(found: Any) -> str:
    """Its id; ValueError for an experiment that was deleted, whose name stays taken."""
    if found.lifecycle_stage == "deleted":
        id, record = found.experiment_id, store.without_password(store.uri())
        raise ValueError(
            f"the experiment {found.name} was deleted in the record, which keeps its name: restore "
            f"it by `MLFLOW_TRACKING_URI={record} mlflow experiments restore -x {id}`, or remove "
            f"it for good by `mlflow gc --backend-store-uri {record} --experiment-ids {id}`"
        )
    return found.experiment_id


def executed_folder(notebooks: Path, scale: str) -> Path:
    """Folder of executed notebooks; what shows the kept runs replaces nothing of the user's."""
    folder = notebooks / "executed"
    return folder / scale if scale == queries.REFERENCE else folder


def open_execution(notebook: str, scale: str, part: Slice | None = None) -> str:
    """The id of a new run for one execution of a notebook: its page, figures and verdicts.

    With a `part`, of its code down to its fleets, and of these no more than that slice.
    """
    if scale not in (*SCALES, queries.REFERENCE):
        raise ValueError(f"scale {scale!r} is none of {', '.join(SCALES)}")
    end_the_dead({})
    tags = {"kind": "execution", "notebook": notebook, "scale": scale, **machine()}
    tags |= {
        "processes": process_locks.this_process(store.locks()),
        **{f"runs_{count}": "0" for count in COUNTS},
    }
    tags |= {"mlflow.source.name": notebook, "mlflow.source.type": "NOTEBOOK"}
    tags[store.NOTE] = f"An execution of {notebook} at {scale} scale: its figures, tables and page."
    run_name = f"{notebook} · {scale}"
    if part is not None:
        tags["slice"], run_name = part.to_tag(), f"{run_name} · {part}"
        tags[store.NOTE] = f"One slice of the fleets of {notebook} at {scale} scale: {part}."
    run = store.client().create_run(experiment_id(notebook), tags=tags, run_name=run_name)
    if store.locks() is None:
        threading.Thread(target=_beat, args=(run.info.run_id,), daemon=True).start()
    return run.info.run_id


def close_execution(run_id: str, status: str, html: Path | None = None) -> None:
    """End an execution as finished, failed or stopped, and with it members that it left running.

    A killed kernel cannot say of its runs that they have ended.
    """
    if status not in STATUS:
        raise ValueError(f"status {status!r} is none of {', '.join(STATUS)}")
    client = store.client()
    if html is not None:
        client.log_artifact(run_id, str(html))
    for run in queries.search(status="RUNNING", kind="run", execution=run_id):
        client.set_terminated(run.info.run_id, "FAILED" if status == "failed" else "KILLED")
    client.set_terminated(run_id, STATUS[status])


def execution_summary(run_id: str) -> dict[str, int | dict[str, int]]:
    """Members of an execution that were new, resumed and skipped; its claims by outcome."""
    tags = store.client().get_run(run_id).data.tags
    counts = {count: int(tags[f"runs_{count}"]) for count in COUNTS}
    return {**counts, "outcomes": json.loads(tags.get("outcomes", "{}"))}


def count(experiment: Experiment, counts: dict[str, int]) -> None:
    """Add to what `execution_summary` counts."""
    so_far = execution_summary(experiment.run_id)
    for name, n in counts.items():
        store.client().set_tag(experiment.run_id, f"runs_{name}", so_far[name] + n)


def end_the_dead(seen: dict[str, tuple[str, float]]) -> None:
    """Mark as stopped every execution that is RUNNING although its processes have ended.

    Beside an SQLite file their locks tell at once. On a server only someone who watches can tell,
    by `SILENCE` seconds without a sign of life: `seen` holds the last signs between two calls.
    """
    for run in queries.search(status="RUNNING", kind="execution"):
        if _is_dead(run, seen):
            close_execution(run.info.run_id, "stopped")


def _is_dead(run: Run, seen: dict[str, tuple[str, float]]) -> bool:
    id, tags, folder = run.info.run_id, run.data.tags, store.locks()
    if folder is not None:
        return all(
            [process_locks.is_gone(folder, name) for name in tags.get("processes", "").split()]
        )
    sign = tags.get("beat", "")
    if id not in seen or seen[id][0] != sign:
        seen[id] = sign, time.monotonic()
    return time.monotonic() - seen[id][1] > SILENCE


def _beat(run_id: str) -> None:
    """A sign of life now and then until the execution is over, and an eye on those of others."""
    client, seen = store.client(), {}
    while True:
        try:
            if client.get_run(run_id).info.status != "RUNNING":
                return
            client.set_tag(run_id, "beat", str(time.time()))
            end_the_dead(seen)
        except MlflowException:  # out of reach for now; the others allow for some silence
            seen.clear()
        time.sleep(BEAT)


def log_figure(experiment: Experiment, figure: Any, name: str) -> None:
    """A figure as PNG and SVG, in the run of this execution."""
    for ending in ("png", "svg"):
        store.client().log_figure(experiment.run_id, figure, f"figures/{name}.{ending}")


def log_table(experiment: Experiment, frame: pd.DataFrame, name: str) -> None:
    """A table as CSV and HTML, in the run of this execution."""
    client, page = store.client(), PAGE + frame.to_html(index=False, border=0)
    client.log_text(experiment.run_id, frame.to_csv(index=False), f"tables/{name}.csv")
    client.log_text(experiment.run_id, page, f"tables/{name}.html")


def log_verdicts(experiment: Experiment, frame: pd.DataFrame) -> None:
    """The verdicts as a table, and how many claims had each `outcome` for the closing summary."""
    log_table(experiment, frame, "verdicts")
    counts = json.dumps(frame.outcome.value_counts().to_dict())
    store.client().set_tag(experiment.run_id, "outcomes", counts)
