"""Fleets that learn nothing, recorded in a store that is thrown away."""

import base64
import json
import shutil
import sqlite3
import subprocess
import sys
import zlib
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from mlflow import MlflowClient
from sqlalchemy import Engine, event

from deimos import tracking
from deimos.experiment.runs import Iteration, Schedule
from deimos.models.training import Fit
from deimos.record import fleets, saved_views, store
from deimos.record.provenance import code_fingerprint
from deimos.tasks.task import Task

SCHEDULE = Schedule(
    batch_size=2,
    n_initial=3,
    n_acquired=6,
    n_candidates=None,
    fit=Fit(1, minibatch=4, decay=0.1),
    n_masks=5,
    n_passes=5,
)
METHODS = ["deimos", "random"]


@event.listens_for(Engine, "connect")
def _need_not_survive_a_power_cut(connection, _):
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous = OFF")


@pytest.fixture(autouse=True)
def own_store(database, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
    monkeypatch.delenv("DEIMOS_EXECUTION", raising=False)
    monkeypatch.setattr(fleets, "code_fingerprint", lambda **_: "of now")


@pytest.fixture
def notebook(monkeypatch):
    """The notebook's place in the record, as often as it is executed."""

    def execute(name="04-digits", scale="quick"):
        run_id = tracking.open_execution(name, scale)
        monkeypatch.setenv("DEIMOS_EXECUTION", run_id)
        return tracking.experiment(name, "Does it learn?", scale)

    return execute


@pytest.fixture
def task():
    x, y, ids = torch.zeros(9, 2), torch.arange(9) % 3, torch.arange(9)
    return Task("digits", x, y, ids, x, y, n_classes=3, source="nowhere", checksum="c0ffee")


def pretend(members, stop_after=None, error=KeyboardInterrupt):
    """Iterations as the loop yields them, member by member in turn, the same whenever asked for."""
    waiting, done = list(members), 0
    while waiting:
        member = waiting.pop(0)
        s, n = member.schedule, len(member.acquired)
        values = np.random.default_rng([len(member.method), member.repeat, n, s.seed])
        ids = tuple(values.choice(10_000, s.batch_size if n < s.n_acquired else 0).tolist())
        metrics = {"test/accuracy": values.random(), "time/fit_seconds": values.exponential() / 7}
        yield Iteration(member, n, s.n_initial + n, metrics, ids)
        if ids:
            waiting.append(replace(member, acquired=member.acquired + ids))
        done += 1
        if done == stop_after:
            raise error


def run(experiment, task, schedule=SCHEDULE, methods=METHODS, repeats=2, network="lenet", **how):
    """Run a fleet; returns the members that had work left."""
    with tracking.fleet(experiment, task, network, methods, repeats, schedule) as members:
        for iteration in pretend(members, **how):
            tracking.log(iteration)
    return members


def rows(database, query):
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(query).fetchall()


def statuses(database):
    query = (
        "SELECT status FROM runs JOIN tags USING (run_uuid) WHERE key = 'kind' AND value = 'run'"
    )
    return sorted(status for (status,) in rows(database, query))


def counts(experiment):
    told = tracking.execution_summary(experiment.run_id)
    return told["new"], told["resumed"], told["skipped"]


def test_a_stopped_fleet_goes_on_as_if_nothing_had_happened(
    notebook, task, empty_database, tmp_path, monkeypatch
):
    run(notebook(), task)
    expected, ids = tracking.table("digits"), tracking.acquired_ids("digits")
    database = shutil.copy(empty_database, tmp_path / "second.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")

    with pytest.raises(KeyboardInterrupt):
        run(notebook(), task, stop_after=7)
    second = notebook()
    members = run(second, task)
    for member in members:
        of_member = ids[(ids.method == member.method) & (ids.repeat == member.repeat)]
        assert list(member.acquired) == of_member.id.tolist()[: len(member.acquired)]
    assert [len(member.acquired) for member in members] == [4, 4, 4, 2]
    assert counts(second) == (0, 4, 0)
    pd.testing.assert_frame_equal(tracking.table("digits"), expected, check_exact=True)
    pd.testing.assert_frame_equal(tracking.acquired_ids("digits"), ids)
    twice = "SELECT COUNT(*) FROM metrics GROUP BY run_uuid, key, step HAVING COUNT(*) > 1"
    assert rows(database, twice) == []


def test_a_finished_member_is_skipped_and_a_new_one_beside_it_is_run(notebook, task):
    first = notebook()
    run(first, task, repeats=1)
    second = notebook()
    members = run(second, task, repeats=2)
    assert [(member.method, member.repeat) for member in members] == [("deimos", 2), ("random", 2)]
    assert counts(first) == (2, 0, 0) and counts(second) == (2, 0, 2)


def test_a_member_that_was_killed_after_its_last_write_is_finished(notebook, task, database):
    run(notebook(), task)
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE runs SET status = 'RUNNING'")
    assert run(notebook(), task) == []
    assert statuses(database) == ["FINISHED"] * 4


@pytest.mark.parametrize("change", ["schedule", "network", "data", "code", "scale"])
def test_other_settings_data_or_code_make_new_runs(notebook, task, monkeypatch, change):
    run(notebook(), task, repeats=1)
    other, how = notebook(scale="smoke" if change == "scale" else "quick"), {"repeats": 1}
    if change == "schedule":
        how["schedule"] = SCHEDULE.changed(decay=0.2)
    if change == "network":
        how["network"] = "other"
    if change == "data":
        task = replace(task, checksum="decaf")
    if change == "code":
        monkeypatch.setattr(fleets, "code_fingerprint", lambda: "other")
    assert [member.acquired for member in run(other, task, **how)] == [()] * 2
    assert counts(other) == (2, 0, 0)


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt, "KILLED"), (OSError, "FAILED")])
def test_what_ends_a_fleet_is_the_status_of_its_unfinished_runs(
    notebook, task, database, error, status
):
    with pytest.raises(error):  # after 14 of 16 iterations two members are done
        run(notebook(), task, stop_after=14, error=error)
    assert statuses(database) == sorted(["FINISHED"] * 2 + [status] * 2)


