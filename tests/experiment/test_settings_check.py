"""Wrong settings are refused at once, all of them, with the nearest right name."""

from pathlib import Path

import pytest
import torch
import yaml

import deimos
from deimos.execution import parameters
from deimos.experiment import settings_check
from deimos.experiment.runs import Schedule
from deimos.models.training import Fit
from deimos.tasks.task import Task

NOTEBOOKS = Path(deimos.__file__).parents[1] / "notebooks"
RIGHT = {
    "batch_size": 4, "n_initial": 6, "n_acquired": 12, "n_candidates": 20, "epochs": 5,
    "minibatch": 4, "decay": 0.01, "n_masks": 8, "n_passes": 5, "noise": 1e-4, "smoothing": 0.0,
    "optimiser": "adam", "initial_sets": "authors", "seed": 3, "repeats": 2, "methods": ["deimos"],
}  # fmt: skip


def test_what_can_be_is_let_through():
    assert settings_check.invalid_settings(RIGHT) == []
    edge = {
        "n_acquired": 0,
        "n_candidates": None,
        "noise": 0.0,
        "decay": 0,
        "n_masks": 2,
        "seed": 0,
    }
    assert (
        settings_check.invalid_settings(RIGHT | edge) == [] == settings_check.invalid_settings({})
    )


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        *[({name: 0}, f"{name} = 0, wanted 1 or more") for name in
          ("n_initial", "epochs", "minibatch", "n_passes", "repeats")],
        ({"batch_size": 0}, "batch_size = 0, wanted 1 or more"),
        ({"batch_size": -4}, "batch_size = -4, wanted 1 or more"),
        ({"n_masks": 1}, "n_masks = 1, wanted 2 or more"),
        ({"n_acquired": -4}, "n_acquired = -4, wanted 0 or more"),
        ({"seed": -1}, "seed = -1, wanted 0 or more"),
        ({"decay": -0.1}, "decay = -0.1, wanted 0 or more"),
        ({"noise": -1e-9}, "noise = -1e-09, wanted 0 or more"),
        ({"noise": float("nan")}, "noise = nan, wanted 0 or more"),
        ({"noise": 0.0, "smoothing": float("inf")}, "smoothing = inf, wanted 0 or more"),
        ({"smoothing": 0.1}, "noise and smoothing: one of the two must be 0"),
        ({"n_acquired": 13}, "n_acquired = 13 is no multiple of the batch size 4"),
        ({"n_candidates": 3}, "n_candidates = 3 is less than the batch size 4"),
        ({"optimiser": "adams"}, "there is no optimiser 'adams'; the nearest is 'adam'"),
        ({"initial_sets": "rndom"}, "there is no initial set 'rndom'; the nearest is 'random'"),
        ({"precision": "half"}, "there is no precision 'half'; the nearest is"),
        ({"fitting": "step"}, "there is no fitting 'step'; the nearest is 'in_step'"),
        ({"space": "logit"}, "there is no space 'logit'; the nearest is 'logits'"),
        ({"scale": "papr"}, "there is no scale 'papr'; the nearest is 'paper'"),
        ({"methods": ["deimos", "kcenter"]}, "no method 'kcenter'; the nearest is 'k_center'"),
        ({"methods": []}, "methods = [], wanted one or more, each once"),
        ({"methods": ["bald", "bald"]}, "methods = ['bald', 'bald'], wanted one or more, each"),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_is_told_and_nothing_else_is(wrong, told):
    (said,) = settings_check.invalid_settings(RIGHT | wrong)
    assert told in said


def task(n_classes: int, initial_sets=()) -> Task:
    """Forty points to label; in classification 36 of class 0 and 4 of class 1."""
    x, y = torch.zeros(50, 1), torch.zeros(50, dtype=torch.long)
    y[:4] = 1
    return Task(
        "here", x, y, torch.arange(40), x[40:], y[40:], n_classes, "simulated", "0" * 16,
        initial_sets=initial_sets,
    )  # fmt: skip


def schedule(**changes) -> Schedule:
    left = {k: v for k, v in RIGHT.items() if k not in ("repeats", "methods")}
    settings = left | changes
    of_fit = {name: settings.pop(name) for name in vars(Fit(1, 1, 0.0)) if name in settings}
    return Schedule(fit=Fit(**of_fit), **settings)


