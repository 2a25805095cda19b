"""A run keeps what it began with, what it is tested on and what it said of its picks."""

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import tiny
import torch

from deimos import tracking
from deimos.experiment import loop
from deimos.experiment.iteration import about_batch, fit_on_labels, initial_set
from deimos.experiment.runs import Streams, repeat_streams
from deimos.models import mc_dropout
from deimos.record import archive, points, queries, store
from deimos.tasks.task import task_of_repeat

METHODS = ["deimos", "random"]


@pytest.fixture(autouse=True)
def own_store(empty_database, tmp_path, monkeypatch):
    database = shutil.copy(empty_database, tmp_path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
    run_id = tracking.open_execution("04-tiny", "smoke")
    monkeypatch.setenv("DEIMOS_EXECUTION", run_id)


def run(task=None, schedule=tiny.SCHEDULE, build=tiny.build, stop_after=None):
    place, task = tracking.experiment("04-tiny", "Is it kept?", "smoke"), task or tiny.moons()
    with tracking.fleet(place, task, "tiny", METHODS, 2, schedule) as members:
        for n, iteration in enumerate(loop.active_learning(task, build, members), 1):
            tracking.log(iteration)
            if n == stop_after:
                break


def test_the_initial_ids_are_those_that_the_runs_began_with():
    run()
    kept = tracking.initial_ids("moons", "smoke")
    for (_, repeat), found in kept.groupby(["method", "repeat"]):
        assert found.id.tolist() == list(initial_set(tiny.moons(), tiny.SCHEDULE, repeat))
    assert len(kept) == 2 * 2 * tiny.SCHEDULE.n_initial
    assert tracking.held_out_ids("moons", "smoke").empty  # the same for all: told by a checksum


def test_test_ids_that_are_drawn_anew_are_kept_and_are_those_that_are_tested_on():
    task = replace(tiny.moons(), name="splicing", test_per_repeat=True)
    run(task)
    kept = tracking.held_out_ids("splicing", "smoke")
    sets = {}
    for (_, repeat), found in kept.groupby(["method", "repeat"]):
        rng = repeat_streams(tiny.SCHEDULE.seed, repeat).numpy("test set")
        assert torch.equal(task.x[found.id.tolist()], task_of_repeat(task, repeat, rng).test_x)
        sets.setdefault(repeat, found.id.tolist())
        assert sets[repeat] == found.id.tolist()
    assert sets[1] != sets[2]
    begun = tracking.initial_ids("splicing", "smoke")
    assert not set(begun[begun.repeat == 1].id) & set(sets[1])


def test_predictions_are_the_models_own_of_what_it_picked_and_give_the_diversity():
    run()
    kept, ids = (
        f("moons", "smoke") for f in (tracking.acquired_predictions, tracking.acquired_ids)
    )
    points_of = ["method", "repeat", "position", "id"]
    pd.testing.assert_frame_equal(
        kept[points_of].drop_duplicates(ignore_index=True), ids[points_of]
    )
    wide = kept.pivot(index=points_of, columns="output", values="value")
    assert wide.shape[1] == 2 and np.allclose(wide.sum(axis=1), 1, atol=1e-6)
    diversity = tracking.table("moons", "smoke", metric="diversity")
    for row in diversity.itertuples():
        batch = wide.loc[(row.method, row.repeat)].iloc[row.n_acquired : row.n_acquired + 4]
        found = mc_dropout.batch_diversity(torch.tensor(batch.to_numpy()))
        assert found == pytest.approx(row.value, rel=1e-5)
    assert len(diversity) == 4 * 3
    for row in tracking.table("moons", "smoke", metric="share_confident").itertuples():
        batch = wide.loc[(row.method, row.repeat)].iloc[row.n_acquired : row.n_acquired + 4]
        found = mc_dropout.confident_share(torch.tensor(batch.to_numpy()))
        assert found == pytest.approx(row.value, rel=1e-5)
    for row in tracking.table("moons", "smoke", metric="hardness").itertuples():
        picked = ids[(ids.method == row.method) & (ids["repeat"] == row.repeat)].id
        batch = picked.iloc[row.n_acquired : row.n_acquired + 4].tolist()
        assert tiny.moons().hardness(batch) == row.value
    streams = Streams(tiny.SCHEDULE.seed, 1, 0, torch.device("cpu"))
    task = tiny.moons()
    labelled = torch.tensor(initial_set(task, tiny.SCHEDULE, 1))
    network = fit_on_labels(task, tiny.build, tiny.SCHEDULE.fit, labelled, streams)
    first = ids[(ids.method == "deimos") & (ids["repeat"] == 1)].id[:4].tolist()
    features = mc_dropout.trunk_features(network, task.x[first])
    answers = mc_dropout.predictive_mean(network, features, 8, streams.torch("diversity"))
    torch.testing.assert_close(
        torch.tensor(wide.loc[("deimos", 1)][:4].to_numpy()), answers.double()
    )


def test_of_values_a_batchs_mean_label_is_kept_and_of_one_point_of_classes_nothing():
    task = replace(tiny.moons(), n_classes=1, y=torch.arange(90) / 10)
    assert about_batch(task, (3, 5), None) == {"batch/mean_label": pytest.approx(0.4)}
    assert about_batch(task, (7,), torch.zeros(1, 1)) == {"batch/mean_label": pytest.approx(0.7)}
    assert about_batch(tiny.moons(), (7,), torch.ones(1, 2) / 2) == {}


@pytest.mark.parametrize(("b", "last"), [(2, 1), (5, 1), (6, 2), (25, 5)])
def test_the_last_picks_of_a_batch_are_a_fifth_of_it_rounded_up(b, last):
    task, batch = tiny.moons(), list(range(40, 40 + b))
    seen = about_batch(task, batch, None)
    assert seen["batch/hardness_of_last_fifth"] == task.hardness(batch[-last:])
    assert seen["batch/hardness"] == task.hardness(batch)


@pytest.mark.soak
def test_what_was_said_before_a_stop_is_there_after_it_and_nothing_is_twice():
    run()
    whole = tracking.acquired_predictions("moons", "smoke")
    for found in queries.search(kind="run"):
        store.client().delete_run(found.info.run_id)
    for stop_after, forgotten in ((3, False), (4, True), (2, False), (None, True)):
        if forgotten:  # as in another process
            points._written.clear()
        run(stop_after=stop_after)
    pd.testing.assert_frame_equal(tracking.acquired_predictions("moons", "smoke"), whole)


def test_a_write_that_is_cut_short_loses_nothing_that_is_recorded(monkeypatch):
    run(schedule=replace(tiny.SCHEDULE, n_acquired=8))
    whole = tracking.acquired_predictions("moons", "smoke")
    assert len(whole) == 4 * 8 * 2
    last, *_ = queries.search(kind="run")

    def cut(*_, **__):
        raise OSError("no room")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="no room"):
        patch.setattr(shutil, "copyfileobj", cut)
        store.client().log_text(last.info.run_id, "position,id", points.ACQUIRED)
    pd.testing.assert_frame_equal(tracking.acquired_predictions("moons", "smoke"), whole)


