"""Runs go from one store to another; nothing of them changes, and none comes twice."""

import base64
import json
import shutil
import signal
import sqlite3
import zipfile
import zlib
from contextlib import closing
from pathlib import Path

import pandas as pd
import pytest
import tiny
from mlflow.entities import Metric

from deimos import tracking
from deimos.record import archive, executions, queries, run_rows, saved_views, store


@pytest.fixture
def use(monkeypatch, tmp_path, empty_database):
    """Turn to the store of this name, which is made if it is new."""
    monkeypatch.delenv("DEIMOS_EXECUTION", raising=False)

    def turn_to(name):
        file = tmp_path / name / "mlflow.db"
        if not file.exists():
            file.parent.mkdir()
            shutil.copy(empty_database, file)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{file}")

    return turn_to


@pytest.fixture(scope="module")
def recorded(tmp_path_factory, empty_database):
    """A folder: a store with an experiment, a table among its artifacts, and the archive of it."""
    folder = tmp_path_factory.mktemp("recorded")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DEIMOS_EXECUTION", raising=False)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
        shutil.copy(empty_database, folder / "mlflow.db")
        tiny.experiment(repeats=1)
        (execution,) = queries.search(kind="execution")
        id, place = execution.info.run_id, execution.info.experiment_id
        about = tracking.Experiment("04-tiny", place, "smoke", id)
        tracking.log_table(about, pd.DataFrame({"a": [1]}), "of-this-run")
        tracking.close_execution(id, "finished")
        assert archive.write_archive(folder / "runs.zip") == len(tiny.METHODS) + 1
    return folder


@pytest.fixture
def exported(recorded, use, tmp_path):
    """The archive, with the store that it came from turned to: "here". Both are the test's own."""
    (tmp_path / "here").mkdir()
    shutil.copy(recorded / "mlflow.db", tmp_path / "here")
    use("here")
    return Path(shutil.copy(recorded / "runs.zip", tmp_path))


def told(run):
    """All of a run that does not say in which store it is."""
    tags = {k: v for k, v in run.data.tags.items() if k != archive.ORIGIN}
    info = run.info.run_name, run.info.status, run.info.start_time, run.info.end_time
    chips = [(chip.dataset.name, chip.dataset.digest) for chip in run.inputs.dataset_inputs]
    values = {key: queries.history(run.info.run_id, key) for key in run.data.metrics}
    return info, run.data.params, tags, chips, values


def by_name(runs):
    return {run.info.run_name: told(run) for run in runs}


def test_a_store_that_reads_an_archive_has_the_same_runs_to_the_last_bit(exported, use):
    before, table = by_name(queries.search()), tracking.table("moons")
    use("there")
    assert archive.read_archive(exported) == (len(tiny.METHODS) + 1, 0)
    assert by_name(queries.search()) == before
    pd.testing.assert_frame_equal(tracking.table("moons"), table, check_exact=True)
    (execution,) = queries.search(kind="execution")
    files = store.client().list_artifacts(execution.info.run_id, "tables")
    assert [file.path for file in files] == ["tables/of-this-run.csv", "tables/of-this-run.html"]
    place = store.client().get_experiment(execution.info.experiment_id)
    assert place.tags["mlflow.note.content"] == "Is all of it there?"


def test_what_is_there_already_does_not_come_twice_wherever_it_was_made(exported, use, tmp_path):
    n = len(tiny.METHODS) + 1
    assert archive.read_archive(exported) == (0, n)
    use("there")
    archive.read_archive(exported)
    assert archive.read_archive(exported) == (0, n)
    again = tmp_path / "again.zip"
    assert archive.write_archive(again) == n
    use("here")
    assert archive.read_archive(again) == (0, n) and len(queries.search()) == n


def test_finished_runs_that_were_read_are_not_run_again(exported, use):
    use("there")
    archive.read_archive(exported)
    tiny.experiment(repeats=1)
    skipped = [int(run.data.tags["runs_skipped"]) for run in queries.search(kind="execution")]
    assert sorted(skipped) == [0, len(tiny.METHODS)]


