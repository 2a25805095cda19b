"""Rivals are compared as a family, from the same starts."""

from types import SimpleNamespace

import pytest

from deimos import tracking
from deimos.report import alternatives


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


def test_rivals_have_the_same_sets_and_settings_and_as_many_repeats_each():
    assert alternatives.RIVALS
    for file in alternatives.RIVALS:
        _, runs = tracking.contents(file)
        params = [dict(run["params"]) for run in runs.values() if run["tags"].get("kind") == "run"]
        members = [(one.pop("method"), one.pop("repeat")) for one in params]
        assert len({tuple(sorted(one.items())) for one in params}) == 1
        methods, repeats = ({*names} for names in zip(*members, strict=True))
        assert {"deimos", "random"} < methods
        assert len(members) == len({*members}) == len(methods) * len(repeats)
