"""Fleets in slices, and the slices on Ray: the same runs, each once, whoever is lost on the way."""

import ast
import os
import re
import shutil
import signal
import socket
import sys
import tempfile
import threading
from dataclasses import replace
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import tiny
import yaml

from deimos.execution import ray_engine
from deimos.execution.parameters import assigned, parameters_for
from deimos.execution.ray_engine import RayOutcome
from deimos.experiment.runs import Slice

HELPERS = Path(tiny.__file__).parent
ROOT = HELPERS.parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[!9]*.ipynb"))
PARAMETERS = """\
scale: str = "paper"
methods: list[str] = ["deimos", "max_variance"]
batch_size: int = 4
repeats: int = 2
hold: int | None = None
"""
RUN = """\
# Run: tiny enters tracking.fleet
import tiny
tiny.experiment({name!r}, {diary!r}, repeats, hold=hold, gate={gate!r}, methods=methods)
"""


@pytest.fixture
def notebooks(tmp_path, write_notebook, monkeypatch):
    """Two notebooks of the tiny experiment, whose last cell needs all of the runs."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{HELPERS}")
    monkeypatch.delenv("DEIMOS_EXECUTION", raising=False)
    made = []
    for name in ("04-tiny", "05-tiny"):
        run = RUN.format(name=name, diary=f"{tmp_path}/{name}", gate=f"{tmp_path}/gate")
        there = f"len(tiny.content('{tmp_path}/mlflow.db', '{name}'))"
        after = f"import tiny\nassert {there} == 73 * repeats"
        path = tmp_path / f"notebooks/{name}.ipynb"
        made.append(write_notebook(path, PARAMETERS, run, after))
    (tmp_path / "notebooks/scales").mkdir()
    smoke = {"04-tiny": {"hold": 1}, "05-tiny": {"hold": 1, "repeats": 1}}
    (tmp_path / "notebooks/scales/smoke.yaml").write_text(yaml.safe_dump(smoke))
    return made


@pytest.fixture(scope="module")
def plain(tmp_path_factory, empty_database):
    """The record's content after one process has run the tiny experiment alone."""
    file = shutil.copy(empty_database, tmp_path_factory.mktemp("plain") / "mlflow.db")
    assert tiny.ended(tiny.started(file)) == 0
    return tiny.content(file)


@pytest.mark.soak
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_member_of_a_notebooks_fleets_is_a_slice(notebook, database):
    parameters = parameters_for(notebook, "smoke", None)
    cells = ray_engine.code(notebook, parameters)
    parts = ray_engine.plan(notebook, "smoke", cells)
    assert executions(database, "active") == [] and len(set(parts)) == len(parts)
    if "tracking.fleet(" not in notebook.read_text():
        assert parts == []
        return
    assert "tracking.fleet(" in cells[-1] and "tracking.table(" not in cells[-1]
    values = {name: value for name, _, value in assigned(notebook)} | parameters
    asked = list(EXPECTED[notebook.stem](values))
    wanted = {(b, (m,), (r,)) for r in range(1, values["repeats"] + 1) for b, m in asked}
    assert {(part.batch_size, part.methods, part.repeats) for part in parts} == wanted
    assert [part.repeats for part in parts] == sorted(part.repeats for part in parts)


# Batch size and method of every run that a notebook asks for, from its parameters.
EXPECTED = {
    "02-splicing": lambda v: product([v["batch_size"]], v["methods"]),
    "03-face-age": lambda v: product(v["batch_sizes"], v["methods"]),
    "04-mnist-7-vs-9": lambda v: [
        *product([25], v["compared"] + v["of_batches"]),
        *product([1], v["compared"] + v["of_single_points"]),
    ],
    "05-mnist-0-to-9": lambda v: product(v["batch_sizes"], v["methods"]),
    "B3-rivals": lambda v: product([v["batch_size"]], v["methods"]),
    "B4-centred-targets": lambda v: product([v["batch_size"]], v["methods"]),
    "B2-what-matters": lambda v: product(
        [v["batch_size"]], ["deimos", *v["of_batches"], *v["sampling"]]
    ),
}


