"""A record that cannot be written any more: what is told, and what is still there afterwards."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import tiny
import yaml
from disks import small_disk

from deimos import tracking
from deimos.record import fleets

HELPERS = Path(tiny.__file__).parent
ROOT = HELPERS.parents[1]
EPOCHS = 60  # slow enough for something to happen in the middle

pytestmark = pytest.mark.soak


@pytest.fixture
def notebook(tmp_path, write_notebook, monkeypatch):
    """The tiny experiment as a notebook, which the driver finds with its scale file."""
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{HELPERS}")
    monkeypatch.delenv("DEIMOS_EXECUTION", raising=False)
    path = tmp_path / "notebooks/01-tiny.ipynb"
    run = f"tiny.experiment('01-tiny', epochs={EPOCHS})"
    write_notebook(path, "n: int = 1", "import tiny", run)
    (path.parent / "scales").mkdir()
    (path.parent / "scales/smoke.yaml").write_text(yaml.safe_dump({"01-tiny": {}}))
    return path


def execution(notebook, uri):
    environment = {**os.environ, "MLFLOW_TRACKING_URI": uri, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "deimos.execution.notebooks", str(notebook), "--scale", "smoke"],
        **{"env": environment, "stderr": subprocess.PIPE, "text": True, "start_new_session": True},
    )


def ended(driver, limit=90):
    """Its exit code, and the line that says why."""
    _, said = driver.communicate(timeout=limit)
    lines = [line for line in said.splitlines() if line.startswith("01-tiny ")]
    assert "Traceback" not in said, said
    assert len(lines) == 1, said
    return driver.returncode, lines[0]


def test_a_disk_that_fills_up_is_told_and_what_was_recorded_is_kept_and_gone_on_from(
    notebook, tmp_path, empty_database
):
    with small_disk(tmp_path / "disk", 4000) as disk:
        database, rest = shutil.copy(empty_database, disk / "mlflow.db"), disk / "rest"
        driver = execution(notebook, f"sqlite:///{database}")
        tiny.wait_until(lambda: len(tiny.steps(database)) >= 3, driver)
        with pytest.raises(OSError, match="No space left"), rest.open("wb", 0) as file:
            while True:
                file.write(bytes(512))
        code, said = ended(driver)
        assert code == 1 and "01-tiny failed" in said and "disk is full" in said and len(said) < 400
        before = tiny.content(database)
        assert 3 <= len(tiny.steps(database)) < tiny.STEPS
        rest.unlink()
        again = execution(notebook, f"sqlite:///{database}")
        assert again.communicate(timeout=90) and again.returncode == 0
        after = tiny.content(database)
        assert len(tiny.steps(database)) == tiny.STEPS
        assert len(before.merge(after)) == len(before) and not after.duplicated().any()
        # The one that failed says so if that word still fitted; if not, the next one found it dead.
        ended_as = tiny.statuses(database)
        assert ended_as in ({"FINISHED": 5, "FAILED": 1}, {"FINISHED": 5, "KILLED": 1})


def test_a_record_that_may_only_be_read_is_refused_before_any_work(
    notebook, tmp_path, empty_database
):
    with small_disk(tmp_path / "disk", 4000) as disk:
        shutil.copy(empty_database, disk / "mlflow.db")
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        code, said = ended(execution(notebook, f"sqlite:///{disk}/mlflow.db"))
        assert code == 1 and f"the record at sqlite:///{disk}/mlflow.db cannot be opened" in said
    assert os.listdir(notebook.parent / "executed") == ["01-tiny.json"]


def as_nobody(uri, answers):
    os.environ["MLFLOW_TRACKING_URI"] = uri
    if os.geteuid() == 0:  # whom nothing is forbidden
        os.seteuid(65534)
    try:
        answers.put(str(tracking.table()))
    except Exception as problem:
        answers.put(f"{type(problem).__name__}: {problem}")


@pytest.mark.parametrize("there", [True, False])
def test_a_record_without_permission_to_write_is_refused(empty_database, there):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if there:
            shutil.copy(empty_database, folder / "mlflow.db").chmod(0o444)
        folder.chmod(0o555)
        answers = tiny.PROCESSES.Queue()
        uri = f"sqlite:///{folder}/mlflow.db"
        process = tiny.PROCESSES.Process(target=as_nobody, args=(uri, answers))
        process.start()
        said = answers.get(timeout=90)
        process.join(10)
        folder.chmod(0o755)
        assert said.startswith(f"ConnectionError: the record at {uri} cannot be opened: ")
        assert "\n" not in said


def free_port():
    with socket.socket() as any_free:
        any_free.bind(("127.0.0.1", 0))
        return any_free.getsockname()[1]


def answer(url, **headers):
    """The status with which a server answers; None if it does not."""
    try:
        return urllib.request.urlopen(urllib.request.Request(url, headers=headers)).status
    except urllib.error.HTTPError as refusal:
        return refusal.code
    except urllib.error.URLError:
        return None


def listening(port):
    """The addresses at which somebody listens on a port, as the kernel writes them."""
    tables = [Path(f"/proc/net/{kind}").read_text() for kind in ("tcp", "tcp6")]
    ends = [line.split()[1:4] for table in tables for line in table.splitlines()[1:]]
    return {
        here.split(":")[0]
        for here, _, state in ends
        if here.endswith(f":{port:04X}") and state == "0A"
    }


def test_the_ui_serves_this_machine_alone_and_when_it_dies_nothing_recorded_is_lost(
    notebook, database
):
    port = free_port()
    at = f"http://127.0.0.1:{port}"
    ui = [sys.executable, "-m", "deimos.report.browse", str(port)]
    quiet = dict.fromkeys(("stdout", "stderr"), subprocess.DEVNULL)
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{database}"}
    server = subprocess.Popen(ui, env=environment, **quiet)
    try:
        tiny.wait_until(lambda: answer(f"{at}/health") == 200, server)
        assert listening(port) == {"0100007F"}  # 127.0.0.1
        search = f"{at}/api/2.0/mlflow/experiments/search?max_results=9"
        assert answer(at) == 200 and answer(at, Host="elsewhere.example") == 403
        assert answer(search) == 200 and answer(search, Host="elsewhere.example") == 403
        assert answer(f"{at}/ajax-api/3.0/mlflow/assistant/config") == 404  # no shell for anybody
        driver = execution(notebook, at)
        tiny.wait_until(lambda: len(tiny.steps(database)) >= 3, driver)
    finally:
        server.kill()
        server.wait()
    code, said = ended(driver)
    assert code == 1 and "01-tiny failed" in said and f"127.0.0.1:{port}" in said, said
    assert 3 <= len(tiny.steps(database)) < tiny.STEPS and len(said) < 500
    content = tiny.content(database)
    assert not content.duplicated(["method", "repeat", "key", "step"]).any()


def test_a_clock_that_is_set_back_between_iterations_and_executions_changes_nothing(
    database, tmp_path, empty_database, monkeypatch
):
    uri = f"sqlite:///{database}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.delenv("DEIMOS_EXECUTION", raising=False)
    now = time.time()
    hours = iter(range(10_000))
    monkeypatch.setattr(fleets.time, "time", lambda: now - 3600 * next(hours))
    tiny.experiment(epochs=1)
    earlier = tracking.table("moons")
    monkeypatch.setattr(fleets, "_now", lambda: "2001-01-01T00:00:00.000000+00:00")
    tiny.experiment(epochs=2)
    monkeypatch.undo()
    second = shutil.copy(empty_database, tmp_path / "second.db")
    for epochs in (1, 2):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{second}")
        tiny.experiment(epochs=epochs)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    timeless = ["accuracy", "mean_variance", "diversity"]
    later = tracking.table("moons")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{second}")
    expected = tracking.table("moons")
    assert later[later.metric.isin(timeless)].equals(expected[expected.metric.isin(timeless)])
    assert not later.equals(earlier)
    assert tiny.content(database).equals(tiny.content(second))
