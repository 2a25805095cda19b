"""Archives of runs that measured less get what their runs kept enough for, and nothing else."""

import io
import json
import shutil
import zipfile
from dataclasses import replace

import pandas as pd
import pytest
import tiny

from deimos import tracking
from deimos.experiment import loop
from deimos.record import archive, measure_later

NEWER = ["batch/hardness", "batch/hardness_of_last_fifth", "batch/share_confident"]


def parts(file):
    with zipfile.ZipFile(file) as whole:
        return {name: whole.read(name) for name in whole.namelist()}


def write(file, content):
    with zipfile.ZipFile(file, "w") as whole:
        for name, text in content.items():
            whole.writestr(name, text)


@pytest.fixture
def whole(empty_database, tmp_path, monkeypatch):
    """An archive of a tiny fleet, as this code records it."""
    database = shutil.copy(empty_database, tmp_path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
    monkeypatch.setenv("DEIMOS_EXECUTION", tracking.open_execution("04-tiny", "smoke"))
    place = tracking.experiment("04-tiny", "Is it measured?", "smoke")
    fleet = tracking.fleet(place, tiny.moons(), "tiny", ["deimos"], 2, tiny.SCHEDULE)
    with fleet as members:
        for iteration in loop.active_learning(tiny.moons(), tiny.build, members):
            tracking.log(iteration)
    archive.write_archive(tmp_path / "whole.zip", kind="run")
    return tmp_path / "whole.zip"


@pytest.fixture
def older(whole):
    """The same without the newer measurements."""
    content = parts(whole)
    values = pd.read_csv(io.BytesIO(content["metrics.csv"]), dtype=str)
    content["metrics.csv"] = values[~values.metric.isin(NEWER)].to_csv(index=False).encode()
    write(whole.with_name("older.zip"), content)
    return whole.with_name("older.zip")


def test_what_is_measured_later_is_what_the_run_would_have_measured(whole, older):
    before = parts(older)
    assert measure_later.measure(older, {"moons": tiny.moons()}) == 2 * 3 * len(NEWER)
    expected, _ = archive.contents(whole)
    found, runs = archive.contents(older)
    keys = ["run", "metric", "step"]
    both = expected.merge(found, on=keys, how="outer", suffixes=("", "_later"), indicator=True)
    assert (both["_merge"] == "both").all()
    assert both.value_later.to_numpy() == pytest.approx(both.value.to_numpy(), rel=1e-6)
    assert both[~both.metric.isin(NEWER)].eval("value == value_later").all()
    after = parts(older)
    assert after["metrics.csv"].startswith(before["metrics.csv"])
    assert list(after) == list(before)
    assert all(after[name] == text for name, text in before.items() if "artifacts/" in name)
    assert {run["tags"].pop("measured_later") for run in runs.values()} == {", ".join(NEWER)}
    assert list(runs.values()) == json.loads(before["runs.json"])
    assert measure_later.measure(older, {"moons": tiny.moons()}) == 0
    assert parts(older) == after


def test_without_kept_predictions_only_the_hardness_is_added(older):
    content = {n: text for n, text in parts(older).items() if not n.endswith("acquired.csv")}
    write(older, content)
    measure_later.measure(older, {"moons": tiny.moons()})
    added = archive.contents(older)[0].metric
    assert "batch/hardness" in set(added) and "batch/share_confident" not in set(added)


def test_other_data_are_refused_and_other_experiments_left_alone(older):
    before = older.read_bytes()
    assert measure_later.measure(older, {"mnist-7-vs-9": tiny.moons()}) == 0
    other = replace(tiny.moons(), checksum="f" * 16)
    with pytest.raises(ValueError, match="older.zip ran on other data than are here"):
        measure_later.measure(older, {"moons": other})
    assert older.read_bytes() == before
