"""`make ui` as a person meets it: every link of the page is followed in a real browser.

A screenshot of each place is kept in `tests/artifacts/browser`, and a table of what was there.
"""

import http.client
import json
import os
import re
import socket
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import browser
import pytest

import deimos
from deimos.record import archive
from deimos.report import figures, paper

ROOT = Path(deimos.__file__).parents[1]
ARTIFACTS = ROOT / "tests" / "artifacts" / "browser"
CARDS = 13  # figures that the kept runs have something of
OURS = {
    f"rgb({', '.join(str(round(255 * part)) for part in colour)})"
    for colour in figures.COLOURS.values()
}
RUNS = "(document.body?.innerText.match(/(\\d+) matching run/) || [0, 0])[1] * 1"
CHARTS = "document.querySelectorAll('.js-plotly-plot .trace').length"
CURVES = "document.querySelectorAll('.js-plotly-plot .scatterlayer .trace path.js-line').length"

pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(browser.PROGRAM is None, reason="no chromium: apt-get install chromium"),
]


@pytest.fixture(scope="module")
def port():
    with closing(socket.socket()) as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A record with the kept runs, and the processor's seconds that reading them took."""
    file = tmp_path_factory.mktemp("record") / "mlflow.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{file}")
        archive.store.client()
        start = time.process_time()
        assert archive.read_references() > 100
        return file, time.process_time() - start


@pytest.fixture(scope="module")
def server(kept, port):
    """What `make ui` starts, on this record."""
    file, _ = kept
    environment = os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{file}"}
    command = [sys.executable, "-m", "deimos.report.browse", str(port)]
    process = subprocess.Popen(command, cwd=ROOT, env=environment)
    try:
        end = time.monotonic() + 180
        while get(port, "/health", "127.0.0.1") != 200:
            assert process.poll() is None and time.monotonic() < end, "no server"
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(60)


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    with browser.chromium(tmp_path_factory.mktemp("chromium")) as one:
        one.size(1440, 1000)
        yield one


@pytest.fixture(scope="module")
def links(tab, server):
    """The addresses on the page by their kind, after it has been looked at."""
    tab.requested.clear()
    tab.open(f"{server}/")
    tab.wait_for("document.querySelectorAll('.card').length", limit=180)
    tab.value("document.querySelectorAll('img').forEach(i => i.loading = 'eager')")
    drawn = "[...document.images].every(i => i.complete && i.naturalWidth > 300)"
    tab.wait_for(drawn, limit=180)
    tab.picture(ARTIFACTS / "page.png", all_of_it=True)
    (ARTIFACTS / "links.tsv").unlink(missing_ok=True)
    kinds = ("view", "run", "notebook", "experiment")
    ask = "[...document.querySelectorAll('a.{}')].map(a => a.href)"
    return {kind: tab.value(ask.format(kind)) for kind in kinds}


def get(port, path, host):
    """The status of an answer to a request that names this host, or None without a server."""
    try:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as one:
            one.request("GET", path, headers={"Host": host})
            return one.getresponse().status
    except OSError:
        return None


def note(rows):
    """Add to the table of links that is kept beside the screenshots."""
    with open(ARTIFACTS / "links.tsv", "a") as table:
        table.writelines("\t".join(map(str, row)) + "\n" for row in rows)


def run_of(address):
    """The id of the run that a link is to."""
    return re.search("runs/([0-9a-f]{32})/", address)[1]


def stays_here(tab, server):
    """Whether nothing but this server was asked for anything."""
    return all(re.match(rf"{server}/|data:|blob:|about:", address) for address in tab.requested)


def test_reading_the_kept_runs_takes_seconds(kept):
    assert kept[1] < 10  # five, as last seen; MLflow's own calls take thirty


def test_the_page_has_every_figure_with_its_claims_and_asks_no_other_machine(links, tab, server):
    assert len(links["view"]) == len(links["notebook"]) == CARDS
    assert tab.value("document.querySelectorAll('.outcome').length") == len(paper.CLAIMS)
    assert "Of the paper's" in tab.value("document.body.innerText")
    assert not tab.value("getComputedStyle(document.getElementById('wait')).display != 'none'")
    assert stays_here(tab, server)


