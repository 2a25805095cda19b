"""What `make ui` serves, of a record with a few runs that learn nothing."""

import re
import shutil

import numpy as np
import pytest
import torch
from starlette.applications import Starlette
from starlette.testclient import TestClient

from deimos import tracking
from deimos.experiment.runs import Iteration, Schedule
from deimos.models.training import Fit
from deimos.record import fleets, queries, saved_views, store, ui
from deimos.report import browse
from deimos.tasks.task import Task

SCHEDULE = Schedule(
    batch_size=25, n_initial=10, n_acquired=50, n_candidates=None,
    fit=Fit(1, minibatch=4, decay=0.1), n_masks=5, n_passes=5,
)  # fmt: skip


def run(scale="smoke", methods=("deimos", "random", "deimos_500"), **changes):
    """A fleet on digits at batch size 25, of which Figure 3a shows two methods."""
    place = tracking.experiment("04-mnist-7-vs-9", "Does it learn?", scale)
    x, y, ids = torch.zeros(90, 2), torch.arange(90) % 2, torch.arange(90)
    task = Task("mnist-7-vs-9", x, y, ids, x, y, n_classes=2, source="none", checksum="c0ffee")
    schedule = SCHEDULE.changed(**changes)
    with tracking.fleet(place, task, "net", methods, 2, schedule) as members:
        for member in members:
            for n in range(0, schedule.n_acquired + 1, schedule.batch_size):
                rng = np.random.default_rng([n, member.repeat, len(member.method)])
                ids = tuple(range(n, n + (schedule.batch_size if n < schedule.n_acquired else 0)))
                tracking.log(Iteration(member, n, 10 + n, {"test/accuracy": rng.random()}, ids))


@pytest.fixture(autouse=True)
def record(database, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
    monkeypatch.delenv("DEIMOS_EXECUTION", raising=False)
    monkeypatch.setattr(fleets, "code_fingerprint", lambda **_: "of now")


@pytest.fixture
def browser():
    return TestClient(Starlette(routes=browse.routes()), base_url="http://127.0.0.1:5000")


def card(page, name):
    """The part of the page that is about one figure."""
    return page.partition(f'id="{name}"')[2].partition("</article>")[0]


def views():
    """The saved views of the record: name → state."""
    found = store.client().search_experiments()
    tags = [tag for place in found for name, tag in place.tags.items() if saved_views.TAG in name]
    return dict(map(saved_views.state_of, tags))


def test_the_page_shows_the_figures_that_the_users_runs_have_something_of(browser):
    run()
    page = browser.get("/").text
    figures = ["figure-3a", "figure-3a-k-center", "figure-3f"]
    assert re.findall('class="card" id="smoke-(.*?)"', page) == figures
    assert "Your runs at smoke scale" in page and browse.KEPT_HEADING not in page
    shown = card(page, "smoke-figure-3a")
    assert shown.count('class="run"') == 4  # two methods, two repeats
    assert shown.count("DEIMOS outperforms Random") == 1 and "04-mnist-7-vs-9" in shown
    runs = store.client().search_runs(["1"], views()["Figure 3a (smoke)"]["searchFilter"])
    assert sorted({run.data.tags["method"] for run in runs}) == ["deimos", "random"]
    assert len(runs) == 4


def test_the_page_tells_of_runs_that_came_since(browser):
    run(methods=["deimos"])
    before, page = browse.state(), browser.get("/").text
    assert browser.get("/").text == page and browse.state() == before
    run(methods=["deimos", "random"])
    assert browse.state() != before
    assert card(page, "smoke-figure-3a").count('class="run"') == 2
    assert card(browser.get("/").text, "smoke-figure-3a").count('class="run"') == 4


def test_scales_stand_apart_the_latest_first(browser):
    run("smoke")
    run("quick")
    page = browser.get("/").text
    assert browse.scales() == ["quick", "smoke"]
    assert 0 < page.index('id="quick-figure-3a"') < page.index('id="smoke-figure-3a"')


def test_a_view_shows_no_run_that_the_figure_leaves_out(browser):
    run(n_masks=6)  # other settings, asked for earlier
    run()
    twin = store.client().create_run("1", tags=queries.search(kind="run")[0].data.tags)
    store.client().set_terminated(twin.info.run_id, "KILLED")  # the same member, less far
    browser.get("/")
    state = views()["Figure 3a (smoke)"]
    shown = {run.info.run_id for run in store.client().search_runs(["1"], state["searchFilter"])}
    chosen = queries.chosen("mnist-7-vs-9", "smoke", 25, {})
    compared = [run for run in chosen if run.data.tags["method"] != "deimos_500"]
    assert shown == {run.info.run_id for run in compared} and len(shown) == 4


def test_an_empty_record_says_how_to_fill_it(browser):
    assert "make reproduce" in browser.get("/").text


def test_what_cannot_be_read_is_said_on_the_page(browser, monkeypatch):
    def fail(*_):
        raise OSError("the disk is on <fire>")

    run()
    monkeypatch.setattr(browse, "section", fail)
    with pytest.raises(OSError):
        browser.get("/")
    pieces = browse.parts()
    assert "The record is being read" in next(pieces)
    assert "cannot be read: the disk is on &lt;fire&gt;" in next(pieces)


def test_pictures_are_drawn_from_the_runs(browser):
    run()
    answer = browser.get("/figures/smoke/figure-3a.png")
    assert answer.headers["content-type"] == "image/png" and answer.content[:4] == b"\x89PNG"
    for path in ("/figures/smoke/figure-2-left.png", "/figures/smoke/nothing.png"):
        assert browser.get(path).status_code == 404


def test_mlflows_own_first_page_is_behind_the_query(browser):
    run()
    assert "mlflow-ui-container" in browser.get("/?mlflow").text
    assert ui.inside("/#/experiments/1") == "/?mlflow#/experiments/1"


def test_a_notebook_is_shown_as_executed_at_the_scale_and_without_scripts(
    browser, tmp_path, monkeypatch
):
    shutil.copytree(
        browse.NOTEBOOK_FOLDER, tmp_path / "n", ignore=shutil.ignore_patterns("executed")
    )
    monkeypatch.setattr(browse, "NOTEBOOK_FOLDER", tmp_path / "n")
    path, executed = "/notebooks/04-mnist-7-vs-9.html?scale=quick", tmp_path / "n/executed"
    plain = browser.get(path)
    assert "does DEIMOS need fewer labels" in plain.text
    assert "default-src 'none'" in plain.headers["content-security-policy"]
    executed.mkdir()
    (executed / "04-mnist-7-vs-9.html").write_text("as executed")
    (executed / "04-mnist-7-vs-9.json").write_text('{"scale": "quick"}')
    assert browser.get(path).text == "as executed"
    assert browser.get(path.replace("quick", "smoke")).text == plain.text
    assert browser.get("/notebooks/other.html").status_code == 404
    assert browser.get("/notebooks/..%2Fexecuted%2F04-mnist-7-vs-9.html").status_code == 404
