"""Numbers beyond the claims are those of the kept runs, paired by repeat."""

from types import SimpleNamespace

import numpy as np
import pytest
from tables import curves

from deimos import stats, tracking
from deimos.report import beyond, paper
from deimos.tasks.authors import published_curves


@pytest.mark.parametrize(
    ("difference", "way"),
    [
        ([0.1, 0.2, 0.3], "undecided"),
        ([0.19, 0.2, 0.21], "higher"),
        ([-0.2, -0.21, -0.22], "lower"),
    ],
)
def test_a_method_is_higher_or_lower_where_its_interval_leaves_0_out(difference, way):
    level = np.ones((5, 3))
    rows = curves({"deimos": level, "random": level + np.array(difference)})
    d = np.array(difference)
    half = 4.303 * d.std(ddof=1) / 3**0.5
    said = f"{d.mean():+.2g} [{d.mean() - half:+.2g}, {d.mean() + half:+.2g}] (3 repeats)"
    assert beyond.less(rows, "random") == (way, said)


def test_fits_that_differ_in_their_last_minibatch_have_the_same_labels_and_no_other_setting():
    assert beyond.DIPS
    for file in beyond.DIPS:
        _, runs = tracking.contents(file)
        runs = [run for run in runs.values() if run["tags"].get("kind") == "run"]
        told = [{k: v for k, v in run["params"].items() if k != "remainder"} for run in runs]
        repeats = {int(one.pop("repeat")) for one in told}
        assert len({tuple(sorted(one.items())) for one in told}) == 1
        assert {run["params"]["remainder"] for run in runs} == {"kept", "dropped", "merged"}
        assert len(runs) == 3 * len(repeats)
        values, _ = tracking.contents(file)
        ids = values[values.metric == "batch/id"].merge(
            values[values.metric == "n_labelled"].groupby("run").value.max(), on="run"
        )
        by_repeat = ids.assign(
            repeat=ids.run.map({r["origin"]: r["params"]["repeat"] for r in runs})
        )
        assert (by_repeat.groupby("repeat").value_x.nunique() == 1).all()


def test_a_fit_of_whole_minibatches_is_the_same_whatever_the_remainder():
    for file in beyond.DIPS:
        table = tracking.of_archives([file]).table
        table = table[(table.metric == "accuracy") & (table.n_labelled % beyond.MINIBATCH == 0)]
        assert len(table) and (table.groupby("repeat").value.nunique() == 1).all()


def test_the_scales_of_a_label_have_the_same_sets_tests_and_settings():
    _, runs = tracking.contents(beyond.CENTRED)
    runs = [run for run in runs.values() if run["tags"].get("kind") == "run"]
    told = [{k: v for k, v in run["params"].items() if k != "checksum"} for run in runs]
    for one in told:
        for name in ("task", "method", "repeat"):
            one.pop(name)
    assert len({tuple(sorted(one.items())) for one in told}) == 1
    assert {run["tags"]["experiment"] for run in runs} == {
        f"targets-splicing: {target}" for target, _ in beyond._by_target()
    }


def test_no_row_of_a_scale_is_beyond_the_run_that_stopped_first():
    for _, rows in beyond._by_target():
        ends = rows[rows.metric == "mse"].groupby(["method", "repeat"]).n_acquired.max()
        assert ends.nunique() == 1 and len(ends) == 6


def test_ten_at_a_time_deimos_leans_to_one_end_less_than_one_at_a_time():
    """The pages say so of ES7: the two intervals have nothing in common."""
    by_target = dict(beyond._by_target())
    ten = by_target["y"][by_target["y"].metric == "mean_label"]
    single = beyond._rows(beyond.SPLICING, "mean_label")
    least, most = stats.run_level_test(ten, "random").interval
    assert stats.run_level_test(single, "random").interval[1] < least < most < 0


def test_our_errors_on_faces_are_the_authors_and_more_by_what_the_page_says():
    """Compared curve by curve: the mean over what both have, the authors' then taken away."""
    curve = ["batch_size", "method", "n_acquired"]
    ours = tracking.of_archives([beyond.FACES]).table.query("metric == 'rmse'")
    theirs = published_curves().query("experiment == 'face-age'")
    both = [side.groupby(curve).value.mean() for side in (ours, theirs)]
    less = (both[0] - both[1]).dropna().groupby(["batch_size", "method"]).mean()
    assert len(less) == 6 and less.min() > 0
    said = beyond.outcomes()["faces", "our errors, less the authors'"]
    assert said == ("higher", f"{less.min():.1f} to {less.max():.1f} years")


def test_the_authors_curves_give_the_papers_p_as_it_is_printed():
    printed = beyond.outcomes()["splicing", "the paper's test of the authors' curves"]
    assert printed == ("higher", f"p = {paper.SPLICING[0].printed[0]}")


@pytest.mark.parametrize(
    ("effect", "holm", "outcome"),
    [(0.1, 0.04, "higher"), (-0.1, 0.04, "lower"), (0.1, 0.05, "undecided")],
)
def test_of_a_family_holms_p_decides(effect, holm, outcome):
    row = SimpleNamespace(
        effect=effect, low=effect - 0.01, high=effect + 0.01, repeats=5, holm=holm
    )
    said = f"{effect:+.2g} [{effect - 0.01:+.2g}, {effect + 0.01:+.2g}] (5 repeats)"
    assert beyond._after_holm(row) == (outcome, said)


def test_rivals_have_the_same_sets_and_settings_and_as_many_repeats_each():
    assert beyond.RIVALS
    for file in beyond.RIVALS:
        _, runs = tracking.contents(file)
        params = [dict(run["params"]) for run in runs.values() if run["tags"].get("kind") == "run"]
        members = [(one.pop("method"), one.pop("repeat")) for one in params]
        assert len({tuple(sorted(one.items())) for one in params}) == 1
        methods, repeats = ({*names} for names in zip(*members, strict=True))
        assert {"deimos", "random"} < methods
        assert len(members) == len({*members}) == len(methods) * len(repeats)
