"""The benchmarks measure what they say, and their table lands in the record."""

import os
import subprocess
import sys

import pytest
from mlflow import MlflowClient

from benchmarks import experiment, measured
from deimos.tasks.files import ROOT


def busy(size):
    return lambda: bytearray(size * 2**20)


@pytest.mark.soak
def test_a_contender_is_measured_in_a_process_of_its_own():
    took, more = measured.alone(busy, 200, tiny=(1,))
    assert took > 0
    assert more == pytest.approx(200, abs=20)


def test_a_new_process_gets_its_environment_and_leaves_this_one_as_it_was():
    before = dict(os.environ)
    with measured.fresh({"DEIMOS_TRIED": "yes"}) as call:
        assert call(os.getenv, "DEIMOS_TRIED") == "yes"
    assert dict(os.environ) == before


def test_the_kept_runs_tell_how_long_an_iteration_takes():
    assert experiment.kept_iteration() > 1
    rests = [rest for _, _, rest in experiment.kept_rests()]
    assert len(rests) > 3 and all(0 <= rest < 0.5 for rest in rests)


@pytest.mark.soak
def test_the_table_is_printed_and_kept_as_a_run(tmp_path):
    store = f"sqlite:///{tmp_path}/mlflow.db"
    environment = os.environ | {"MLFLOW_TRACKING_URI": store}
    said = subprocess.run(
        [sys.executable, "-m", "benchmarks", "appendix_a"],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    client = MlflowClient(store)
    place = client.get_experiment_by_name("benchmarks")
    (run,) = client.search_runs([place.experiment_id])
    assert run.info.status == "FINISHED" and run.data.tags["commit"]
    assert run.info.run_name in said
    ratios = {name: x for name, x in run.data.metrics.items() if name.startswith("times/")}
    assert len(ratios) == 3 and all(ratio > 1 for ratio in ratios.values())
    assert {file.path for file in client.list_artifacts(run.info.run_id, "tables")} == {
        "tables/benchmarks.csv", "tables/benchmarks.html",
    }  # fmt: skip
