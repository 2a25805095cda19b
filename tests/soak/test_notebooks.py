"""Every notebook runs from its first cell to its last at smoke scale, and its numbers land."""

import nbformat
import pytest

from deimos import tracking
from deimos.execution import notebooks
from deimos.execution.parameters import check_parameters, scale_parameters
from deimos.record.provenance import code_fingerprint
from deimos.report import paper
from deimos.studies import batch_worth

pytestmark = pytest.mark.soak
NOTEBOOKS = sorted(notebooks.NOTEBOOKS.glob("*.ipynb"))


@pytest.fixture(scope="module")
def executed(tmp_path_factory) -> dict:
    """All notebooks, one after another, on a record of their own and without the user's data."""
    folder = tmp_path_factory.mktemp("notebooks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
        patch.setenv("DEIMOS_DATA", str(folder / "data"))
        patch.setenv("DEIMOS_OFFLINE", "1")
        done = {}
        for notebook in NOTEBOOKS:
            parameters = scale_parameters(notebook, "smoke") | {"scale": "smoke"}
            check_parameters(notebook, parameters)
            done[notebook.stem] = notebooks.execute_notebook(notebook, "smoke", parameters, folder)
        yield {"folder": folder, **done}


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_to_its_end_and_shows_a_figure_and_verdicts(executed, notebook):
    execution = executed[notebook.stem]
    assert (execution.status, execution.error) == ("finished", "")
    cells = nbformat.read(executed["folder"] / notebook.name, as_version=4).cells
    shown = [kind for c in cells for o in c.get("outputs", []) for kind in o.get("data", {})]
    assert "image/png" in shown
    assert execution.outcomes and (executed["folder"] / f"{notebook.stem}.html").exists()


def test_the_numbers_of_the_smoke_runs_are_in_the_record(executed):
    table = tracking.table("mnist-7-vs-9", "smoke", batch_size=25, metric="accuracy")
    compared = {"deimos", "random", "max_entropy", "k_center"}
    assert set(table.method) == compared | {
        "batchbald",
        "deimos_500",
        "deimos_5000",
        "k_center_authors",
    }
    assert set(table.n_acquired) == {0, 25, 50} and set(table["repeat"]) == {1, 2}
    assert table.value.between(0, 1).all()
    assert set(tracking.table("greedy-vs-optimal").batch_size) == {2, 5}


def test_a_round_is_known_by_the_code_that_picks_too(executed):
    (known,) = tracking.evidence(experiment="own-pool").origins["own-pool"].fingerprints
    assert known == code_fingerprint(also=batch_worth.MODULES) != code_fingerprint()


@pytest.mark.parametrize(
    "task",
    ["synthetic-1d", "splicing", "face-age", "mnist-7-vs-9", "mnist-0-to-9", "own-pool"],
)
def test_the_precision_of_every_experiment_is_recorded(executed, task):
    assert len(tracking.table(task, "smoke", precision="float32")) > 0


def test_a_smoke_run_on_stand_in_data_decides_no_claim(executed):
    outcomes = executed["04-mnist-7-vs-9"].outcomes
    assert outcomes == {"not tested": len(paper.MNIST_7_VS_9)}


def test_a_second_execution_finds_everything_done(executed):
    notebook = notebooks.NOTEBOOKS / "04-mnist-7-vs-9.ipynb"
    parameters = scale_parameters(notebook, "smoke") | {"scale": "smoke"}
    again = notebooks.execute_notebook(notebook, "smoke", parameters, executed["folder"])
    before = executed[notebook.stem]
    assert before.new == 26 and (before.resumed, before.skipped) == (0, 0)
    assert (again.new, again.resumed, again.skipped) == (0, 0, 26)


def test_the_kept_runs_are_shown_without_data_and_nothing_is_fitted(executed):
    tracking.read_references()
    notebook = notebooks.NOTEBOOKS / "04-mnist-7-vs-9.ipynb"
    folder = executed["folder"] / "kept"
    folder.mkdir()
    shown = notebooks.execute_notebook(notebook, "reference", {"scale": "reference"}, folder)
    assert (shown.status, shown.error, shown.new, shown.resumed) == ("finished", "", 0, 0)
    assert sum(shown.outcomes.values()) == len(paper.MNIST_7_VS_9)
    assert shown.outcomes["supported"] > 5
