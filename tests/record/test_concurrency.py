"""Several processes on one record: no work done twice, nothing lost, nobody shut out for ever."""

import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
import tiny
from mlflow.entities import Dataset, DatasetInput
from mlflow.exceptions import MlflowException
from sqlalchemy import event
from sqlalchemy.orm import Session

from deimos import tracking
from deimos.record import claims, executions, process_locks, store

INPUT = DatasetInput(Dataset("digits", "0123456789abcdef", "local", "{}"))
SECONDS = float(os.environ.get("DEIMOS_WRITERS_SECONDS", "5"))  # by hand: 300


def begun(*diaries):
    return sorted(line for diary in diaries for line in diary.read_text().splitlines())


def counts(database):
    """New, resumed and skipped members of each execution."""
    query = "SELECT value FROM tags WHERE key = 'runs_{}' ORDER BY run_uuid"
    told = [tiny.rows(database, query.format(c)) for c in ("new", "resumed", "skipped")]
    return sorted(tuple(int(value) for (value,) in each) for each in zip(*told, strict=True))


@pytest.mark.soak
def test_two_executions_that_start_at_once_share_one_run_a_member(database, tmp_path):
    start, diaries = tiny.PROCESSES.Barrier(2), [tmp_path / "one", tmp_path / "two"]
    both = [tiny.started(database, diary=diary, start=start, epochs=10) for diary in diaries]
    assert [tiny.ended(process) for process in both] == [0, 0]
    done = begun(*(diary for diary in diaries if diary.exists()))
    assert len(done) == tiny.STEPS and set(done) == tiny.steps(database)
    assert len(tiny.rows(database, "SELECT * FROM tags WHERE key = 'method'")) == 4
    assert counts(database) == [(0, 0, 4), (4, 0, 0)]
    waiting = tiny.said(database).read_text().count("at work on the same runs; waiting")
    assert waiting in (1, 2)  # two that claim at once both step back first
    assert tiny.statuses(database) == {"FINISHED": 6}
    assert tiny.rows(database, "SELECT * FROM tags WHERE key LIKE 'claim.%'") == []


