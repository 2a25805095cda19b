"""Rivals are compared as a family, from the same starts."""

from collections import defaultdict
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from deimos import tracking
from deimos.report import alternatives, archived


@pytest.mark.parametrize(
    ("effect", "holm", "outcome"),
    [(0.1, 0.04, "higher"), (-0.1, 0.04, "lower"), (0.1, 0.05, "undecided")],
)
def test_of_a_family_holms_p_decides(effect, holm, outcome):
    row = SimpleNamespace(
        effect=effect, low=effect - 0.01, high=effect + 0.01, repeats=5, holm=holm
    )
    said = f"{effect:+.2g} [{effect - 0.01:+.2g}, {effect + 0.01:+.2g}] (5 repeats)"
    assert alternatives._after_holm(row) == (outcome, said)


def test_a_variant_is_called_by_its_question_and_a_method_by_its_name():
    methods = ["random", "method: random", "eq. 6: as printed", "masks: J = 20"]
    called = ["Random", "Random", "eq. 6: as printed", "masks: J = 20"]
    assert [alternatives._called(method) for method in methods] == called


@pytest.mark.parametrize(
    ("holm", "said"),
    [
        ([0.01, 0.04, 0.2], ("some", "2 of 3; above it BADGE; below it Random")),
        ([0.06, 0.04, 0.2], ("some", "1 of 3; above it BADGE")),
        ([0.06, 0.05, 0.2], ("none", "0 of 3")),
    ],
)
def test_who_is_told_apart_is_named_on_its_side(holm, said):
    methods = {"random": -0.1, "badge": 0.1, "margin": 0.2}
    pairs = pd.DataFrame({"method": methods.keys(), "effect": methods.values(), "holm": holm})
    assert alternatives._told_apart(pairs) == said


def test_a_method_does_as_well_if_its_interval_is_within_half_of_the_lead_over_random():
    methods = ["random", "badge", "margin", "epig", "typiclust"]
    low, high = [-0.13, -0.03, -0.06, -0.01, -0.04], [-0.07, 0.02, 0.01, 0.06, 0.045]
    pairs = pd.DataFrame({"method": methods, "low": low, "high": high})
    pairs["effect"] = (pairs.low + pairs.high) / 2
    assert alternatives._alike(pairs) == ("some", "TypiClust, BADGE (within ±0.05)")
    assert alternatives._alike(pairs[pairs.method != "badge"].iloc[:3]) == ("none", "within ±0.05")


def test_where_deimos_does_not_lead_random_nobody_is_said_to_do_as_well():
    """Half of a lead that may be none, or the other way, is no margin."""
    pairs = pd.DataFrame({"method": ["random", "badge"], "effect": [-0.01, 0.0]})
    pairs = pairs.assign(low=pairs.effect - 0.02, high=pairs.effect + 0.02)
    assert alternatives._alike(pairs) == ("no lead", "Random -0.01 [-0.03, +0.01]")


def test_ten_repeats_tell_deimos_from_random_and_two_rivals_on_two_digits_and_nobody_from_it():
    known = alternatives.outcomes()
    start = "MNIST 7 vs 9 from 10 labels, less DEIMOS: told apart"
    assert known["rivals", start] == ("some", "3 of 10; below it CoreSet, Random, ProbCover")


def test_with_pixels_from_0_to_1_deimos_is_ahead_of_all_on_two_digits_and_maxherding_of_it_on_ten():
    """As the README says in words."""
    known = alternatives.outcomes()
    told = "pixels 0 to 1, less DEIMOS: told apart"
    _, two = known["rivals", f"MNIST 7 vs 9 from 10 labels, {told}"]
    assert two.startswith("5 of 5; below it ")
    _, ten = known["rivals", f"MNIST 0-9 from 30 labels, {told}"]
    assert "above it MaxHerding;" in ten


def test_rivals_have_the_same_sets_and_settings_and_as_many_repeats_each():
    assert {*alternatives.RIVALS} == {*alternatives.BEYOND.glob("rivals-*.zip")} != set()
    for file in alternatives.RIVALS:
        _, runs = tracking.contents(file)
        params = [dict(run["params"]) for run in runs.values() if run["tags"].get("kind") == "run"]
        members = [(one.pop("method"), one.pop("repeat")) for one in params]
        assert len({tuple(sorted(one.items())) for one in params}) == 1
        methods, repeats = ({*names} for names in zip(*members, strict=True))
        assert {"deimos", "random"} < methods
        assert len(members) == len({*members}) == len(methods) * len(repeats)