def test_an_execution_that_ends_takes_along_what_a_killed_kernel_left_running(
    notebook, task, database, tmp_path
):
    experiment = notebook()
    killed = tracking.fleet(experiment, task, "lenet", METHODS, 1, SCHEDULE)
    killed.__enter__()
    assert statuses(database) == ["RUNNING", "RUNNING"]
    page = tmp_path / "page.html"
    page.write_text("so far")
    tracking.close_execution(experiment.run_id, "stopped", page)
    assert statuses(database) == ["KILLED", "KILLED"]
    assert (tmp_path / "artifacts/04-digits" / experiment.run_id / "artifacts/page.html").exists()


def test_an_iteration_that_cannot_be_written_whole_is_not_written_at_all(notebook, task, database):
    full = "SELECT RAISE(ABORT, 'disk full')"
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(
            "CREATE TRIGGER full BEFORE INSERT ON metrics"
            f" WHEN NEW.key = 'batch/id' AND NEW.step = 4 BEGIN {full}; END"
        )
    with pytest.raises(Exception, match="disk full"):
        run(notebook(), task, methods=["deimos"], repeats=1)
    assert rows(database, "SELECT DISTINCT step FROM metrics WHERE key != 'batch/id'") == [(0,)]
    assert len(tracking.acquired_ids("digits")) == SCHEDULE.batch_size


def test_the_table_gives_back_every_value_to_the_last_bit(notebook, task):
    logged = []
    with tracking.fleet(notebook(), task, "lenet", METHODS, 2, SCHEDULE) as members:
        for iteration in pretend(members):
            iteration.metrics["test/tiny"] = 5e-324 * len(iteration.member.method)
            tracking.log(iteration)
            m = iteration.member
            at = ("digits", 2, m.method, m.repeat, iteration.n_acquired, iteration.n_labelled)
            logged += [(*at, k.split("/")[1], v) for k, v in iteration.metrics.items()]
    columns = "experiment batch_size method repeat n_acquired n_labelled metric value".split()
    table = tracking.table()
    assert list(table.columns) == columns
    expected = pd.DataFrame(sorted(logged), columns=columns).astype(table.dtypes)
    pd.testing.assert_frame_equal(table, expected, check_exact=True)
    assert set(tracking.table("digits", metric="accuracy").metric) == {"accuracy"}
    assert tracking.table("digits", batch_size=25).empty and tracking.table("letters").empty