def test_every_chart_has_its_runs_and_the_colours_of_our_figures(links, tab):
    rows, failed = [], []
    for address in links["view"]:
        tab.open(address)
        runs = tab.wait_for(RUNS)
        curves = tab.wait_for(CURVES)
        name = re.search("viewStateShareKey=([^&]+)", address)[1]
        tab.picture(ARTIFACTS / f"{name}.png")
        shades = tab.value(
            "[...document.querySelectorAll('.scatterlayer .trace path.js-line')]"
            ".map(path => path.style.stroke)"
        )
        rows.append(("view", name, f"{runs} runs", f"{curves} curves"))
        if not {*shades} & OURS:
            failed.append((name, {*shades}))
    note(rows)
    assert not failed


def test_every_experiment_opens_on_its_runs_without_the_assistant(links, tab):
    rows = []
    for address in links["experiment"]:
        tab.open(address)
        runs = tab.wait_for(RUNS)
        assert "GenAI" in tab.value("document.body?.innerText")  # the switch, which is not on it
        assert json.loads(tab.value("localStorage['mlflow.workflowType_v1']")) == "machine_learning"
        assert json.loads(tab.value("localStorage['mlflow.assistant.panelOpen_v1']")) is False
        charts = tab.wait_for(CHARTS)
        rows.append(("experiment", address.partition("#")[2], f"{runs} runs", f"{charts} charts"))
        tab.picture(ARTIFACTS / f"experiment-{re.search('experiments/([0-9]+)', address)[1]}.png")
    note(rows)


def test_the_run_pages_show_their_run(links, tab, server):
    rows = []
    by_experiment = {re.search("experiments/([0-9]+)/", a)[1]: a for a in links["run"]}
    for address in by_experiment.values():  # the others are made alike, and asked for below
        id = run_of(address)
        tab.open(address)
        tab.wait_for(CHARTS)
        rows.append(("run", id, tab.value("document.querySelector('h1, h2, h3').innerText"), ""))
        tab.picture(ARTIFACTS / f"run-{id[:8]}.png")
    ids = {*map(run_of, links["run"])}
    ask = f"fetch('{server}/ajax-api/2.0/mlflow/runs/get?run_id=' + id).then(a => a.status)"
    script = f"Promise.all({json.dumps([*ids])}.map(id => {ask}))"
    answer = tab.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
    assert {*answer["result"]["value"]} == {200}
    note([*rows, ("runs", len(ids), "all there", "")])


def test_the_notebooks_pages_show_the_notebook(links, tab):
    for address in {*links["notebook"]}:
        tab.open(address)
        tab.wait_for("document.querySelectorAll('.jp-Cell, .cell').length > 5")
        name = re.search(r"notebooks/(.*)\.html", address)[1]
        tab.picture(ARTIFACTS / f"notebook-{name}.png")


def test_an_address_of_mlflows_own_goes_on_to_mlflow(tab, server, links):
    own = links["view"][0].replace("/?mlflow#", "/#")
    tab.open(own)
    assert tab.wait_for(RUNS) and tab.wait_for(CURVES)
    assert "/?mlflow#/experiments/" in tab.value("location.href")


def test_the_page_fits_a_phone(tab, server):
    tab.size(390, 844, phone=True)
    tab.open(f"{server}/")
    tab.wait_for("document.querySelectorAll('.card').length", limit=180)
    assert tab.value("document.documentElement.scrollWidth") <= 390
    tab.picture(ARTIFACTS / "phone.png")
    tab.size(1440, 1000)


PLACES = ["/", "/?mlflow", "/figures/reference/figure-3a.png", "/notebooks/04-mnist-7-vs-9.html"]
NO_PLACES = ["/figures/reference/no.png", "/figures/x/figure-3a.png", "/notebooks/no.html"]


@pytest.mark.parametrize("path", PLACES)
def test_a_foreign_host_gets_nothing(server, port, path):
    assert get(port, path, "evil.example") == 403
    assert get(port, path, f"127.0.0.1:{port}") == 200


@pytest.mark.parametrize("path", [*NO_PLACES, "/notebooks/..%2F..%2FREADME.html"])
def test_what_is_not_there_is_not_served(server, port, path):
    assert get(port, path, f"127.0.0.1:{port}") == 404