def test_rivals_began_with_the_same_network_to_the_last_bit():
    """Else they ran on processors that round otherwise, and no repeat's luck is shared."""
    for file in alternatives.RIVALS:
        start = archived.rows(file, "accuracy").query("n_acquired == 0")
        assert (start.groupby("repeat").value.nunique() == 1).all(), file.name


def test_what_another_processor_moves_is_read_off_the_runs_that_both_made():
    accuracy = [
        archived.rows(file, "accuracy").set_index(["method", "repeat"]).value
        for file in (alternatives.VARIANTS, tracking.REFERENCES / "beyond/rivals-mnist-7-vs-9.zip")
    ]
    names = {"deimos": "deimos"}
    names |= {f"method: {m}": m for m in ("random", "power_bald", "deimos_forward_backward")}
    moved = [
        abs(accuracy[0][one, repeat].mean() - accuracy[1][other, repeat].mean())
        for one, other in names.items()
        for repeat in range(1, 11)
    ]
    known = alternatives.outcomes()
    said = f"{np.mean(moved):.2g}, at most {max(moved):.2g} (40 runs)"
    assert known["processors", "a run's mean accuracy"] == ("moves", said)
    assert known["processors", "all runs, one less the other"][0] == "undecided"


def test_what_other_pixels_change_is_read_off_random_and_deimos_in_both_archives():
    known = alternatives.outcomes()
    for digits, name, method in (
        ("7 vs 9", "7-vs-9", "method: random"),
        ("0-9", "0-to-9", "random"),
    ):
        scaled = tracking.REFERENCES / f"beyond/rivals-mnist-{name}-pixels-0-to-1.zip"
        before, after = (
            archived.rows(file, "accuracy").groupby(["method", "repeat"]).value.mean()
            for file in (alternatives.AS_STORED[f"MNIST {digits}"], scaled)
        )  # fmt: skip
        random, led = after["random"] - before[method], before["deimos"] - before[method]
        lead = after["deimos"] - after["random"]
        for what, gain in (
            ("random's gain", random),
            ("what DEIMOS' lead gains", lead - led),
            ("DEIMOS' lead as stored", led),
        ):
            _, said = known["pixels 0 to 1", f"MNIST {digits}: {what}"]
            assert said.startswith(f"{gain.mean():+.2g} ["), (digits, what)


def test_every_variant_that_the_notebook_asks_for_has_the_same_repeats_from_the_same_labels():
    """One thing is changed at a time, as the base's digest in their tags says."""
    _, runs = tracking.contents(alternatives.VARIANTS)
    runs = [run for run in runs.values() if run["tags"].get("kind") == "run"]
    assert len({run["tags"]["base"] for run in runs}) == 1
    repeats = defaultdict(set)
    for run in runs:
        repeats[run["tags"]["variant"]].add(int(run["params"]["repeat"]))
    assert len(repeats) == 20 and len({frozenset(one) for one in repeats.values()}) == 1
    start = archived.rows(alternatives.VARIANTS, "accuracy").query("n_acquired == 0")
    assert start.method.nunique() == 20 and set(start.n_labelled) == {10}
    of_one_fit = start[~start.method.str.contains("pixels|optimiser|remainder|precision")]
    assert (of_one_fit.groupby("repeat").value.nunique() == 1).all()


def test_the_table_of_variants_has_each_once_with_its_difference_to_the_papers_own():
    table = alternatives.variants_table()
    rows = [line.split(" | ") for line in table.splitlines()[4:]]
    accuracy = archived.rows(alternatives.VARIANTS, "accuracy")
    means = accuracy.groupby("method").value.mean()
    assert len(rows) == accuracy.method.nunique() - 1
    less = means["space: logits"] - means["deimos"]
    (logits,) = [row for row in rows if row[1] == "logits"]
    assert logits[0] == "| space" and float(logits[2].split()[0]) == pytest.approx(less, abs=6e-5)