def test_settings_are_never_mixed_and_the_ones_asked_for_last_are_shown(notebook, task):
    experiment, later = notebook(), replace(SCHEDULE, seed=1)
    run(experiment, task)
    before = tracking.table("digits")
    run(experiment, task, schedule=later, repeats=1)
    after = tracking.table("digits")
    assert set(after.repeat) == {1} and not set(after.value) & set(before.value)
    pd.testing.assert_frame_equal(tracking.table("digits", seed=0), before)
    assert run(experiment, task) == []  # there already, but asked for again
    pd.testing.assert_frame_equal(tracking.table("digits"), before)


def test_a_run_in_another_precision_or_fitted_otherwise_is_another_run(notebook, task):
    run(notebook(), task, repeats=1)
    for changes in ({"precision": "bfloat16"}, {"fitting": "in_step"}):
        experiment = notebook()
        assert len(run(experiment, task, schedule=SCHEDULE.changed(**changes), repeats=1)) > 0
        assert tracking.execution_summary(experiment.run_id)["new"] == len(METHODS)
        assert len(tracking.table("digits", **changes)) > 0


def test_it_is_recorded_how_a_fleet_was_fitted_where_the_machine_decides(notebook, task):
    run(notebook(), task, repeats=1)
    here = "in_step" if torch.cuda.is_available() else "one_by_one"
    assert len(tracking.table("digits", fitting="auto", fitted=here)) > 0


def test_settings_at_their_first_values_leave_a_run_known_as_before():
    before = {k: v for k, v in SCHEDULE.settings.items() if k not in fleets.LATER}
    assert fleets._known_by(SCHEDULE.settings) == before
    changed = replace(SCHEDULE, fitting="in_step").settings
    assert fleets._known_by(changed) == before | {"fitting": "in_step"}


def test_scales_are_never_mixed(notebook, task):
    run(notebook(), task)
    run(notebook(scale="smoke"), task, repeats=1)
    with pytest.raises(ValueError, match=r"scales \['quick', 'smoke'\]"):
        tracking.table("digits")
    assert tracking.table("digits", scale="smoke").repeat.max() == 1


def test_small_scales_and_stand_ins_are_noted_and_doubted(notebook, task):
    run(notebook(), replace(task, stand_in=True))
    run(notebook(scale="paper"), task)
    quick, paper = (tracking.evidence(scale).origins["digits"] for scale in ("quick", "paper"))
    assert quick.note == "quick scale, nowhere"
    assert quick.doubts == ("quick scale", "not the paper's data") and paper.doubts == ()


def test_a_simulation_is_logged_once_and_belongs_to_every_scale(notebook, task):
    ratios = {"ratio_3": [0.98, 1.0, 0.99], "ratio_50": [1.0, 0.97, 1.0]}
    for scale in ("quick", "paper"):
        run(notebook(scale=scale), task)
        experiment = notebook("A1-simulated", scale)
        tracking.log_instances(experiment, "simulated", ratios, batch_size=10, seed=0)
        logged = tracking.table("simulated", scale, metric="ratio_3")
        assert logged["repeat"].tolist() == [1, 2, 3] and logged.value.tolist() == [0.98, 1.0, 0.99]
        assert set(logged.n_acquired) == {10} == set(logged.batch_size)
        assert tracking.evidence(scale).origins["simulated"].doubts == ()
        skipped = tracking.execution_summary(experiment.run_id)["skipped"]
        assert skipped == (scale == "paper")
    tracking.log_instances(experiment, "simulated", {"ratio_3": [0.5]}, batch_size=10, seed=1)
    assert tracking.table("simulated", "quick").value.tolist() == [0.5]


def test_a_simulation_is_logged_anew_where_a_module_that_it_names_does_something_else(
    notebook, monkeypatch, tmp_path
):
    monkeypatch.setattr(fleets, "code_fingerprint", partial(code_fingerprint, tmp_path))
    experiment, shown = notebook("B1-simulated"), []
    for code, score in (("n = 1\n", 0.5), ("n = 1  # one\n", 0.6), ("n = 2\n", 0.7)):
        (tmp_path / "own_pool.py").write_text(code)
        about = {"modules": ["own_pool"], "batch_size": 10}
        tracking.log_instances(experiment, "simulated", {"score": [score]}, **about)
        shown.append(tracking.table("simulated").value.item())
    assert shown == [0.5, 0.5, 0.7]


