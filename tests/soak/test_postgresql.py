"""The record on a PostgreSQL server, which the tests start: as on SQLite, to the last bit."""

import os
import shutil
import signal
import subprocess
import uuid
from pathlib import Path

import pandas as pd
import pytest
import tiny
from sqlalchemy import NullPool, create_engine, text
from sqlalchemy.exc import OperationalError

from deimos import tracking
from deimos.record import archive, store
from deimos.report import results_page

pytest.importorskip("psycopg", reason="psycopg, PostgreSQL's driver, is not installed")

pytestmark = pytest.mark.soak
USER = "postgres" if os.getuid() == 0 else None  # a server that refuses to be root's


def programs() -> Path | None:
    """Folder of the server's programs: Debian's, or the one on the path."""
    found = shutil.which("initdb")
    places = [Path(found).resolve().parent] if found else []
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return places[-1] if places else None


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server on a socket in a folder of its own, and on no port; its address without a name."""
    if programs() is None:
        pytest.skip("PostgreSQL's server is not installed: apt-get install postgresql")
    folder = tmp_path_factory.mktemp("postgresql")
    if USER is not None:  # who must be able to walk there
        for place in (folder, *folder.parents[:3]):
            place.chmod(place.stat().st_mode | 0o011)
        shutil.chown(folder, USER, USER)
    as_user = {"user": USER, "group": USER, "extra_groups": []} if USER else {}
    how = {**as_user, "cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.STDOUT}
    make = ["-D", folder / "data", "--username", "deimos", "--auth", "trust", "--no-sync"]
    subprocess.run([programs() / "initdb", *make], check=True, **how)
    settings = {"listen_addresses": "", "unix_socket_directories": folder, "fsync": "off"}
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    running = subprocess.Popen([programs() / "postgres", "-D", folder / "data", *options], **how)
    try:
        address = f"postgresql://deimos@/{{}}?host={folder}"
        tiny.wait_until(lambda: answers(address.format("postgres")), running)
        yield address
    finally:
        running.send_signal(signal.SIGINT)  # which ends its sessions
        running.wait(20)


def answers(address):
    try:
        ask(address, "SELECT 1")
    except OperationalError:  # it has its socket before it is ready
        return False
    return True


def ask(address, statement):
    engine = create_engine(address, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(statement))


@pytest.fixture(scope="module")
def both_opened(server):
    """Two processes that met a database without tables; how they ended."""
    ask(server.format("postgres"), "CREATE DATABASE plain")
    start = tiny.PROCESSES.Barrier(2)
    both = [tiny.started(server.format("plain"), start=start, what=store.client) for _ in range(2)]
    return [tiny.ended(process) for process in both]


@pytest.fixture
def database(server, both_opened):
    """A record of the test's own."""
    name = f"test_{uuid.uuid4().hex[:8]}"
    ask(server.format("postgres"), f"CREATE DATABASE {name} TEMPLATE plain")
    return server.format(name)


@pytest.fixture(scope="module")
def on_sqlite(tmp_path_factory, empty_database):
    """The content of a record that is a file, after the tiny experiment."""
    file = shutil.copy(empty_database, tmp_path_factory.mktemp("sqlite") / "mlflow.db")
    assert tiny.ended(tiny.started(file)) == 0
    return tiny.content(file)


def assert_whole(database, expected):
    pd.testing.assert_frame_equal(tiny.content(database), expected, check_exact=True)
    assert len(tiny.rows(database, "SELECT * FROM tags WHERE key = 'method'")) == 4
    assert "RUNNING" not in tiny.statuses(database)


def test_two_processes_that_meet_a_database_without_tables_both_open_it(both_opened):
    assert both_opened == [0, 0]


def test_two_executions_at_once_share_one_run_a_member_and_have_the_values_of_sqlite(
    database, on_sqlite
):
    start = tiny.PROCESSES.Barrier(2)
    both = [tiny.started(database, start=start) for _ in range(2)]
    assert [tiny.ended(process) for process in both] == [0, 0]
    assert_whole(database, on_sqlite)
    count = "SELECT SUM(CAST(value AS int)) FROM tags WHERE key = 'runs_{}'"
    counts = [tiny.rows(database, count.format(c))[0][0] for c in ("new", "resumed", "skipped")]
    assert counts == [4, 0, 4]


def test_an_execution_killed_anywhere_is_taken_up_after_its_silence_and_ends_whole(
    database, tmp_path, on_sqlite, rng
):
    last = int(rng.integers(150, 400))
    first = tiny.started(database, diary=tmp_path / "one", last=last, server=True)
    assert tiny.ended(first) == -signal.SIGKILL
    there = tiny.steps(database)
    assert tiny.ended(tiny.started(database, diary=tmp_path / "two", server=True)) == 0
    begun = (tmp_path / "two").read_text().splitlines()
    assert set(begun) == tiny.steps(database) - there and len(begun) == len(set(begun))
    assert_whole(database, on_sqlite)


def test_kept_runs_read_into_postgresql_are_what_their_archives_hold(database, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)
    archive.read_references()
    found = tracking.evidence(tracking.REFERENCE, "face-age")
    kept = results_page.kept()["H100"].table
    kept = kept[kept.experiment == "face-age"].reset_index(drop=True)
    pd.testing.assert_frame_equal(found.table, kept)


def test_a_server_that_is_not_there_is_told_in_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"postgresql://me:secret@/runs?host={tmp_path}")
    with pytest.raises(ConnectionError, match="the record at postgresql:///runs.* cannot be") as e:
        store.client()
    assert "secret" not in str(e.value) and "\n" not in str(e.value)
