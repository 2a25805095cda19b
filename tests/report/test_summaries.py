"""Tables for people: means, budgets, and distances to the authors' curves."""

import numpy as np
import pytest
from scipy.stats import ttest_ind
from tables import PUBLISHED, curves

from deimos.report.summaries import at_budgets, gaps, summary


def test_summary_holds_mean_sample_deviation_and_repeats():
    row = summary(curves({"deimos": [1, 2, 6]})).iloc[0]
    assert (row.method, row.n_acquired, row["mean"], row.n) == ("deimos", 0, 3, 3)
    assert row.sd == pytest.approx(7**0.5)


def test_a_glance_has_twelve_budgets_at_most_and_a_column_a_method():
    table = curves({"deimos": np.arange(60), "random": np.arange(60)}, repeats=2)
    wide = at_budgets(table)
    assert list(wide) == ["deimos", "random"] and len(wide) == 12
    assert wide.loc[0, "deimos"] == "0.5 ± 0.71"


def test_a_gap_is_a_difference_of_run_means_with_welchs_interval():
    theirs = curves({"deimos": [0, 2, 4, 4, 6, 8, 0, 2, 4], "random": [1, 2, 3]})
    ours = curves({"deimos": [[2, 3, 7], [1, 2, 2], [0, 1, 4]], "k_center": [0, 0, 0]})
    ours = ours[ours.n_acquired < 2]
    (row,) = gaps(ours, theirs).itertuples()
    assert (row.method, row.points, row.ours, row.theirs) == ("deimos", 2, 3, 3)
    test = ttest_ind([1.5, 2.5, 4.5], [2, 4, 6], equal_var=False)
    assert row.difference == pytest.approx(17 / 6 - 4)
    assert (row.low, row.high) == pytest.approx(tuple(test.confidence_interval()))


def test_a_gap_to_one_run_has_no_interval_and_the_authors_own_curves_none():
    rows = PUBLISHED[PUBLISHED.experiment == "face-age"]
    assert (gaps(rows, rows).difference == 0).all()
    assert gaps(rows[rows["repeat"] == 1], rows).low.isna().all()