def test_figures_can_say_where_their_numbers_come_from(notebook, task):
    run(notebook(), replace(task, stand_in=True))
    found = tracking.evidence("quick", "digits")
    origin = found.origins["digits"]
    assert (origin.source, origin.stand_in, origin.repeats) == ("nowhere", True, 2)
    assert origin.finished and origin.scale == "quick" and len(origin.devices) == 1
    assert origin.torch and origin.python and origin.precisions == ("float32",)
    pd.testing.assert_frame_equal(found.table, tracking.table("digits", "quick"))
    missing = tracking.evidence("paper", "digits")
    assert missing.table.empty and missing.origins == {}


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"metrics": {"test/accuracy": float("nan")}}, "deimos, repeat 1, 0 acquired: test/accur"),
        ({"metrics": {"test/mse": float("inf")}}, "test/mse is inf"),
        ({"metrics": {"test/mse": 1.0, "seen/mse": 1.0}}, "names of their own"),
        ({"metrics": {"batch/id": 1.0}}, "names of their own"),
        ({"acquired": (1,)}, "a batch of 1 points, not 2"),
    ],
)
def test_what_is_no_iteration_is_refused_before_anything_is_written(
    notebook, task, database, wrong, told
):
    with (
        pytest.raises(ValueError, match=told),
        tracking.fleet(notebook(), task, "lenet", METHODS, 1, SCHEDULE) as members,
    ):
        tracking.log(replace(next(pretend(members)), **wrong))
    assert rows(database, "SELECT * FROM metrics") == []


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"methods": ["deimos", "guess"]}, "no method 'guess'; the nearest"),
        ({"methods": ["random", "random"]}, "each once"),
        ({"repeats": 0}, "repeats = 0"),
        ({"schedule": replace(SCHEDULE, batch_size=4)}, "6 is no multiple"),
        ({"schedule": replace(SCHEDULE, n_acquired=8)}, "but digits has 9 points"),
        ({"schedule": replace(SCHEDULE, batch_size=1000)}, "batch_size = 1000 is more"),
    ],
)
def test_a_fleet_that_cannot_be_is_refused_before_any_run_is_made(
    notebook, task, database, wrong, told
):
    with pytest.raises(ValueError, match=told):
        run(notebook(), task, **wrong)
    assert statuses(database) == []


def test_a_pause_between_two_sittings_is_no_part_of_what_runs_took(notebook):
    about = {"kind": "run", "experiment": "digits", "scale": "paper", "method": "random"}
    about |= {"batch_size": "2", "repeat": "1", "settings": "s", "fingerprint": "f", "device": "G"}
    client, minute = tracking.store.client(), 60_000
    run_id = client.create_run(notebook().id, start_time=minute, tags=about).info.run_id
    for step, after in enumerate((2, 3, 63, 64)):
        client.log_metric(run_id, "n_labelled", 6 + step, after * minute, step)
    assert tracking.evidence("paper", device="G").origins["digits"].minutes == 3.0


def test_an_execution_is_joined_only_by_its_own_notebook_and_scale(notebook):
    notebook("04-digits", "quick")
    with pytest.raises(ValueError, match="cannot join"):
        tracking.experiment("05-letters", "Does it read?", "quick")
    with pytest.raises(ValueError, match="at scale paper cannot join"):
        tracking.experiment("04-digits", "Does it learn?", "paper")
    with pytest.raises(ValueError, match="'huge' is none of paper, quick, smoke"):
        tracking.open_execution("04-digits", "huge")


def test_figures_tables_and_verdicts_are_kept_with_the_execution(notebook, tmp_path):
    experiment = notebook()
    verdicts = pd.DataFrame({"claim": ["A beats B (§5)"], "ours": [0.1], "outcome": ["supported"]})
    tracking.log_figure(experiment, Figure(), "3a")
    tracking.log_verdicts(experiment, verdicts)
    files = tmp_path / "artifacts/04-digits" / experiment.run_id / "artifacts"
    assert {p.name for p in files.rglob("*.*")} == {
        *("3a.png", "3a.svg", "verdicts.csv", "verdicts.html")
    }
    pd.testing.assert_frame_equal(pd.read_csv(files / "tables/verdicts.csv"), verdicts)
    page = (files / "tables/verdicts.html").read_bytes()
    assert b'<meta charset="utf-8">' in page[:100] and "§5" in page.decode()
    told = tracking.execution_summary(experiment.run_id)
    assert told == {"new": 0, "resumed": 0, "skipped": 0, "outcomes": {"supported": 1}}


