"""Killed, stopped or cut off anywhere, and taken up again: as if nothing had happened."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny
import yaml

from deimos import tracking
from deimos.record import process_locks

HELPERS = Path(tiny.__file__).parent
ROOT = HELPERS.parents[1]
ENDLESS = 10**9  # epochs: a fit that takes weeks
pytestmark = pytest.mark.soak
WORKING = "SELECT * FROM runs JOIN tags USING (run_uuid) WHERE key = 'repeat'"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, empty_database):
    """The record's content after an undisturbed run of the tiny experiment."""
    database = shutil.copy(empty_database, tmp_path_factory.mktemp("undisturbed") / "mlflow.db")
    assert tiny.ended(tiny.started(database)) == 0
    assert len(tiny.steps(database)) == tiny.STEPS
    return tiny.content(database)


def assert_whole(database, expected):
    """The same values to the last bit, each of them once, and nothing still running."""
    pd.testing.assert_frame_equal(tiny.content(database), expected, check_exact=True)
    members = "SELECT status FROM runs JOIN tags USING (run_uuid) WHERE key = 'method'"
    assert tiny.rows(database, members) == [("FINISHED",)] * len(tiny.METHODS) * tiny.REPEATS
    assert "RUNNING" not in tiny.statuses(database)


@pytest.mark.parametrize("seed", range(7))
def test_an_experiment_killed_anywhere_ends_as_if_nothing_had_happened(
    database, tmp_path, undisturbed, seed
):
    """Two of its lives end after a random time, and two at a random statement or commit.

    The first life would write some 800 times, one with nothing left to do still 300 times.
    """
    rng, killed = np.random.default_rng(seed), 0
    for life in range(4):
        there, diary = tiny.steps(database), tmp_path / f"life {life}"
        last = None if life % 2 else int(rng.integers(1, 300 if life else 800))
        process = tiny.started(database, diary=diary, last=last)
        if last is None:
            tiny.kill_at_sight(process, tmp_path, delay=rng.uniform(0, 0.5))
        killed += tiny.ended(process) == -signal.SIGKILL
        begun = diary.read_text().splitlines() if diary.exists() else []
        assert not there & set(begun) and len(begun) == len(set(begun))
    assert killed >= 3  # 21 of all, at least; a life may have ended before its time
    assert tiny.ended(tiny.started(database)) == 0
    assert_whole(database, undisturbed)


def test_an_execution_that_was_killed_is_ended_by_the_next_of_whatever_notebook(
    database, monkeypatch
):
    process = tiny.started(database, what=tiny.killed_at_its_end)
    assert tiny.ended(process) == -signal.SIGKILL
    assert tiny.statuses(database) == {"FINISHED": 4, "RUNNING": 1}
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
    tracking.close_execution(tracking.open_execution("other", "smoke"), "finished")
    assert tiny.statuses(database) == {"FINISHED": 5, "KILLED": 1}


def test_an_iteration_is_in_the_record_whole_or_not_at_all_wherever_its_writing_is_cut(
    tmp_path, empty_database
):
    found, code, last = [], None, 0
    while code != 0:
        last += 1
        database = shutil.copy(empty_database, tmp_path / f"{last}.db")
        code = tiny.ended(tiny.started(database, what=tiny.one_iteration, last_of_log=last))
        written = tiny.rows(database, "SELECT COUNT(*) FROM metrics")[0][0]
        latest = tiny.rows(database, "SELECT COUNT(*) FROM latest_metrics")[0][0]
        found.append((written, latest))
    nothing, whole = (0, 0), (7, 4)  # the ids of four points are one metric
    assert set(found) == {nothing, whole}
    assert found == sorted(found) and found.count(nothing) >= 5  # once there, it stays