def test_a_slice_is_read_as_it_was_written():
    part = Slice(25, ("deimos", "k_center"), (1, 3))
    assert Slice.from_tag(part.to_tag()) == part and Slice.from_tag(None) is None
    assert not part.covers(1, "deimos", 1) and not part.covers(25, "deimos", 2)


def executions(database, stage):
    query = (
        "SELECT status FROM runs JOIN tags USING (run_uuid) WHERE key = 'kind' AND"
        f" value = 'execution' AND lifecycle_stage = '{stage}'"
    )
    return [status for (status,) in tiny.rows(database, query)]


@pytest.mark.soak
def test_slices_together_record_what_the_whole_fleet_would_and_leave_no_execution(
    notebooks, database, plain, tmp_path
):
    tasks = ray_engine.tasks_of(notebooks[0], "smoke", None)
    assert len(tasks) == 4
    (tmp_path / "gate").touch()
    for task in [*tasks, tasks[0]]:
        assert ray_engine.work(task) == RayOutcome(node=socket.gethostname())
    pd.testing.assert_frame_equal(tiny.content(database), plain, check_exact=True)
    assert len((tmp_path / "04-tiny").read_text().splitlines()) == tiny.STEPS
    assert executions(database, "active") == []
    assert executions(database, "deleted") == ["FINISHED"] * 6  # with the one that planned


@pytest.mark.soak
@pytest.mark.parametrize(
    ("error", "again"), [("ValueError('no')", False), ("ConnectionError('no')", True)]
)
def test_only_a_lost_record_is_worth_another_try_and_a_failure_stays_in_view(
    notebooks, database, error, again
):
    task = ray_engine.tasks_of(notebooks[0], "smoke", None)[0]
    outcome = ray_engine.work(replace(task, cells=(f"raise {error}",)))
    assert outcome.again is again and outcome.said == f"{error.partition('(')[0]}: no"
    assert executions(database, "active") == ["FAILED"]


@pytest.mark.soak
@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"host": "elsewhere"}, "Ray spans several machines .*MLFLOW_TRACKING_URI=http"),
        ({"fingerprint": "0"}, "other code of deimos: install the same commit on every node"),
    ],
)
def test_a_node_without_the_record_or_the_code_refuses_to_work(notebooks, change, sentence):
    task = ray_engine.tasks_of(notebooks[0], "smoke", None)[0]
    outcome = ray_engine.work(replace(task, **change))
    assert re.search(sentence, outcome.said) and not outcome.again


def test_a_record_that_is_a_file_is_refused_on_several_machines(notebooks, monkeypatch):
    nodes = [
        {"Alive": True, "NodeManagerHostname": name, "NodeManagerAddress": "10.0.0.1"}
        for name in ("a", "b")
    ]
    ray = SimpleNamespace(init=lambda *_, **__: None, nodes=lambda: nodes)
    with pytest.raises(ValueError, match="Ray spans several machines .a, b.: name an MLflow"):
        ray_engine.connect(ray)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://10.0.0.1:5000")
    ray_engine.connect(ray)
    nodes[1]["Alive"] = False
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    ray_engine.connect(ray)