def test_a_run_that_went_on_since_replaces_its_older_self(exported, use, tmp_path):
    use("there")
    archive.read_archive(exported)
    for run in queries.search(kind="run"):  # as one that was stopped earlier
        store.client().set_terminated(run.info.run_id, "KILLED", run.info.end_time - 1)
    assert archive.read_archive(exported) == (len(tiny.METHODS), 1)
    assert {run.info.status for run in queries.search()} == {"FINISHED"}


def test_a_reading_that_was_interrupted_is_made_good(exported, use, monkeypatch):
    use("there")
    with monkeypatch.context() as patch:
        patch.setattr(store, "LARGEST_WRITE", 0)  # ValueError in the middle of the first run
        with pytest.raises(ValueError):
            archive.read_archive(exported)
    assert archive.read_archive(exported) == (len(tiny.METHODS) + 1, 0)
    assert {run.info.status for run in queries.search()} == {"FINISHED"}


@pytest.mark.soak
@pytest.mark.parametrize("last", [1, 3, 6, 9, 14])
def test_a_reading_that_was_killed_is_made_good(exported, use, tmp_path, last):
    before, n = by_name(queries.search()), len(tiny.METHODS) + 1
    use("there")
    killed = tiny.started(tmp_path / "there/mlflow.db", what=read_and_die, file=exported, last=last)
    assert tiny.ended(killed) == -signal.SIGKILL
    assert 0 < sum(archive.read_archive(exported)) == n
    assert by_name(queries.search()) == before
    assert archive.read_archive(exported) == (0, n)


def read_and_die(file):
    """Read an archive; in a process that is killed meanwhile."""
    archive.read_archive(file)


def test_rows_are_what_mlflows_own_calls_would_have_written(exported, use, monkeypatch, tmp_path):
    kept = {}
    for way in ("rows", "calls"):
        use(way)
        with monkeypatch.context() as patch:
            if way == "calls":
                patch.setattr(run_rows, "database", lambda: None)
            archive.read_archive(exported)
        kept[way] = {table: rows(tmp_path / way / "mlflow.db", table) for table in TABLES}
    for table in TABLES:
        assert kept["rows"][table] == kept["calls"][table], table
    assert all(kept["rows"].values())


TABLES = ("runs", "tags", "params", "metrics", "latest_metrics", "datasets", "inputs")


def rows(database, table):
    """All of a table, each store's own ids and places replaced by the runs' names."""
    with closing(sqlite3.connect(database)) as connection:
        names = dict(connection.execute("SELECT run_uuid, name FROM runs"))
        names |= dict(connection.execute("SELECT dataset_uuid, name FROM datasets"))
        of_input = connection.execute("SELECT input_uuid, destination_id FROM inputs").fetchall()
        names |= {own: f"input of {names[run]}" for own, run in of_input}
        names |= {
            f"{database.parent}/artifacts/04-tiny/{id}/artifacts": f"files of {name}"
            for id, name in names.items()
        }
        found = connection.execute(f"SELECT * FROM {table}").fetchall()
    return sorted([[names.get(value, value) for value in row] for row in found], key=repr)


def test_values_that_no_database_has_are_stored_as_mlflow_stores_them(use):
    use("here")
    place = executions.experiment_id("numbers")
    about = {"name": "odd", "status": "FINISHED", "start_time": 1, "end_time": 2, "params": {}}
    about |= {"tags": {}, "datasets": []}
    odd = [float("inf"), float("-inf"), float("nan"), 0.1, 0.1]
    values = pd.DataFrame({"metric": "x", "step": [0, 1, 2, 3, 3], "timestamp": 7, "value": odd})
    id = run_rows.add(run_rows.database(), place, "/nowhere", about, values)
    twin = store.client().create_run(place).info.run_id
    store.log_metrics(twin, [Metric("x", v, 7, s) for v, s in zip(odd, values.step, strict=True)])
    one, other = (
        [(p.step, repr(p.value)) for p in store.client().get_metric_history(run, "x")]
        for run in (id, twin)
    )
    assert sorted(one) == sorted(other) and len(one) == 4
    assert store.client().get_run(id).data.metrics == {"x": 0.1}