@pytest.fixture
def notebook(tmp_path, write_notebook, monkeypatch):
    """A notebook of the tiny experiment, and the record that its executions write to."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{HELPERS}")
    monkeypatch.delenv("DEIMOS_EXECUTION", raising=False)

    def write(name="01-tiny", epochs=tiny.SCHEDULE.fit.epochs):
        path = tmp_path / f"notebooks/{name}.ipynb"
        run = f"tiny.experiment('{name}', epochs={epochs}, hold=hold)"
        write_notebook(path, "hold: int = 100", "import tiny", run)
        scales = {n.stem: {} for n in path.parent.glob("*.ipynb")}
        (path.parent / "scales").mkdir(exist_ok=True)
        (path.parent / "scales/smoke.yaml").write_text(yaml.safe_dump(scales))
        return path

    return write


def command(*arguments, **how):
    """A command in a process group of its own, as a terminal starts it."""
    return subprocess.Popen(
        arguments,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **how,
    )


def execution(notebook, *more):
    driver = (sys.executable, "-m", "deimos.execution.notebooks", str(notebook), "--scale", "smoke")
    return command(*driver, *more)


def told(notebook):
    file = notebook.parent / "executed" / f"{notebook.stem}.json"
    return json.loads(file.read_text()) if file.exists() else {"status": "nothing"}


def kernels(database) -> list[int]:
    """The processes that joined the executions of drivers, one each."""
    query = (
        "SELECT value FROM tags JOIN runs USING (run_uuid)"
        " WHERE key = 'processes' AND status = 'RUNNING'"
    )
    processes = [value.split() for (value,) in tiny.rows(database, query)]
    return [int(names[1].split("-")[-2]) for names in processes]


def test_a_driver_and_then_a_kernel_killed_in_the_middle_of_work_lose_and_repeat_nothing(
    notebook, database, undisturbed
):
    path = notebook()

    first = execution(path, "-p", "hold", "3")
    tiny.wait_until(lambda: len(tiny.steps(database)) == 3, first)
    first.kill()
    first.wait()
    assert told(path)["status"] == "nothing"

    second = execution(path, "-p", "hold", "4")
    tiny.wait_until(lambda: len(tiny.steps(database)) == 3 + 4, second)
    (at_work,) = kernels(database)
    os.kill(at_work, signal.SIGKILL)
    second.communicate(timeout=60)
    assert second.returncode == 1 and told(path)["status"] == "failed"
    assert tiny.statuses(database).keys() <= {"KILLED", "FAILED", "FINISHED"}

    third = execution(path)
    third.communicate(timeout=60)
    assert third.returncode == 0 and told(path)["status"] == "finished"
    assert told(path)["new"] == 0 and told(path)["resumed"] > 0
    assert_whole(database, undisturbed)


def test_a_driver_that_is_told_to_end_stops_within_seconds_and_says_so(notebook, database):
    path = notebook(epochs=ENDLESS)
    driver = execution(path)
    tiny.wait_until(lambda: len(tiny.rows(database, WORKING)) == 4, driver)
    driver.terminate()
    said, _ = driver.communicate(timeout=20)
    assert driver.returncode == 130 and "01-tiny stopped: what is recorded is kept" in said
    assert told(path)["status"] == "stopped"
    assert tiny.statuses(database) == {"KILLED": 5}


def test_ctrl_c_stops_make_reproduce_as_a_whole(notebook, database, tmp_path):
    first, second, third = (notebook(f"0{n}-tiny", ENDLESS) for n in (1, 2, 3))
    for place in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / place, tmp_path)
    (tmp_path / "installed").touch()
    here = ["make", f"PY={sys.executable}", "ENV=installed", "SCALE=smoke", "reproduce"]
    make = command(*here, cwd=tmp_path)
    tiny.wait_until(lambda: len(tiny.rows(database, WORKING)) == 8, make)
    at_work = kernels(database)
    os.killpg(make.pid, signal.SIGINT)
    said, _ = make.communicate(timeout=20)
    assert make.returncode != 0 and len(at_work) == 2
    assert [told(one)["status"] for one in (first, second, third)] == [
        *("nothing", "stopped", "stopped")  # the last come first
    ]
    assert "01-tiny" not in said and "make ui" not in said
    assert tiny.statuses(database) == {"KILLED": 10}
    for process in at_work:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)


def test_a_driver_waits_for_another_of_the_same_notebook_and_says_so(notebook, write_notebook):
    path = write_notebook(notebook(), "n: int = 0")
    with process_locks.exclusive(path, "testing"):
        driver = execution(path)
        heard = driver.stdout.readline()
        assert "another process is executing 01-tiny.ipynb; waiting for it" in heard
        assert not (path.parent / "executed/01-tiny.partial.ipynb").exists()
    driver.communicate(timeout=60)
    assert driver.returncode == 0 and told(path)["status"] == "finished"
