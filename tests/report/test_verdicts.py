"""Verdicts in words, and the tables that stand beside them."""

import numpy as np
import pandas as pd
import pytest
from tables import PUBLISHED, curves, evidence_of

from deimos.report import paper
from deimos.report.findings import OUTCOMES
from deimos.report.judging import judge
from deimos.report.verdicts import counted, differences, in_digits, show, thresholds_table, verdicts


def test_a_row_has_the_outcome_the_numbers_and_what_they_rest_on():
    claim = next(c for c in paper.MNIST_7_VS_9 if c.where == "Fig. 3 a")
    (row,) = verdicts([claim], evidence_of(PUBLISHED)).to_dict("records")
    assert row["paper"] == "p = 4.4e-11" and row["outcome"] == "supported"
    assert row["ours"] == "Random -0.013 [-0.022, -0.0041]"
    assert row["paper's own test"].startswith("Random p = 4.4e-11 (")
    assert row["low"] == pytest.approx(-0.022, abs=5e-4) and row["repeats"] == 3
    assert pd.isna(row["repeats_needed"])  # it is decided
    assert row["rests_on"] == "paper scale, nowhere; a CPU, float32, torch 2, Python 3, commit c"


def test_an_undecided_claim_says_how_many_repeats_would_decide_it():
    (claim,) = (c for c in paper.MNIST_7_VS_9 if c.says == "DEIMOS improves upon BatchBALD")
    (row,) = verdicts([claim], evidence_of(PUBLISHED)).to_dict("records")
    assert row["outcome"] == "undecided"
    assert row["needs"].startswith("BatchBALD: 26 repeats for the effect seen, 26 repeats for")
    assert row["repeats_needed"] == row["repeats_needed_authors"] == 26


def test_every_claim_has_a_row_with_a_known_outcome_and_notebooks_show_its_words():
    table = verdicts(paper.CLAIMS, evidence_of(PUBLISHED))
    assert len(table) == len(paper.CLAIMS) and set(table.outcome) <= set(OUTCOMES)
    untested = table[table.outcome == "not tested"]
    assert (untested.needs != "").all()
    page = show(table).to_html()
    assert "supported" in page and "repeats_needed" not in page
    assert counted(["undecided", "supported", "undecided"]) == "1 supported, 2 undecided"


def test_a_p_value_too_small_for_a_float_still_has_two_digits():
    assert [in_digits(x) for x in (-1.0, -3.5, -278.0)] == ["0.1", "3.2e-4", "1.0e-278"]


def test_ours_tells_of_each_kind_what_it_counts():
    rows = [paper.SPLICING[i] for i in (5, 6, -2)]
    told = [verdict.ours for verdict in verdicts(rows, evidence_of(PUBLISHED)).itertuples()]
    assert told[0].startswith("in 9") and "resamples of the repeats" in told[0]
    assert told[1].startswith("DEIMOS 69; Max. variance 92; Random 80; so in ")
    assert told[2].startswith("Max. variance +183%; Random +76%; so in ")


@pytest.mark.parametrize("claims", [paper.SPLICING, paper.MNIST_7_VS_9])
def test_the_published_curves_give_tables_1_and_2_beside_the_papers(claims):
    table = thresholds_table(claims, PUBLISHED).set_index("to reach")
    assert len(table) == 4
    for method in table.columns.get_level_values(0).unique():
        assert (table[method, "ours"] == table[method, "paper"]).all()


def test_a_score_is_reached_for_good_where_the_mean_was_worse_for_the_last_time():
    rows = PUBLISHED[(PUBLISHED.experiment == "splicing") & (PUBLISHED.method == "deimos")]
    runs = rows.pivot(index="n_acquired", columns="repeat", values="value").dropna()
    table = thresholds_table(paper.SPLICING, PUBLISHED).set_index("to reach")
    for threshold, n in table["DEIMOS", "for good"].astype(int).items():
        mean = runs.mean(axis=1)
        assert mean[n - 1] > threshold and (mean.loc[n:] <= threshold).all()


def test_a_table_says_what_is_never_reached_and_what_was_not_run():
    table = PUBLISHED[(PUBLISHED.method != "random") & (PUBLISHED.n_acquired <= 100)]
    row = thresholds_table(paper.SPLICING, table).set_index("to reach").loc[0.10]
    assert row["DEIMOS"].tolist() == ["109", "not by 100", "not by 100"]
    assert row["Random"].tolist() == ["180", "-", "-"]


def test_differences_are_judged_after_holm_and_small_runs_decide_nothing():
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((3, 4, 10))
    scores = {"deimos": noise[0], "a": noise[1], "b": noise[2] + 3}
    table = curves(scores, repeats=10, metric="accuracy", experiment="what-matters", batch_size=25)
    found = differences(table, ()).set_index("claim")
    assert found.outcome.to_dict() == {"a": "undecided", "b": "better"}
    few = differences(table[table["repeat"] < 5], ("quick scale",)).set_index("claim")
    assert (few.outcome == "not tested").all()
    assert few.because["b"] == "quick scale, 4 of 10 repeats; here better"


def test_holm_corrects_for_the_claims_that_stand_together():
    claims = [c for c in paper.MNIST_7_VS_9 if c.where == "Tab. 2" and c.kind == "outperforms"]
    ones = [verdict.deciding for verdict in judge(claims, evidence_of(PUBLISHED))]
    smallest = min(ones, key=lambda one: one.p_value)
    assert smallest.holm == pytest.approx(4 * smallest.p_value)
    alone = judge(claims[:1], evidence_of(PUBLISHED))[0].deciding
    assert alone.holm == pytest.approx(alone.p_value)
