"""Runs go from one store to another; nothing of them changes, and none comes twice."""

import shutil
import zipfile

import pandas as pd
import pytest
import tiny

from deimos import tracking
from deimos.record import archive, reading, store


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


@pytest.fixture
def exported(use, tmp_path):
    """An experiment in store "here", with a table among its artifacts, and the archive of it."""
    use("here")
    tiny.experiment(repeats=1)
    (execution,) = reading.search(kind="execution")
    id, place = execution.info.run_id, execution.info.experiment_id
    about = tracking.Experiment("04-tiny", place, "smoke", id)
    tracking.log_table(about, pd.DataFrame({"a": [1]}), "of-this-run")
    tracking.close_execution(id, "finished")
    file = tmp_path / "runs.zip"
    assert archive.write(file) == len(tiny.METHODS) + 1
    return file


def told(run):
    """All of a run that does not say in which store it is."""
    tags = {k: v for k, v in run.data.tags.items() if k != archive.ORIGIN}
    info = run.info.run_name, run.info.status, run.info.start_time, run.info.end_time
    chips = [(chip.dataset.name, chip.dataset.digest) for chip in run.inputs.dataset_inputs]
    values = {key: reading.history(run.info.run_id, key) for key in run.data.metrics}
    return info, run.data.params, tags, chips, values


def by_name(runs):
    return {run.info.run_name: told(run) for run in runs}


def test_a_store_that_reads_an_archive_has_the_same_runs_to_the_last_bit(exported, use):
    before, table = by_name(reading.search()), tracking.table("moons")
    use("there")
    assert archive.read(exported) == (len(tiny.METHODS) + 1, 0)
    assert by_name(reading.search()) == before
    pd.testing.assert_frame_equal(tracking.table("moons"), table, check_exact=True)
    (execution,) = reading.search(kind="execution")
    files = store.client().list_artifacts(execution.info.run_id, "tables")
    assert [file.path for file in files] == ["tables/of-this-run.csv", "tables/of-this-run.html"]
    place = store.client().get_experiment(execution.info.experiment_id)
    assert place.tags["mlflow.note.content"] == "Is all of it there?"


def test_what_is_there_already_does_not_come_twice_wherever_it_was_made(exported, use, tmp_path):
    n = len(tiny.METHODS) + 1
    assert archive.read(exported) == (0, n)
    use("there")
    archive.read(exported)
    assert archive.read(exported) == (0, n)
    again = tmp_path / "again.zip"
    assert archive.write(again) == n
    use("here")
    assert archive.read(again) == (0, n) and len(reading.search()) == n


def test_finished_runs_that_were_read_are_not_run_again(exported, use):
    use("there")
    archive.read(exported)
    tiny.experiment(repeats=1)
    skipped = [int(run.data.tags["runs_skipped"]) for run in reading.search(kind="execution")]
    assert sorted(skipped) == [0, len(tiny.METHODS)]


def test_a_run_that_went_on_since_replaces_its_older_self(exported, use, tmp_path):
    use("there")
    archive.read(exported)
    for run in reading.search(kind="run"):  # as one that was stopped earlier
        store.client().set_terminated(run.info.run_id, "KILLED", run.info.end_time - 1)
    assert archive.read(exported) == (len(tiny.METHODS), 1)
    assert {run.info.status for run in reading.search()} == {"FINISHED"}


def test_a_reading_that_was_interrupted_is_made_good(exported, use, monkeypatch):
    use("there")
    with monkeypatch.context() as patch:
        patch.setattr(store, "LARGEST_WRITE", 0)  # ValueError in the middle of the first run
        with pytest.raises(ValueError):
            archive.read(exported)
    assert archive.read(exported) == (len(tiny.METHODS) + 1, 0)
    assert {run.info.status for run in reading.search()} == {"FINISHED"}


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
    assert archive.write(tmp_path / "own.zip", kind="run") == len(tiny.METHODS)


@pytest.mark.parametrize("damage", ["cut", "foreign", "missing"])
def test_a_file_that_is_no_archive_is_refused_by_name(exported, tmp_path, damage, capsys):
    if damage == "cut":
        exported.write_bytes(exported.read_bytes()[:-40])
    elif damage == "foreign":
        with zipfile.ZipFile(exported, "w") as other:
            other.writestr("holiday.txt", "sun")
    else:
        exported.unlink()
    assert archive.main(["--import", str(exported)]) == 1
    assert "runs.zip" in capsys.readouterr().err


def test_a_file_outside_a_runs_own_folder_is_refused(exported, use):
    with zipfile.ZipFile(exported) as archived:
        (origin,) = {name.split("/")[1] for name in archived.namelist() if "of-this" in name}
    with zipfile.ZipFile(exported, "a") as archived:
        archived.writestr(f"artifacts/{origin}/../../evil", "")
    use("there")
    with pytest.raises(ValueError, match="outside its own folder"):
        archive.read(exported)