@pytest.mark.parametrize(
    ("classes", "changes", "told"),
    [
        (1, {}, []),
        (1, {"n_initial": 28}, []),
        (1, {"n_initial": 29}, ["n_initial + n_acquired = 41, but here has 40 points"]),
        (1, {"n_acquired": 36}, ["n_initial + n_acquired = 42, but here has 40 points"]),
        (2, {"n_initial": 8}, []),
        (2, {"n_initial": 7}, ["n_initial = 7 is no multiple of the 2 classes"]),
        (2, {"n_initial": 10}, ["n_initial = 10, but a class has only 4 points"]),
    ],
)
def test_more_than_the_data_have_is_told(classes, changes, told):
    assert settings_check.task_conflicts(task(classes), schedule(**changes)) == told


def test_logits_are_refused_where_there_are_no_classes():
    (said,) = settings_check.task_conflicts(task(1), schedule(space="logits"))
    assert said == "logits are asked for, but here has no classes: leave the space as it is"
    assert settings_check.task_conflicts(task(1), schedule(), ["random", "deimos_logits"]) == [said]
    assert (
        settings_check.task_conflicts(task(2), schedule(space="logits", n_initial=8), ["deimos"])
        == []
    )


def test_stored_initial_sets_need_not_represent_every_class_equally():
    stored = task(2, initial_sets=((10, 11, 12), (13, 14, 15)))
    assert settings_check.task_conflicts(stored, schedule(n_initial=3)) == []
    assert settings_check.task_conflicts(stored, schedule(n_initial=3, initial_sets="random"))


def test_all_problems_of_a_notebook_are_told_at_once_with_the_nearest_right_names():
    wrong = {
        "repeats": 0, "epoch": 3, "epochs": -1, "noise": float("nan"), "smoothing": 0.1,
        "batch_sizes": [25, 0], "n_acquired": [30], "compared": ["deimso"], "decay": "1e-4",
        "scale": "papr", "seed": 1.5,
    }  # fmt: skip
    with pytest.raises(ValueError) as raised:
        parameters.check_parameters(NOTEBOOKS / "04-mnist-7-vs-9.ipynb", wrong)
    for told in (
        "04-mnist-7-vs-9.ipynb: there is no parameter 'epoch'; the nearest is 'epochs'",
        "decay = '1e-4' is str, not float: write 1.0e-4",
        "seed = 1.5 is float, not int",
        "n_acquired has 1 entries, wanted 2: one for each of batch_sizes",
        "there is no method 'deimso'; the nearest is 'deimos'",
        "there is no scale 'papr'; the nearest is 'paper'",
        "repeats = 0, wanted 1 or more",
        "epochs = -1, wanted 1 or more",
        "noise = nan, wanted 0 or more",
        "noise and smoothing: one of the two must be 0",
        "batch_size = 0, wanted 1 or more",
    ):
        assert str(raised.value).count(told) == 1, told


@pytest.mark.parametrize(
    ("name", "wrong", "told"),
    [
        ("01-synthetic-1d", {"noise_share": -0.1}, "noise_share = -0.1"),
        ("02-splicing", {"batch_size": 7}, "n_acquired = 600 is no multiple of the batch size 7"),
        ("03-face-age", {"batch_sizes": [100, 300]}, "n_acquired = 2000 is no multiple .* 300"),
        ("03-face-age", {"batch_sizes": [8000], "n_acquired": 8000}, "n_candidates = 5000 is less"),
        (
            "04-mnist-7-vs-9",
            {"batch_sizes": [1, 25], "n_acquired": [200, 40]},
            "n_acquired = 40 is",
        ),
        ("04-mnist-7-vs-9", {"of_single_points": ["bold"]}, "nearest is 'bald'"),
        ("05-mnist-0-to-9", {"batch_sizes": [], "methods": []}, "batch_sizes is empty.*methods = "),
        ("A1-greedy-vs-optimal", {"n_points": [200, 30, 5]}, "n_points = 5 is less than"),
        ("A1-greedy-vs-optimal", {"n_samples": [3, 1]}, "n_samples = 1, wanted 2 or more"),
    ],
)
def test_every_notebook_is_refused_what_it_cannot_do(name, wrong, told):
    with pytest.raises(ValueError, match=f"{name}.ipynb: .*{told}"):
        parameters.check_parameters(NOTEBOOKS / f"{name}.ipynb", wrong)


def test_a_method_list_may_be_empty_where_others_name_methods():
    parameters.check_parameters(NOTEBOOKS / "04-mnist-7-vs-9.ipynb", {"of_single_points": []})


@pytest.mark.parametrize("notebook", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_the_papers_values_and_those_of_every_scale_are_possible(notebook):
    parameters.check_parameters(notebook, {})
    for scale in ("quick", "smoke"):
        said = yaml.safe_load((NOTEBOOKS / f"scales/{scale}.yaml").read_text())
        parameters.check_parameters(notebook, said[notebook.stem] | {"scale": scale})
