"""Variants differ from the base in one thing each, and are compared with it repeat by repeat."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import ttest_1samp
from tables import curves, evidence_of
from tiny import SCHEDULE, build, moons

from deimos import stats
from deimos.experiment import loop
from deimos.experiment.iteration import initial_set
from deimos.experiment.runs import Member
from deimos.report import figures, verdicts
from deimos.report.verdicts import QUESTIONS
from deimos.studies.ablations import BASE, variants
from deimos.tasks import mnist

OTHERS = {
    "n_candidates": [None],
    "n_masks": [4, 16],
    "noise_factors": [0.1, 10.0],
    "brightest": [1.0],
    "as_printed": True,
    "precisions": ["bfloat16"],
    "spaces": ["logits"],
    "optimisers": ["adam_next"],
    "remainders": ["dropped", "merged"],
    "methods": ["random", "power_bald"],
}
NAMES = {
    "deimos": {},
    "sample: the whole pool": {"n_candidates": None},
    "masks: J = 4": {"n_masks": 4},
    "masks: J = 16": {"n_masks": 16},
    "noise: × 0.1": {"noise": 1e-5},
    "noise: × 10": {"noise": 1e-3},
    "eq. 6: as printed": {"noise": 0.0, "smoothing": 1e-4},
    "precision: bfloat16": {"precision": "bfloat16"},
    "space: logits": {"space": "logits"},
    "optimiser: adam_next": {"optimiser": "adam_next"},
    "remainder: dropped": {"remainder": "dropped"},
    "remainder: merged": {"remainder": "merged"},
    "pixels: 0 to 1": {},
    "method: random": {},
    "method: power_bald": {},
}


@pytest.fixture(scope="module")
def found():
    return variants(moons(), SCHEDULE, **OTHERS)


def test_every_variant_changes_one_thing(found):
    assert [v.name for v in found] == list(NAMES)
    for v in found:
        changed = {k: x for k, x in v.schedule.settings.items() if x != SCHEDULE.settings[k]}
        assert changed == pytest.approx(NAMES[v.name])
        assert v.method == (v.name.removeprefix("method: ") if "method" in v.name else BASE)
        assert torch.equal(v.task.x, moons().x) == ("pixels" not in v.name)
        assert v.name == BASE or v.name.split(":")[0] in QUESTIONS
    assert len({v.base for v in found}) == 1
    (other, *_) = variants(moons(), SCHEDULE.changed(epochs=4))
    assert other.base != found[0].base


def test_all_start_a_repeat_from_the_same_labels_and_all_but_the_pixels_from_the_same_model(found):
    sets = {initial_set(v.task, v.schedule, 2) for v in found}
    assert len(sets) == 1
    first = {}
    for v in found:
        member = Member(v.method, 2, replace(v.schedule, n_acquired=0))
        (step,) = loop.active_learning(v.task, build, [member])
        first[v.name] = step.metrics["test/accuracy"]
    assert len({score for name, score in first.items() if "pixels" not in name}) == 1


@pytest.mark.parametrize(
    ("others", "said"),
    [
        ({"n_masks": [8]}, "'masks: J = 8' is 'deimos' again"),
        ({"noise_factors": [2.0, 2.0]}, "'noise: × 2' is 'noise: × 2' again"),
        ({"methods": ["powr_bald"]}, "no method 'powr_bald'; the nearest is 'power_bald'"),
        ({"n_masks": [1]}, "n_masks = 1, wanted 2 or more"),
        ({"n_candidates": [3]}, "n_candidates = 3 is less than the batch size 4"),
        ({"brightest": [0.0]}, "wanted a number above 0"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_runs(others, said):
    with pytest.raises(ValueError, match=said):
        variants(moons(), SCHEDULE, **others)


def test_pixels_are_rescaled_and_the_data_known_as_other_ones():
    plain = mnist.load_7_vs_9("smoke")
    scaled = mnist.rescaled(plain, 1.0)
    torch.testing.assert_close(scaled.x * 255, plain.x.float())
    torch.testing.assert_close(scaled.test_x * 255, plain.test_x.float())
    assert scaled.test_x.max() == 1 and scaled.checksum != plain.checksum
    assert torch.equal(scaled.y, plain.y) and plain.x.dtype == torch.uint8


def scores(repeats=10, seed=0):
    """Accuracies [iterations repeats]: of the same, of better ones, of what may be chance."""
    rng = np.random.default_rng(seed)
    base = 0.9 + 0.02 * rng.standard_normal((4, repeats))
    noise = 0.002 * rng.standard_normal((3, 4, repeats))
    return {
        "deimos": base,
        "eq. 6: as printed": base,
        "pixels: 0 to 1": base + 0.01 + noise[0],
        "masks: J = 20": base + noise[1],
        "method: random": base - 0.00045 + noise[2],
    }


def accuracies(repeats=10):
    return curves(scores(repeats), repeats, metric="accuracy")


def test_differences_are_paired_with_students_interval_and_holms_p():
    found = stats.paired_differences(accuracies()).set_index("method")
    assert list(found.index) == list(scores())[1:] and (found.repeats == 10).all()
    for method, row in found.iterrows():
        d = (scores()[method] - scores()["deimos"]).mean(0)
        assert row.effect == pytest.approx(d.mean(), abs=1e-12)
        if d.any():
            test = ttest_1samp(d, 0)
            assert row.p == pytest.approx(test.pvalue)
            assert (row.low, row.high) == pytest.approx(test.confidence_interval(0.95))
    assert tuple(found.loc["eq. 6: as printed", ["low", "high", "p", "holm"]]) == (0, 0, 1, 1)
    p = found.p.sort_values()  # Holm: the smallest times 4, the next times 3, never falling
    assert found.holm[p.index].tolist() == pytest.approx(
        np.minimum(1, np.maximum.accumulate(p.to_numpy() * [4, 3, 2, 1])).tolist()
    )


def test_differences_that_are_equal_but_for_rounding_have_no_p():
    table = curves({"deimos": [[0.1, 0.7]], "random": [[0.3, 0.9]]}, repeats=2)
    assert np.ptp([0.3 - 0.1, 0.9 - 0.7]) > 0
    assert np.isnan(stats.run_level_test(table, "random").p_value)


def test_without_anything_to_compare_that_is_said():
    with pytest.raises(stats.Undecidable, match="no runs of anything but 'deimos'"):
        stats.paired_differences(curves({"deimos": scores()["deimos"]}, 10))


def test_the_verdict_is_holms_and_small_runs_decide_nothing():
    plain = verdicts.differences(accuracies(), ()).set_index("claim").outcome
    assert plain.to_dict() == {
        "eq. 6: as printed": "undecided",
        "pixels: 0 to 1": "better",
        "masks: J = 20": "undecided",
        "method: random": "undecided",  # for its p alone it would be worse
    }
    assert stats.paired_differences(accuracies()).p.iloc[-1] < 0.05
    lower = verdicts.differences(accuracies(), (), better="lower")
    assert lower.outcome[1] == "worse"
    small = verdicts.differences(accuracies(4), ("quick scale",))
    assert small.outcome[1] == "not tested"
    assert small.because[1] == "quick scale, 4 of 10 repeats; here better"


def test_the_figure_has_a_row_for_every_variant_and_fills_what_is_sure():
    figure = figures.forest(accuracies(), "title")
    (axes,) = figure.axes
    rows = [text.get_text() for text in axes.get_yticklabels()]
    assert [row for row in rows if row and row not in QUESTIONS] == [
        "J = 20", "0 to 1", "as printed", "Random"
    ]  # fmt: skip
    dots = [line for line in axes.lines if line.get_marker() == "o" and len(line.get_xdata())]
    filled = [dot.get_markerfacecolor() != "white" for dot in dots]
    assert filled == [False, True, False, False]


def test_99_draws_it_from_the_record_and_leaves_it_out_where_there_is_the_base_alone():
    table = accuracies().assign(experiment="what-matters", batch_size=25)
    assert "what-matters" in figures.draw_all(evidence_of(table, scale="quick"))
    assert figures.draw_all(evidence_of(table[table.method == BASE], scale="quick")) == {}