def run_variants(experiment, task, base, **variants):
    """A fleet for each variant, all of one base, as B2 runs them."""
    for name, (method, schedule) in {"deimos": ("deimos", base), **variants}.items():
        tags = {"variant": name, "base": str(base.seed)}
        with tracking.fleet(experiment, task, "net", [method], 2, schedule, **tags) as members:
            for iteration in pretend(members):
                tracking.log(iteration)


def test_variants_stand_in_the_table_by_their_names_and_are_resumed_one_by_one(notebook, task):
    few = {"masks: J = 3": ("deimos", replace(SCHEDULE, n_masks=3))}
    other = {"method: random": ("random", SCHEDULE)}
    run_variants(notebook(), task, SCHEDULE, **few)
    again = notebook()
    run_variants(again, task, SCHEDULE, **few, **other)
    assert counts(again) == (2, 0, 4)
    table = tracking.table("digits", metric="accuracy")
    assert table.groupby("method").repeat.nunique().to_dict() == {
        "deimos": 2, "masks: J = 3": 2, "method: random": 2
    }  # fmt: skip
    assert len(table) == 3 * 2 * 4
    assert set(tracking.table("digits", n_masks=3).method) == {"masks: J = 3"}


def test_variants_of_another_base_are_never_shown_together(notebook, task):
    few = {"masks: J = 3": ("deimos", replace(SCHEDULE, n_masks=3))}
    run_variants(notebook(), task, SCHEDULE, **few)
    run_variants(notebook(), task, replace(SCHEDULE, seed=1))
    assert set(tracking.table("digits").method) == {"deimos"}
    run_variants(notebook(), task, SCHEDULE)  # the first base again: skipped, and shown with all
    assert set(tracking.table("digits").method) == {"deimos", "masks: J = 3"}


def test_the_saved_view_of_variants_has_a_curve_each(notebook, task, database):
    experiment = notebook()
    run_variants(experiment, task, SCHEDULE, few=("deimos", replace(SCHEDULE, n_masks=3)))
    key = tracking.view(experiment, "What matters", "digits", 2, "test/accuracy")
    client = MlflowClient(f"sqlite:///{database}")
    packed = json.loads(client.get_experiment(experiment.id).tags[f"mlflow.sharedViewState.{key}"])[
        "state"
    ].split(";")[1]
    state = json.loads(zlib.decompress(base64.b64decode(packed)))
    by = {"mode": "tag", "groupByData": "variant"}
    assert state["groupBy"]["groupByKeys"] == [by]
    assert set(state["groupsExpanded"]) == {"tag.variant.deimos", "tag.variant.few"}
    shown = client.search_runs([experiment.id], state["searchFilter"])
    assert len(shown) == 4 and {r.data.tags["variant"] for r in shown} == {"deimos", "few"}


def test_the_saved_view_shows_the_mean_of_each_method_over_the_repeats_of_the_table(
    notebook, task, database
):
    experiment = notebook()
    run(experiment, task)
    run(experiment, task, schedule=replace(SCHEDULE, seed=1), repeats=1)
    key = tracking.view(experiment, "Figure 3a", "digits", 2, "test/accuracy")
    client = MlflowClient(f"sqlite:///{database}")
    tags = client.get_experiment(experiment.id).tags
    envelope = json.loads(tags[f"mlflow.sharedViewState.{key}"])
    assert envelope["name"] == "Figure 3a (quick)" and isinstance(envelope["createdAt"], int)
    kind, packed = envelope["state"].split(";")
    state = json.loads(zlib.decompress(base64.b64decode(packed)))
    (chart,), (section, *folded) = state["compareRunCharts"], state["compareRunSections"]
    assert kind == "deflate" and chart["metricSectionId"] == section["uuid"]
    assert (chart["type"], chart["metricKey"], chart["xAxisKey"]) == (
        "LINE",
        "test/accuracy",
        "step",
    )
    assert section["display"] and state["isAccordionReordered"]  # the figure comes first
    assert {other["name"]: other["display"] for other in folded} == {
        **{"batch": False, "test": False, "time": False, "Model metrics": False}
    }
    table = tracking.table("digits", batch_size=2, metric="accuracy")
    edges, low, high = chart["range"], table.value.min(), table.value.max()
    assert 0 < low - edges["yMin"] < high - low and 0 < edges["yMax"] - high < high - low
    assert edges["xMin"] < 0 and edges["xMax"] > SCHEDULE.n_acquired
    assert state["groupsExpanded"] == dict.fromkeys(
        ["tag.method.deimos", "tag.method.random"], False
    )
    by = {"mode": "tag", "groupByData": "method"}
    assert state["groupBy"] == {"aggregateFunction": "average", "groupByKeys": [by]}
    shown = client.search_runs([experiment.id], state["searchFilter"])
    assert {r.data.tags["repeat"] for r in shown} == {"1"} and len(shown) == len(METHODS)
    link = next(line for line in tracking.links(5001) if "Figure 3a (quick): " in line)
    assert f"http://127.0.0.1:5001/#/experiments/{experiment.id}/runs?" in link
    assert link.endswith(f"&viewStateShareKey={key}")


