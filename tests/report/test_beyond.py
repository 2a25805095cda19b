"""Numbers beyond the claims are those of the kept runs, paired by repeat."""

import numpy as np
import pytest
from tables import curves

from deimos import tracking
from deimos.report import beyond


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
    assert beyond.less_deimos(rows, "random") == (way, said)


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
