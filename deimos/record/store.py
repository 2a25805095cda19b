"""The record's place: an SQLite file with the artifacts beside it, or a server of your own.

MLflow neither creates a database safely when several processes meet a missing one, nor finds the
artifacts of a store that was moved. Both are put right here, below MLflow, on SQLite itself. Nor
does it add a row safely that several processes add at the same moment; they try again here.
"""

import logging
import os
import re
import sqlite3
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

from mlflow import MlflowClient
from mlflow.entities import DatasetInput, Metric
from mlflow.exceptions import MlflowException
from sqlalchemy import NullPool, create_engine, text
from sqlalchemy.exc import SQLAlchemyError

from deimos.tasks.files import ROOT

# What it says as an error, with all of its traceback, it raises too.
logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
# Files of some kilobytes need no progress bar each.
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

LARGEST_WRITE = 1_000  # metrics that MLflow takes at once
TRIES = 4  # of a row that other processes may be adding too
REFUSED = "BAD_REQUEST"  # what MLflow makes of a database's own refusal, by a server, too
LOCK = 0xDE1705  # on a PostgreSQL server, for whoever makes or migrates the database
LOCK_PATIENCE = 300.0  # seconds to wait for another process
NOTE = "mlflow.note.content"  # the tag of what the UI shows as a description


def own_file() -> Path:
    """The database of this repository, wherever the current folder is."""
    return ROOT / "mlruns" / "mlflow.db"


def uri() -> str:
    """Address of the record: `MLFLOW_TRACKING_URI`, else `mlruns/mlflow.db` in the repository.

    Addresses end up in messages and notebooks. A server's user and password are therefore taken out
    of this one, to where MLflow looks for them too.
    """
    given = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{own_file()}"
    parts = urlsplit(given)
    if parts.scheme in ("http", "https") and parts.username:
        os.environ["MLFLOW_TRACKING_USERNAME"] = unquote(parts.username)
        os.environ["MLFLOW_TRACKING_PASSWORD"] = unquote(parts.password or "")
        given = os.environ["MLFLOW_TRACKING_URI"] = without_password(given)
    return given


def without_password(text: str) -> str:
    """The text, and the addresses in it without user and password."""
    return re.sub(r"(?<=://)[^/\s]*@", "", text)


def why(problem: object) -> str:
    """Describe an error in one line, without the query or the address that came with it."""
    return without_password((str(problem).splitlines() or [type(problem).__name__])[0])


def sqlite_file(uri: str) -> Path | None:
    """The database file behind `uri`, or None if something else keeps the record."""
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


def artifact_location(uri: str, experiment: str) -> str | None:
    """Folder for an experiment's files; None for an MLflow server, which has a place of its own."""
    if uri.startswith("http"):
        return None
    folder = (sqlite_file(uri) or own_file()).parent.absolute()
    return str(folder / "artifacts" / experiment)


def client() -> MlflowClient:
    """The record's client; `ConnectionError` if it cannot be reached or written."""
    return _open(uri())


@cache
def _open(uri: str) -> MlflowClient:
    """The store, made if it is missing."""
    try:
        with opening_store(uri):
            client = MlflowClient(uri)
            client.search_experiments(max_results=1)
    except (OSError, sqlite3.Error, SQLAlchemyError, MlflowException) as problem:
        said = f"the record at {without_password(uri)} cannot be opened: {why(problem)}"
        raise ConnectionError(said) from problem
    return client


def log_metrics(run_id: str, points: Sequence[Metric]) -> None:
    """Any number of metric values, in as many writes as they take."""
    for first in range(0, len(points), LARGEST_WRITE):
        client().log_batch(run_id, metrics=points[first : first + LARGEST_WRITE])


def log_inputs(run_id: str, datasets: Sequence[DatasetInput]) -> None:
    """Tell what data sets a run had; other runs of the experiment may tell the same now."""
    _again(client().log_inputs, run_id, list(datasets))


def set_experiment_tag(experiment: str, name: str, value: str) -> None:
    """Tag the experiment with this id; other processes may be setting the same tag now."""
    _again(client().set_experiment_tag, experiment, name, value)


def _again(write: Callable[..., None], *what: object) -> None:
    """Write; if the database refuses, try again, and find there what another process has added.

    MLflow looks whether a row is there and adds it if not: of two that look at once, one fails.
    """
    for left in reversed(range(TRIES)):
        try:
            return write(*what)
        except MlflowException as problem:
            if problem.error_code != REFUSED or not left:
                raise


def locks() -> Path | None:
    """Folder of living processes' locks, beside an SQLite file; None with a server."""
    file = sqlite_file(uri())
    return None if file is None else file.parent / "alive"


@contextmanager
def opening_store(uri: str) -> Iterator[None]:
    """Hold the store while it is opened: creating or migrating a database is for one at a time.

    The lock is the database's own, for SQLite on a file of its own, and so goes with the process
    that holds it. Raises `OSError`, `sqlite3.Error` or `SQLAlchemyError` if the store cannot be
    reached or written.
    """
    file = sqlite_file(uri)
    if uri.startswith("http"):
        _reach(uri)
        yield
        return
    if file is None:
        with _locked(uri) if uri.startswith("postgresql") else nullcontext():
            yield
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(file.with_suffix(".lock"), timeout=LOCK_PATIENCE)) as lock:
        lock.execute("BEGIN EXCLUSIVE")
        with closing(sqlite3.connect(file, timeout=LOCK_PATIENCE)) as database:
            database.execute("BEGIN IMMEDIATE")  # raises if it may only be read
        yield
        if file == own_file():
            _bring_artifacts_home(file)


def _reach(uri: str) -> None:
    """Ask a server once, since MLflow itself would try for minutes."""
    try:
        urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=10).close()
    except urllib.error.HTTPError:
        pass  # it answered, if only to ask who we are; MLflow has the credentials


@contextmanager
def _locked(uri: str) -> Iterator[None]:
    """PostgreSQL's own lock on a number of ours, for as long as this connection holds."""
    try:
        engine = create_engine(uri, poolclass=NullPool)
    except ImportError as lack:
        raise OSError(f'{lack}: python -m pip install -e ".[postgresql]"') from lack
    with engine.connect() as connection:
        connection.execute(text(f"SELECT pg_advisory_lock({LOCK})"))
        yield


def _bring_artifacts_home(file: Path) -> None:
    """Artifact places are absolute: after a move of the repository, point them here again."""
    mark = "/mlruns/artifacts/"
    with closing(sqlite3.connect(file, timeout=LOCK_PATIENCE)) as database, database:
        places = database.execute("SELECT experiment_id, artifact_location FROM experiments")
        for experiment, old in places.fetchall():
            new = f"{file.parent}/artifacts/{old.rpartition(mark)[2]}"
            if old.startswith("/") and mark in old and old != new:
                database.execute(
                    "UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?",
                    (new, experiment),
                )
                database.execute(
                    "UPDATE runs SET artifact_uri = replace(artifact_uri, ?, ?)"
                    " WHERE experiment_id = ?",
                    (old, new, experiment),
                )
