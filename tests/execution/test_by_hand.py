"""A notebook run by hand: the scale of the machine, and what the reader edited."""

import pytest
import torch

from deimos import tracking
from deimos.execution import by_hand, notebooks
from deimos.execution.parameters import assigned, values_at

NOTEBOOKS = sorted(notebooks.NOTEBOOKS.glob("*.ipynb"))
NAME = "04-mnist-7-vs-9"


@pytest.fixture(autouse=True)
def hand(monkeypatch):
    monkeypatch.delenv("DEIMOS_EXECUTION", raising=False)


@pytest.fixture
def names():
    """The variables of a kernel in which the parameters cell was run."""
    return {"torch": torch, **values_at(NAME, "paper")}


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_papers_values_are_known_apart_from_the_notebook(notebook):
    cells = {name: value for name, _, value in assigned(notebook)}
    known = values_at(notebook.stem, "paper")
    assert known == cells
    assert {k: type(v) for k, v in known.items()} == {k: type(v) for k, v in cells.items()}


def test_a_laptop_gets_quick_values_and_is_told_so(names):
    told = by_hand.apply_scale(NAME, names, "auto")
    assert names == {"torch": torch, **values_at(NAME, "paper"), **values_at(NAME, "quick")} | {
        "scale": "quick"
    }
    assert told.startswith("quick scale, since this machine has no CUDA GPU")
    assert "epochs = 40" in told and "as you edited it" not in told


def test_a_gpu_gets_the_papers(names, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    told = by_hand.apply_scale(NAME, names, "auto")
    assert told == "paper scale, since this machine has a CUDA GPU"
    assert names == {"torch": torch, **values_at(NAME, "paper")}


def test_what_the_reader_edited_stays(names):
    names |= {"epochs": 10, "decay": 0.1}
    told = by_hand.apply_scale(NAME, names, "auto")
    assert (names["epochs"], names["decay"], names["repeats"]) == (10, 0.1, 2)
    assert told.endswith("as you edited it: epochs = 10, decay = 0.1")
    assert "epochs = 40" not in told


def test_the_setup_cell_can_be_run_twice(names):
    names["decay"] = 0.1
    told, before = by_hand.apply_scale(NAME, names, "auto"), dict(names)
    again = by_hand.apply_scale(NAME, names, "auto")
    assert names == before and again.splitlines()[1:] == told.splitlines()[1:]


@pytest.mark.parametrize(
    ("word", "parameter", "scale"),
    [("paper", "paper", "paper"), ("smoke", "paper", "smoke"), ("auto", "smoke", "smoke")],
)
def test_one_word_changes_the_scale(names, word, parameter, scale):
    names["scale"] = parameter
    assert by_hand.apply_scale(NAME, names, word).startswith(f"{scale} scale, as asked")
    changes = {} if scale == "paper" else values_at(NAME, scale)
    assert names == {"torch": torch, **values_at(NAME, "paper"), **changes, "scale": scale}


def test_two_words_that_contradict_each_other_are_refused(names):
    by_hand.apply_scale(NAME, names, "auto")
    with pytest.raises(ValueError, match="run the Parameters cell again"):
        by_hand.apply_scale(NAME, names, "paper")
    with pytest.raises(ValueError, match="no scale 'quik'; the nearest is 'quick'"):
        by_hand.apply_scale(NAME, names, "quik")
    with pytest.raises(ValueError, match="run the Parameters cell first"):
        by_hand.apply_scale(NAME, {}, "auto")


def test_a_headless_execution_keeps_the_values_that_it_was_given(names, monkeypatch):
    monkeypatch.setenv("DEIMOS_EXECUTION", "some run")
    before = dict(names)
    assert by_hand.apply_scale(NAME, names, "smoke") == "paper scale" and names == before
    assert by_hand.recorded_scale("smoke", "quick") == "smoke"


def test_the_record_is_shown_at_the_scale_of_the_latest_runs_or_else_as_kept(database, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
    read = []
    monkeypatch.setattr(tracking, "read_references", lambda: read.append(1))
    last = "99-figures-and-tables"
    tracking.close_execution(tracking.open_execution(last, "paper"), "finished")
    assert by_hand.recorded_scale("paper") == "reference" and read == [1]
    for scale in ("quick", "smoke"):
        run = tracking.open_execution("01-synthetic-1d", scale)
        tracking.close_execution(run, "finished")
        assert by_hand.recorded_scale("paper") == scale
    assert by_hand.recorded_scale("quick") == "quick"
    assert by_hand.recorded_scale("paper", "paper") == "paper" and read == [1]
    assert by_hand.recorded_scale("reference") == "reference" and read == [1, 1]
    with pytest.raises(ValueError, match="there is no scale 'huge'"):
        by_hand.recorded_scale("paper", "huge")