def test_a_long_runs_first_steps_may_lie_outside_of_its_chart(notebook, task, database):
    experiment = notebook()
    points = [(n, 0.5 if n < 2 else 0.9 + n / 1000) for n in range(40)]
    run(experiment, task, repeats=1)
    runs = tracking.store.client().search_runs([experiment.id], "tags.kind = 'run'")
    for metric, whole in (("test/accuracy", False), ("time/fit_seconds", True)):
        key = saved_views.write(experiment.id, f"Long {metric}", metric, runs, points)
        saved = MlflowClient(f"sqlite:///{database}").get_experiment(experiment.id)
        _, state = saved_views.state_of(saved.tags[saved_views.TAG + key])
        edges = state["compareRunCharts"][0]["range"]
        assert (edges["yMin"] < 0.5) == whole and edges["yMin"] < 0.904
        assert edges["yMax"] > 0.939 and edges["xMin"] < 0 and edges["xMax"] > 39


def test_every_run_and_experiment_has_a_description_and_a_source(notebook, task, database):
    run(notebook(), task)
    tracking.log_instances(notebook("A1-simulated"), "ratios", {"ratio": [0.9, 1.0]}, batch_size=2)
    told = "SELECT value FROM tags WHERE key = 'mlflow.note.content' AND length(value) > 20"
    said = [value for (value,) in rows(database, told)]
    assert len(said) == len(rows(database, "SELECT * FROM runs")) == 7
    sources = rows(database, "SELECT value FROM tags WHERE key = 'mlflow.source.name'")
    assert sorted(sources) == [("04-digits",)] * 5 + [("A1-simulated",)] * 2
    notes = "SELECT * FROM experiment_tags WHERE key = 'mlflow.note.content'"
    assert len(rows(database, notes)) == 2


@pytest.mark.soak
def test_two_processes_that_meet_a_missing_store_both_succeed(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/new/mlflow.db")
    code = "from deimos import tracking; print(tracking.experiment('04-digits', 'Q', 'quick').id)"
    started = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    told = [process.communicate(timeout=120)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0]
    assert len(set(told)) == 1


def test_a_store_that_was_moved_finds_its_artifacts(notebook, tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.setattr(store, "ROOT", tmp_path / "one place")
    experiment = notebook()
    tracking.log_table(experiment, pd.DataFrame({"a": [1]}), "seen")
    shutil.move(tmp_path / "one place", tmp_path / "another")
    monkeypatch.setattr(store, "ROOT", tmp_path / "another")
    found = MlflowClient(tracking.store_uri()).get_run(experiment.run_id)
    assert not (Path(found.info.artifact_uri) / "tables/seen.csv").exists()
    tracking.log_table(notebook(), pd.DataFrame({"a": [1]}), "new")
    found = MlflowClient(tracking.store_uri()).get_run(experiment.run_id)
    assert (Path(found.info.artifact_uri) / "tables/seen.csv").exists()
    assert not (tmp_path / "one place").exists()


@pytest.mark.parametrize(
    "place", ["sqlite:///{}/mlflow.db/no.db", "sqlite:///{}/text", "http://127.0.0.1:9"]
)
def test_a_store_that_cannot_be_reached_is_said_so_in_one_sentence(tmp_path, monkeypatch, place):
    (tmp_path / "text").write_text("This is no database. " * 100)
    uri = place.format(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(ConnectionError, match=f"the record at {uri} cannot be opened: ") as told:
        tracking.table()
    assert "\n" not in str(told.value)