def test_in_regression_and_one_by_one_they_are_kept_too():
    plain = tiny.moons()
    task = replace(plain, y=plain.x[:, 0], test_y=plain.test_x[:, 0], n_classes=1)

    def build(generator):
        network = tiny.build(generator)
        network.dense[-1] = torch.nn.Linear(8, 1)
        return network

    schedule = replace(tiny.SCHEDULE, batch_size=1, n_acquired=3, fitting="one_by_one")
    run(task, schedule, build)
    kept = tracking.acquired_predictions("moons", "smoke")
    assert len(kept) == 4 * 3 and set(kept.output) == {0} and kept.value.std() > 0


def test_an_archive_carries_them(tmp_path, empty_database, monkeypatch):
    run()
    read = tracking.initial_ids, tracking.acquired_predictions
    before = [f("moons", "smoke") for f in read]
    archive.write_archive(tmp_path / "runs.zip", kind="run")
    other = shutil.copy(empty_database, tmp_path / "other.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{other}")
    archive.read_archive(tmp_path / "runs.zip")
    for f, frame in zip(read, before, strict=True):
        pd.testing.assert_frame_equal(f("moons", "smoke"), frame)


def test_runs_that_kept_nothing_have_no_rows():
    run()
    for found in queries.search(kind="run"):
        store.client().delete_run(found.info.run_id)
    assert tracking.initial_ids("moons").empty and tracking.acquired_predictions("moons").empty