def test_without_ray_a_sentence_says_how_to_install_it(notebooks, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert ray_engine.ray_program([str(notebooks[0])]) == 2
    assert capsys.readouterr().err == ray_engine.INSTALL + "\n"


@pytest.mark.parametrize("share", ["0", "1.5", "-1"])
def test_a_share_of_a_gpu_that_is_none_is_refused(notebooks, share, capsys):
    assert ray_engine.ray_program([str(notebooks[0]), "--gpus-per-task", share]) == 2
    assert "must be a share of one, or whole" in capsys.readouterr().err


def test_without_the_engine_ray_is_never_imported():
    """No module imports it but the engine, when asked to run; and the engine, no module."""
    for module in (ROOT / "deimos").rglob("*.py"):
        nodes = ast.walk(ast.parse(module.read_text()))
        imports = [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]
        names = {getattr(node, "module", None) for node in imports}
        names |= {alias.name for node in imports for alias in node.names}
        found = {node.col_offset > 0 for node in imports if node.names[0].name == "ray"}
        assert found == ({True} if module.name == "ray_engine.py" else set())
        assert module.name == "ray_engine.py" or "ray_engine" not in names


@pytest.fixture
def two_nodes(notebooks, monkeypatch):
    """Ray on this machine alone, as two nodes of one pretended GPU each."""
    surroundings = {
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # 127.0.0.1 alone
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "disabled",
        "RAY_raylet_start_wait_time_s": "40",
    }
    for name, value in surroundings.items():
        monkeypatch.setenv(name, value)
    pytest.importorskip("ray", reason="Ray is not installed")
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 2, "num_gpus": 1, "object_store_memory": 100_000_000}
    # A name short enough for sockets, which pytest's own folder has not.
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder:
        head = {"include_dashboard": False, "temp_dir": folder, **node}
        # Where it notes a cluster's address, wherever that keeps its own files.
        Path(os.environ.get("RAY_TMPDIR", tempfile.gettempdir()), "ray").mkdir(exist_ok=True)
        cluster = persistent(lambda: Cluster(initialize_head=True, head_node_args=head))
        try:
            second = persistent(lambda: cluster.add_node(**node))
            monkeypatch.setenv("RAY_ADDRESS", cluster.address)
            yield cluster, second
        finally:
            cluster.shutdown()


def persistent(start, tries=3):
    """On a machine so busy that its own helpers take 15 s to start, a node of Ray gives up."""
    for left in reversed(range(tries)):
        try:
            return start()
        except Exception as failed:
            if left == 0 or "timed out during startup" not in str(failed):
                raise


def children(pid):
    """The processes that this one has started and that live."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def kill_half_way(cluster, node, database, gate, lost):
    """SIGKILL a node and all its workers as soon as one of them has a whole iteration recorded.

    Then let all others work: until now, none has come to the end of a second iteration.
    """
    query = """
        SELECT p.value FROM runs JOIN tags p USING (run_uuid)
        JOIN tags e ON e.key = 'execution' AND e.value = runs.run_uuid
        JOIN metrics ON metrics.run_uuid = e.run_uuid
        WHERE p.key = 'processes' AND metrics.key = 'n_labelled' AND runs.status = 'RUNNING'
    """
    raylet = node.all_processes["raylet"][0].process.pid

    def at_work():
        told = [processes.split("-")[-2] for (processes,) in tiny.rows(database, query)]
        return set(map(int, told)) & set(children(raylet))

    try:
        tiny.wait_until(at_work, limit=300)
        lost += at_work()
        for pid in [*children(raylet), raylet]:
            os.kill(pid, signal.SIGKILL)
        cluster.remove_node(node, allow_graceful=False)
    finally:
        gate.touch()


@pytest.mark.soak
def test_a_node_that_is_killed_half_way_costs_its_unfinished_iterations_and_doubles_nothing(
    two_nodes, notebooks, database, plain, tmp_path, capfd
):
    lost = []
    killer = threading.Thread(
        target=kill_half_way, args=(*two_nodes, database, tmp_path / "gate", lost)
    )
    killer.start()
    asked = ["--scale", "smoke", "--gpus-per-task", "0.5"]
    assert ray_engine.ray_program([*map(str, notebooks), *asked]) == 0
    killer.join()
    assert lost
    said = capfd.readouterr().out
    assert 1 <= said.count(": tried again after") <= 2 and "(6 of 6)" in said
    for notebook, expected in zip(notebooks, (plain, plain[plain.repeat == "1"]), strict=True):
        content, expected = tiny.content(database, notebook.stem), expected.reset_index(drop=True)
        pd.testing.assert_frame_equal(content, expected, check_exact=True)
        assert (notebook.parent / f"executed/{notebook.stem}.html").exists()
    begun = sum(((tmp_path / n.stem).read_text().splitlines() for n in notebooks), [])
    steps = tiny.STEPS + tiny.STEPS // 2
    assert steps <= len(begun) <= steps + 2  # with those that were cut off
    members = "SELECT status FROM runs JOIN tags USING (run_uuid) WHERE key = 'method'"
    assert tiny.rows(database, members) == [("FINISHED",)] * 6
    left = executions(database, "active")
    assert left.count("FINISHED") == 2 and left.count("KILLED") == len(left) - 2
