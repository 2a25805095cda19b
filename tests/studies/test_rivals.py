"""Comparisons with today's rivals: which runs they ask for, and how they are shown."""

import numpy as np
import pandas as pd
import pytest
import torch
from tiny import SCHEDULE, moons

from deimos.experiment.methods import by_name
from deimos.studies import rivals

METHODS, AT_BUDGETS = ["deimos", "random", "margin"], ["deimos", "margin"]


def found(budgets=(6, 7, 10, 20), brightest=(), **changes) -> list[rivals.RivalRuns]:
    base = SCHEDULE.changed(**changes)
    return rivals.comparisons(moons(), "tiny", base, METHODS, budgets, AT_BUDGETS, brightest)


def test_all_methods_start_where_the_paper_did_and_some_from_other_budgets():
    """The base's own budget comes once; two classes do not divide seven labels."""
    assert [(one.schedule.n_initial, one.methods) for one in found()] == [
        (6, ("deimos", "random", "margin")), (10, ("deimos", "margin")), (20, ("deimos", "margin")),
    ]  # fmt: skip
    names = [one.task.name for one in found()]
    assert len(set(names)) == 3 and all(name.startswith("rivals-moons-from-") for name in names)
    settings = [one.schedule.settings | {"n_initial": 6} for one in found()]
    assert all(one == SCHEDULE.settings for one in settings)


def test_the_papers_start_comes_again_with_pixels_of_another_range():
    base, (*_, scaled) = moons(), found(budgets=[], brightest=[1.0])
    assert (scaled.title, scaled.methods) == ("moons from 6 labels, pixels 0 to 1", (*AT_BUDGETS,))
    assert scaled.task.name == "rivals-moons-from-6-pixels-0-to-1" and scaled.schedule == SCHEDULE
    assert torch.allclose(scaled.task.test_x, base.test_x / 255)
    assert scaled.task.checksum != base.checksum


def test_what_cannot_be_run_is_told_before_anything_is():
    with pytest.raises(ValueError, match="n_initial \\+ n_acquired = 72, but .* has 60 points"):
        found(budgets=[60])
    with pytest.raises(ValueError, match="n_masks = 1, wanted 2 or more"):
        found(n_masks=1)


def test_every_rival_that_is_described_can_be_asked_for():
    assert set(rivals.RIVALS) < set(by_name(0.0, 0.0))


def scores() -> pd.DataFrame:
    """Accuracies of three repeats, DEIMOS ahead of random by .1, margin ahead of DEIMOS by .05."""
    rng, rows = np.random.default_rng(0), []
    lead = {"deimos": 0.0, "random": -0.1, "margin": 0.05}
    for repeat in (1, 2, 3):
        luck = 0.01 * rng.standard_normal()
        for method, ahead in lead.items():
            for n in (0, 4, 8):
                score = 0.7 + luck + ahead + 0.001 * rng.standard_normal()
                own = ("moons", 4, method, repeat, n, 6 + n)
                rows += [(*own, "accuracy", score), (*own, "acquire_seconds", 0.5 * repeat)]
    columns = ["experiment", "batch_size", "method", "repeat", "n_acquired", "n_labelled"]
    return pd.DataFrame(rows, columns=[*columns, "metric", "value"])


def test_effects_stand_against_deimos_and_against_random_beside_the_seconds():
    table = rivals.effects("moons", METHODS, scores()).set_index("moons")
    assert table["less deimos"]["deimos"] == "" and table["less random"]["random"] == ""
    assert float(table["less deimos"]["margin"].split()[0]) == pytest.approx(0.05, abs=0.002)
    assert float(table["less random"]["deimos"].split()[0]) == pytest.approx(0.1, abs=0.002)
    assert float(table["Holm's p (random)"]["deimos"]) < 0.01
    assert table["seconds to acquire"].tolist() == [1.0, 1.0, 1.0]


def test_methods_are_answers_and_deimos_stays_what_they_are_compared_with():
    methods = rivals.as_answers(scores()).method.unique().tolist()
    assert methods == ["deimos", "method: random", "method: margin"]