def test_of_two_that_find_work_free_at_the_same_moment_one_steps_back(database, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
    both_looked, looked, look = threading.Barrier(2), threading.local(), claims._rivals

    def look_together(*about):
        rivals = look(*about)
        if not hasattr(looked, "once"):
            looked.once = both_looked.wait()
        return rivals

    monkeypatch.setattr(claims, "_rivals", look_together)
    inside, most = [], []

    def work(id):
        place = replace(experiment, run_id=id)
        with claims.claim(place, ["this"]):
            inside.append(id)
            most.append(len(inside))
            time.sleep(0.5)
            inside.remove(id)

    experiment = tracking.experiment("04-tiny", "Is all of it there?", "smoke")
    ids = [tracking.open_execution("04-tiny", "smoke") for _ in range(2)]
    threads = [threading.Thread(target=work, args=(id,)) for id in ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert most == [1, 1]


@pytest.mark.soak
@pytest.mark.parametrize("server", [False, True], ids=["SQLite", "server"])
def test_whoever_waits_takes_over_from_one_that_is_killed(database, tmp_path, server):
    diaries = [tmp_path / "one", tmp_path / "two"]
    first = tiny.started(database, diary=diaries[0], epochs=40, server=server)
    tiny.wait_until(lambda: len(tiny.steps(database)) >= 2)
    second = tiny.started(database, diary=diaries[1], epochs=40, server=server)
    running = "SELECT * FROM runs WHERE name = '04-tiny · smoke' AND status = 'RUNNING'"
    tiny.wait_until(lambda: len(tiny.rows(database, running)) == 2)
    first.kill()
    tiny.ended(first)
    whole = tiny.steps(database)
    assert not diaries[1].exists() and len(whole) < tiny.STEPS
    assert tiny.ended(second) == 0
    assert set(begun(diaries[1])) == tiny.steps(database) - whole
    assert len(tiny.steps(database)) == tiny.STEPS
    assert tiny.statuses(database) == {"FINISHED": 5, "KILLED": 1}


@pytest.mark.soak
def test_only_work_that_is_claimed_is_waited_for(database):
    """One that wants two repeats, both done, does not wait for one that is at a third."""
    assert tiny.ended(tiny.started(database)) == 0
    first = tiny.started(database, repeats=3, hold=0)
    tiny.wait_until(
        lambda: len(tiny.rows(database, "SELECT * FROM tags WHERE key = 'method'")) == 6
    )
    assert tiny.ended(tiny.started(database)) == 0
    assert first.is_alive()
    first.kill()


def test_a_process_lives_until_it_is_killed(tmp_path):
    code = (
        "import pathlib, sys, time; from deimos.record import process_locks;"
        "print(process_locks.this_process(pathlib.Path(sys.argv[1])), flush=True); time.sleep(600)"
    )
    here = [sys.executable, "-c", code, str(tmp_path)]
    process = subprocess.Popen(here, stdout=subprocess.PIPE, text=True)
    name = process.stdout.readline().strip()
    assert not process_locks.is_gone(tmp_path, name) and (tmp_path / name).exists()
    process.kill()
    process.wait()
    assert process_locks.is_gone(tmp_path, name) and not (tmp_path / name).exists()
    assert process_locks.is_gone(tmp_path, name)


def test_on_a_server_silence_is_death_and_a_sign_of_life_is_not(database, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
    monkeypatch.setattr(store, "locks", lambda: None)
    monkeypatch.setattr(executions, "_beat", lambda run_id: None)
    clock = [0.0]
    monkeypatch.setattr(executions, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    silent, lively = (tracking.open_execution("04-tiny", "smoke") for _ in range(2))
    seen = {}
    for clock[0] in (0.0, 100.0, 200.0, 300.0):
        store.client().set_tag(lively, "beat", str(clock[0]))
        executions.end_the_dead(seen)
    status = {id: store.client().get_run(id).info.status for id in (silent, lively)}
    assert status == {silent: "KILLED", lively: "RUNNING"}


def a_data_set(place):
    store.log_inputs(run := store.client().create_run(place).info.run_id, [INPUT])
    assert len(store.client().get_run(run).inputs.dataset_inputs) == 1


def a_tag(place):
    store.set_experiment_tag(place, store.NOTE, "the same of both")


@pytest.mark.parametrize(("write", "table"), [(a_data_set, "datasets"), (a_tag, "experiment_tags")])
def test_two_that_add_the_same_row_at_once_both_have_it(database, monkeypatch, write, table):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
    place = store.client().create_experiment("shared")
    both_looked, failed = threading.Barrier(2, timeout=60), []

    def add_together(session, *_):
        if any(row.__tablename__ == table for row in session.new):
            both_looked.wait()

    event.listen(Session, "before_flush", add_together)
    monkeypatch.setattr(threading, "excepthook", failed.append)
    both = [threading.Thread(target=write, args=(place,)) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    event.remove(Session, "before_flush", add_together)
    assert failed == []
    assert len(tiny.rows(database, f"SELECT * FROM {table}")) == 1


def test_a_write_that_fails_for_another_reason_is_not_tried_again(database, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
    asked, write = [], store.client().set_experiment_tag

    def asking(*what):
        asked.append(what)
        return write(*what)

    monkeypatch.setattr(store.client(), "set_experiment_tag", asking)
    with pytest.raises(MlflowException, match="No Experiment with id=77"):
        store.set_experiment_tag("77", store.NOTE, "nowhere")
    assert len(asked) == 1


@pytest.mark.soak
def test_four_writers_at_full_rate_lose_nothing(database):
    start = tiny.PROCESSES.Barrier(4)
    writers = [
        tiny.started(database, what=tiny.write, writer=i, seconds=SECONDS, start=start)
        for i in range(4)
    ]
    assert [tiny.ended(writer, SECONDS + 60) for writer in writers] == [0] * 4
    query = "SELECT COUNT(*) FROM metrics JOIN tags USING (run_uuid) WHERE tags.key = 'writer'"
    said = "SELECT SUM(value) FROM tags WHERE key = 'written'"
    there, written = tiny.rows(database, query)[0][0], int(tiny.rows(database, said)[0][0])
    assert there == written > 4 * 100
    print(f"{written} metrics in {SECONDS} s, none lost")