@pytest.fixture
def with_views(use, tmp_path):
    """An archive of a store with a view of its runs and one of runs that are there no more."""
    use("here")
    tiny.experiment(repeats=1)
    place = store.client().get_experiment_by_name("04-tiny").experiment_id
    tracking.view(
        tracking.Experiment("04-tiny", place, "smoke", ""), "Figure 0", "moons", 4, METRIC
    )
    (saved,) = [
        tag for name, tag in store.client().get_experiment(place).tags.items() if "View" in name
    ]
    name, state = saved_views.state_of(saved)
    empty = json.loads(saved) | {"name": "Figure 9 (smoke)"}
    state["searchFilter"] = state["searchFilter"].replace("'moons'", "'suns'")
    empty["state"] = (
        "deflate;" + base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()
    )
    key = saved_views.TAG + "figure-9-smoke"
    store.client().set_experiment_tag(place, key, json.dumps(empty))
    for execution in queries.search(kind="execution"):
        tracking.close_execution(execution.info.run_id, "finished")
    file = tmp_path / "viewed.zip"
    archive.write_archive(file)
    return file


METRIC = "test/accuracy"


def views():
    tags = store.client().get_experiment_by_name("04-tiny").tags
    return dict(saved_views.state_of(tags[tag]) for tag in tags if saved_views.TAG in tag)


def test_views_without_runs_are_neither_carried_nor_listed(with_views, use):
    assert {*views()} == {"Figure 0 (smoke)", "Figure 9 (smoke)"}
    listed = [line for line in tracking.links() if "Figure" in line]
    assert len(listed) == 1 and "Figure 0 (smoke)" in listed[0]
    _, runs = archive.contents(with_views)
    tags = [name for run in runs.values() for name in run["experiment_tags"] if "View" in name]
    assert {*tags} == {saved_views.TAG + "figure-0-smoke"}
    saved_views.prune()
    assert {*views()} == {"Figure 0 (smoke)"}
    use("there")
    archive.read_archive(with_views)
    assert {*views()} == {"Figure 0 (smoke)"}


def test_a_view_of_kept_runs_shows_them_at_their_own_scale(with_views, use):
    use("there")
    archive.read_archive(with_views, scale="reference")
    ((name, state),) = views().items()
    assert name == "Figure 0 (reference)"
    place = store.client().get_experiment_by_name("04-tiny").experiment_id
    shown = store.client().search_runs([place], state["searchFilter"])
    kept = queries.search(kind="run", scale="reference")
    assert {run.info.run_id for run in shown} == {run.info.run_id for run in kept}
    assert len(shown) == len(tiny.METHODS) and state["compareRunCharts"][0]["range"]


def test_kept_runs_stand_apart_from_the_users_own(exported, use, tmp_path, monkeypatch):
    use("there")
    kept = tmp_path / "reference"
    kept.mkdir()
    shutil.copy(exported, kept)
    monkeypatch.setattr(archive, "REFERENCES", kept)
    assert archive.read_references() == len(tiny.METHODS) + 1
    assert archive.read_references() == 0
    assert tracking.table("moons").empty and tracking.table("moons", "smoke").empty
    assert len(tracking.table("moons", "reference", metric="accuracy")) == 4 * len(tiny.METHODS)
    tiny.experiment(repeats=1)  # not taken for done
    assert len(tracking.table("moons", metric="accuracy")) == 4 * len(tiny.METHODS)
    assert archive.write_archive(tmp_path / "own.zip", kind="run") == len(tiny.METHODS)


@pytest.mark.parametrize("damage", ["cut", "foreign", "missing"])
def test_a_file_that_is_no_archive_is_refused_by_name(exported, tmp_path, damage, capsys):
    if damage == "cut":
        exported.write_bytes(exported.read_bytes()[:-40])
    elif damage == "foreign":
        with zipfile.ZipFile(exported, "w") as other:
            other.writestr("holiday.txt", "sun")
    else:
        exported.unlink()
    assert archive.archive_program(["--import", str(exported)]) == 1
    assert "runs.zip" in capsys.readouterr().err


def test_a_file_outside_a_runs_own_folder_is_refused(exported, use):
    with zipfile.ZipFile(exported) as archived:
        (origin,) = {name.split("/")[1] for name in archived.namelist() if "of-this" in name}
    with zipfile.ZipFile(exported, "a") as archived:
        archived.writestr(f"artifacts/{origin}/../../evil", "")
    use("there")
    with pytest.raises(ValueError, match="outside its own folder"):
        archive.read_archive(exported)
