"""Whole runs as rows of MLflow's database, for records that are read in from a file.

MLflow's client writes a run in some ten transactions and makes an object of every value. The runs
that the repository keeps have 180,000 values: as plain rows, a transaction a run, they are in the
database in a tenth of the time. The tables are those of the pinned MLflow; a test compares what
both ways leave behind.
"""

import uuid
from collections.abc import Iterator

import pandas as pd
from mlflow.entities import LifecycleStage
from mlflow.store.tracking.dbmodels.models import (
    SqlDataset,
    SqlInput,
    SqlLatestMetric,
    SqlMetric,
    SqlParam,
    SqlRun,
    SqlTag,
)
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NAME, MLFLOW_USER
from mlflow.utils.uri import append_to_uri_path
from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from deimos.record import store


def database() -> SqlAlchemyStore | None:
    """The record's database, or None if a server stands before it."""
    behind = store.client()._tracking_client.store
    return behind if isinstance(behind, SqlAlchemyStore) else None


def add(
    behind: SqlAlchemyStore, experiment: str, artifacts: str, run: dict, values: pd.DataFrame
) -> str:
    """Write a run of an archive, in one transaction, and return its id.

    `experiment` is MLflow's id of its experiment and `artifacts` where the files of that one lie;
    `values` has the columns metric, step, timestamp and value. With `end_time` None it is running.
    """
    id, tags = uuid.uuid4().hex, {MLFLOW_RUN_NAME: run["name"], **run["tags"]}
    about = {
        "run_uuid": id,
        "name": run["name"],
        "experiment_id": int(experiment),
        "artifact_uri": append_to_uri_path(artifacts, id, SqlAlchemyStore.ARTIFACTS_FOLDER_NAME),
        "user_id": tags.get(MLFLOW_USER, "unknown"),
        "status": run["status"],
        "start_time": run["start_time"],
        "end_time": run["end_time"],
        "lifecycle_stage": LifecycleStage.ACTIVE,
        "source_type": "UNKNOWN",
        **dict.fromkeys(("source_name", "source_version", "entry_point_name"), ""),
    }
    metrics, latest = _metrics(behind, id, values)
    tables = {SqlRun: [about], SqlTag: _named(id, tags), SqlParam: _named(id, run["params"])}
    tables |= {SqlMetric: metrics, SqlLatestMetric: latest}
    writes = [(table, rows) for table in tables for rows in _chunks(tables[table])]
    with behind.ManagedSessionMaker(read_only=False) as session:
        for table, rows in writes:
            session.execute(insert(table.__table__), rows)
        for row in _inputs(session, int(experiment), id, run["datasets"]):
            session.execute(insert(SqlInput.__table__), [row])
    return id


def _chunks(rows: list[dict]) -> list[list[dict]]:
    size = store.LARGEST_WRITE
    return [rows[first : first + size] for first in range(0, len(rows), size)]


def _named(id: str, texts: dict[str, str]) -> list[dict]:
    return [{"run_uuid": id, "key": key, "value": value} for key, value in texts.items()]


def _metrics(
    behind: SqlAlchemyStore, id: str, values: pd.DataFrame
) -> tuple[list[dict], list[dict]]:
    """Every value once, and of every metric the last one, as rows."""
    values = values.sort_values(["step", "timestamp", "value"])
    columns = (values[name].tolist() for name in ("metric", "timestamp", "step", "value"))
    # A database has neither infinity nor NaN: MLflow says what stands for them.
    rows = {
        (key, time, step, *behind.sanitize_metric_value(value)): None
        for key, time, step, value in zip(*columns, strict=True)
    }
    names = ("key", "timestamp", "step", "is_nan", "value")
    metrics = [{"run_uuid": id, **dict(zip(names, row, strict=True))} for row in rows]
    return metrics, list({row["key"]: row for row in metrics}.values())


def _inputs(
    session: Session, experiment: int, id: str, datasets: list[list[str]]
) -> Iterator[dict]:
    """The rows that tie a run to its data sets; a data set that is not there yet is written."""
    for name, digest, kind, source in datasets:
        known = select(SqlDataset.dataset_uuid).filter_by(
            experiment_id=experiment, name=name, digest=digest
        )
        if (data := session.scalar(known)) is None:
            data = uuid.uuid4().hex
            about = {"dataset_uuid": data, "experiment_id": experiment, "name": name}
            about |= {"digest": digest, "dataset_source_type": kind, "dataset_source": source}
            session.execute(insert(SqlDataset.__table__), [about])
        yield {
            "input_uuid": uuid.uuid4().hex,
            "source_type": "DATASET",
            "source_id": data,
            "destination_type": "RUN",
            "destination_id": id,
        }
