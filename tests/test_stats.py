"""The statistics, against the paper's printed numbers, closed forms and other software's."""

from math import log, log10

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize_scalar
from scipy.stats import chi2, t, ttest_rel
from tables import curves, published, simulated

from deimos import stats
from deimos.report import paper
from deimos.stats import (
    acquisitions_to_reach,
    false_positives,
    likelihood_ratio,
    paired_test,
    repeats_needed,
    run_level_test,
)

# The number acquired up to which the paper compares methods.
HORIZON = {("splicing", 1): 600, ("mnist-7-vs-9", 1): 200, ("mnist-7-vs-9", 25): 500}


def closed_form(table, method, reference="deimos"):
    """χ² of the balanced one-way model, where maximum likelihood can be written down.

    With a iterations of k scores, the between and within sums of squares SSB and SSW are
    independent, SSB/a estimates σ² + kσ_u² and SSW/(a(k-1)) estimates σ², unless the first is the
    smaller: then σ_u² = 0 and all is pooled. The method's effect d lives within iterations and
    takes ak(d/2)² from SSW.
    """
    rows = table[table.method.isin([method, reference])]
    y = rows.pivot(index="n_acquired", columns=["method", "repeat"], values="value")
    a, k = y.shape
    between = k * ((y.mean(axis=1) - y.to_numpy().mean()) ** 2).sum()
    within = (y.sub(y.mean(axis=1), axis=0) ** 2).to_numpy().sum()
    d = y[method].to_numpy().mean() - y[reference].to_numpy().mean()

    def twice_likelihood(within):
        if between / a < within / (a * (k - 1)):
            return -a * k * log((between + within) / (a * k))
        return -a * log(between / a) - a * (k - 1) * log(within / (a * (k - 1)))

    return twice_likelihood(within - a * k * d**2 / 4) - twice_likelihood(within), d


# What the paper prints


@pytest.mark.parametrize(
    "experiment, batch_size, method, printed",
    [
        ("splicing", 1, "max_variance", "2.1e-278"),
        ("splicing", 1, "random", "6.9e-34"),
        ("mnist-7-vs-9", 25, "random", "4.4e-11"),
        ("mnist-7-vs-9", 25, "k_center", "1.9e-11"),
        *(("mnist-7-vs-9", 1, method, f"{p:.1e}") for method, p in paper.TABLE_2_P.items()),
    ],
)
def test_lmm_gives_the_p_values_the_paper_prints(experiment, batch_size, method, printed):
    table = published(experiment, batch_size, HORIZON[experiment, batch_size])
    test = likelihood_ratio(table, method)
    assert f"{test.p_value:.1e}" == printed
    assert test.chi2 == pytest.approx(closed_form(table, method)[0], abs=1e-4)
    assert test.effect == pytest.approx(closed_form(table, method)[1], rel=1e-6)


@pytest.mark.parametrize("batch_size, printed", [(100, 8e-3), (200, 9e-3)])
def test_deimos_beats_both_benchmarks_on_faces_at_the_printed_level(batch_size, printed):
    tests = [
        likelihood_ratio(published("face-age", batch_size), method)
        for method in ("max_variance", "random")
    ]
    assert all(test.effect > 0 and test.p_value < printed for test in tests)
    assert max(test.p_value for test in tests) > printed - 1e-3  # the bound is the next digit


@pytest.mark.parametrize(
    "experiment, better, printed",
    [("splicing", "lower", paper.TABLE_1), ("mnist-7-vs-9", "higher", paper.TABLE_2)],
)
def test_every_number_of_the_two_tables_is_the_first_crossing_of_the_mean(
    experiment, better, printed
):
    ours = acquisitions_to_reach(published(experiment, 1), printed, better)
    assert {threshold: ours.loc[threshold].to_dict() for threshold in ours.index} == printed


# Closed forms and other software


@pytest.mark.parametrize("between", [0.0, 0.2, 1.0, 30.0])
@pytest.mark.parametrize("seed", range(5))
def test_lmm_agrees_with_the_balanced_closed_form(between, seed):
    table = simulated(seed, between=between, repeats=2 + seed % 2)
    expected, effect = closed_form(table, "random")
    test = likelihood_ratio(table, "random")
    assert test.chi2 == pytest.approx(expected, abs=1e-5)
    assert test.effect == pytest.approx(effect, abs=1e-9)
    assert test.p_value == pytest.approx(chi2.sf(test.chi2, test.df), rel=1e-12)
    assert test.log10_p == pytest.approx(log10(test.p_value), abs=1e-9)


def test_lmm_of_an_unbalanced_table_maximises_the_dense_gaussian_likelihood():
    table = simulated(iterations=9).sample(frac=0.7, random_state=3)
    y, group = table.value.to_numpy(), table.n_acquired.to_numpy()[:, None]
    side = (table.method == "random").to_numpy(float)

    def best(design):
        def loss(log_ratio):  # of the intercept's variance to the noise's
            V = np.eye(len(y)) + np.exp(log_ratio) * (group == group.T)
            W = np.linalg.inv(V)
            residual = y - design @ np.linalg.solve(design.T @ W @ design, design.T @ W @ y)
            return len(y) * log(residual @ W @ residual) + np.linalg.slogdet(V)[1]

        return minimize_scalar(loss, bounds=(-6, 4), options={"xatol": 1e-9}).fun

    one = np.ones_like(y)
    expected = best(np.stack([one], axis=1)) - best(np.stack([one, side], axis=1))
    assert likelihood_ratio(table, "random").chi2 == pytest.approx(expected, abs=1e-4)


def test_lmm_on_a_table_worked_by_hand():
    # Two iterations of four scores: SSW = 16, of which the effect of 2 takes 8 × (2/2)² = 8,
    # so χ² = 2 (4 - 1) ln(16 / 8).
    table = curves({"deimos": [0, 2, 10, 12], "random": [2, 4, 12, 14]}, repeats=2)
    test = likelihood_ratio(table, "random")
    assert test.chi2 == pytest.approx(6 * log(2), abs=1e-4)
    assert test.effect == pytest.approx(2)


@pytest.mark.parametrize(
    "log_likelihood, yields",  # lme4's Dyestuff and Dyestuff2 (Box & Tiao), fitted by ML in lme4
    [
        (-163.6635, "1545 1440 1440 1520 1580 1540 1555 1490 1560 1495 1595 1550 1605 1510 1560 "
                    "1445 1440 1595 1465 1545 1595 1630 1515 1635 1625 1520 1455 1450 1480 1445"),
        (-81.4365, "7.298 3.846 2.434 9.566 7.990 5.220 6.556 0.608 11.788 -0.892 0.110 10.386 "
                   "13.434 5.510 8.166 2.212 4.852 7.092 9.288 4.980 0.282 9.014 4.458 9.446 "
                   "7.198 1.722 4.782 8.106 0.758 3.758"),
    ],
)  # fmt: skip
def test_random_intercept_likelihood_is_the_one_lme4_reports(log_likelihood, yields):
    y = np.array(yields.split(), dtype=float)
    ours, _ = stats._fit((y - y.mean()) / y.std(), np.ones((30, 1)), np.repeat(np.arange(6), 5))
    assert ours - 30 * log(y.std()) == pytest.approx(log_likelihood, abs=5e-5)


def test_log_p_goes_on_where_p_underflows():
    test = likelihood_ratio(simulated(iterations=200, effect=9.0), "random")
    # For large x, P(χ²₁ > x) = √(2/πx) e^(-x/2) (1 - 1/x + ...).
    x = test.chi2
    expected = (-x / 2 + 0.5 * log(2 / (np.pi * x)) - 1 / x) / log(10)
    assert test.p_value == 0 and test.log10_p < -308
    assert test.log10_p == pytest.approx(expected, rel=1e-6)


def test_run_level_p_is_scipys_paired_t_test_of_the_areas():
    table = published("splicing", 1, 600)
    test = run_level_test(table, "random")
    areas = table.groupby(["method", "repeat"]).value.mean()
    assert test.p_value == pytest.approx(ttest_rel(areas["random"], areas["deimos"]).pvalue)
    assert test.effect == pytest.approx((areas["random"] - areas["deimos"]).mean())
    assert test.p_value > 0.5  # while the LMM says 7e-34
    half = t.ppf(0.975, 2) * np.std(test.differences, ddof=1) / 3**0.5
    assert test.interval == pytest.approx((test.effect - half, test.effect + half))
    assert test.interval[0] < min(test.differences)  # wider than the range of the three


def test_run_level_compares_only_iterations_that_both_runs_of_a_pair_have():
    table = simulated()
    long = pd.concat([table, table.iloc[:1].assign(n_acquired=99, value=1e6)])
    assert run_level_test(long, "random") == run_level_test(table, "random")


def test_one_pair_has_an_effect_but_no_run_level_p():
    test = run_level_test(simulated(repeats=1), "random")
    assert np.isfinite(test.effect) and np.isnan([test.p_value, *test.interval]).all()


# Intervals that cover, power, and what the paper's test takes for granted


@pytest.mark.parametrize("n", [3, 5, 10])
def test_intervals_cover_the_true_difference_95_times_in_100(n):
    rng = np.random.default_rng(n)
    differences = rng.normal(0.3, 1.0, (5_000, n))
    intervals = np.array([paired_test(row)[1] for row in differences])
    covered = (intervals[:, 0] <= 0.3) & (intervals[:, 1] >= 0.3)
    assert covered.mean() == pytest.approx(0.95, abs=0.01)
    table = curves({"deimos": np.zeros((1, n)), "random": differences[:1]}, repeats=n)
    assert run_level_test(table, "random").interval == pytest.approx(tuple(intervals[0]))


@pytest.mark.parametrize(
    "effect, sd, repeats",  # of the kept runs and the authors', by statsmodels' power
    [(0.0083, 0.0030, 4), (0.0129, 0.0030, 3), (0.0034, 0.0036, 11), (0.0022, 0.0036, 24),
     (0.0015, 0.0023, 21), (0.0039, 0.0023, 5), (0.0053, 0.0019, 4), (0.0049, 0.0047, 10)],
)  # fmt: skip
def test_repeats_needed_are_the_fewest_with_four_fifths_power(effect, sd, repeats):
    assert repeats_needed(effect, sd) == repeats == repeats_needed(-effect, sd)
    rng = np.random.default_rng(0)

    def power(n):
        found = ttest_rel(rng.normal(effect, sd, (20_000, n)), np.zeros((20_000, n)), axis=1)
        return (found.pvalue < 0.05).mean()

    assert power(repeats) > 0.79 and power(repeats - 1) < 0.81


def test_repeats_needed_may_be_out_of_reach_or_unknown():
    assert repeats_needed(1e-6, 1.0) is None and repeats_needed(0.0, 1.0) is None
    assert repeats_needed(np.nan, 1.0) is None and repeats_needed(1.0, np.nan) is None
    assert repeats_needed(1.0, 0.0) == 2 and repeats_needed(1.0, 1e-9) == 2


def test_the_papers_test_is_right_where_iterations_are_independent():
    table = simulated(seed=3, iterations=30, repeats=20, effect=0.0)
    assert false_positives(table, "random", draws=500) == pytest.approx(0.05, abs=0.04)
    found = false_positives(table, "random", draws=500, test="run_level")
    assert found == pytest.approx(0.05, abs=0.03)


def test_the_papers_test_is_wrong_where_a_run_is_better_throughout():
    rng = np.random.default_rng(0)
    whole = rng.standard_normal((2, 1, 3)) + 0.2 * rng.standard_normal((2, 60, 3))
    table = curves({"deimos": whole[0], "random": whole[1]})
    assert false_positives(table, "random") > 0.5
    assert false_positives(table, "random", test="run_level") == pytest.approx(0.05, abs=0.015)


def test_the_null_simulation_uses_the_papers_test():
    for seed in range(5):
        table = simulated(seed, between=[0.0, 0.5, 3.0][seed % 3])
        wide = table.pivot(index=["method", "repeat"], columns="n_acquired", values="value")
        scores = np.stack([wide.loc["random"], wide.loc["deimos"]])[None]
        expected = likelihood_ratio(table, "random").chi2
        assert stats._balanced_ratio(scores).item() == pytest.approx(expected, abs=1e-4)


def test_a_null_simulation_needs_two_runs_of_each():
    with pytest.raises(ValueError, match="two runs a method"):
        false_positives(simulated(repeats=1), "random")
    table = simulated()
    uneven = table[(table.method == "deimos") | (table["repeat"] < 3)]
    with pytest.raises(ValueError, match="as many of each"):
        false_positives(uneven, "random")


@pytest.mark.parametrize("seed", range(30))
def test_extreme_ratios_give_a_number_or_a_reason(seed):
    rng = np.random.default_rng(seed)
    for _ in range(10):
        n, repeats = rng.integers(2, 30), rng.integers(1, 5)
        between, noise, effect, offset = 10.0 ** rng.uniform(-8, 8, 4)
        level = between * rng.standard_normal((n, 1)) + offset
        both = [level + noise * rng.standard_normal((n, repeats)) for _ in range(2)]
        table = curves({"deimos": both[0], "random": both[1] + effect}, repeats)
        try:
            test = likelihood_ratio(table, "random")
        except stats.Undecidable:
            continue
        assert np.isfinite([test.chi2, test.p_value, test.log10_p, test.effect]).all()
        lost = 1e-15 * max(between, effect, offset) / noise  # digits that the scores do not hold
        if lost < 1e-7:
            assert test.chi2 == pytest.approx(closed_form(table, "random")[0], rel=1e-3, abs=1e-3)


# Invariants


@pytest.mark.parametrize("between", [0.0, 1.0])
def test_swapping_method_and_reference_flips_the_effect_and_keeps_p(between):
    table = simulated(between=between)
    one, other = likelihood_ratio(table, "random"), likelihood_ratio(table, "deimos", "random")
    assert one.effect == pytest.approx(-other.effect, abs=1e-6)
    assert one.log10_p == pytest.approx(other.log10_p, abs=1e-4)
    one, other = run_level_test(table, "random"), run_level_test(table, "deimos", "random")
    assert one.effect == -other.effect and one.p_value == pytest.approx(other.p_value)
    assert one.interval == pytest.approx((-other.interval[1], -other.interval[0]))


def test_the_order_of_rows_changes_nothing():
    table = simulated()
    shuffled = table.sample(frac=1, random_state=1)
    assert likelihood_ratio(shuffled, "random") == likelihood_ratio(table, "random")
    assert run_level_test(shuffled, "random") == run_level_test(table, "random")
    crossings = [acquisitions_to_reach(t, [0.5])[["deimos", "random"]] for t in (table, shuffled)]
    pd.testing.assert_frame_equal(*crossings)


@pytest.mark.parametrize("shift, scale", [(5.0, 1.0), (0.0, 1e-6), (-3.0, 1e4)])
def test_shifting_and_scaling_the_metric_changes_no_p(shift, scale):
    table = simulated()
    moved = table.assign(value=shift + scale * table.value)
    one, other = likelihood_ratio(table, "random"), likelihood_ratio(moved, "random")
    assert other.log10_p == pytest.approx(one.log10_p, abs=1e-6)
    assert other.effect == pytest.approx(scale * one.effect, rel=1e-5)
    p_values = [run_level_test(t, "random").p_value for t in (table, moved)]
    assert p_values[0] == pytest.approx(p_values[1])


def test_rows_of_a_third_method_change_no_test():
    table = simulated()
    third = table[table.method == "random"].assign(method="bald", value=lambda t: t.value**2)
    both = pd.concat([third, table])
    assert likelihood_ratio(both, "random") == likelihood_ratio(table, "random")
    assert run_level_test(both, "random") == run_level_test(table, "random")


# Acquisitions to reach


def test_first_crossing_and_sustained_crossing_differ_where_the_mean_falls_back():
    table = curves({"deimos": [5, 2, 4, 2, 1], "random": [5, 4, 3, 3, 4]}, repeats=1)
    first = acquisitions_to_reach(table, [3, 0.5])
    assert first.columns.tolist() == ["deimos", "random"] and first.index.tolist() == [3, 0.5]
    assert first.loc[3].tolist() == [1, 2] and first.loc[0.5].isna().all()
    held = acquisitions_to_reach(table, [3], sustained=True)
    assert held.loc[3, "deimos"] == 3 and held.loc[3].isna().tolist() == [False, True]
    assert (acquisitions_to_reach(table, [4], "higher", sustained=True).dtypes == "Int64").all()


def test_a_mean_needs_every_repeat():
    table = curves({"deimos": [[5, 5], [4, 4], [1, 1]]}, repeats=2)
    short = table[(table["repeat"] == 1) | (table.n_acquired < 2)]
    assert acquisitions_to_reach(table, [3]).loc[3, "deimos"] == 2
    assert acquisitions_to_reach(short, [3]).isna().all(axis=None)


# Refusals


@pytest.mark.parametrize(
    "spoil, sentence",
    [
        (lambda t: t.assign(experiment=np.where(t.repeat_1, "a", "b")), "one experiment at a time"),
        (lambda t: t.assign(batch_size=np.where(t.repeat_1, 1, 2)), "one batch_size at a time"),
        (lambda t: t.assign(metric=np.where(t.repeat_1, "mse", "rmse")), "one metric at a time"),
        (lambda t: t.assign(value=t.value.where(t.repeat_1)), "24 of 36 values are NaN"),
        (lambda t: pd.concat([t, t.head(2)]), "2 rows repeat"),
        (lambda t: t[t.method == "deimos"], "no runs of 'random'"),
        (lambda t: t[t.method == "random"], "no runs of 'deimos'"),
        (lambda t: t.head(0), "no rows"),
    ],
)
@pytest.mark.parametrize("test", [likelihood_ratio, run_level_test])
def test_a_table_that_cannot_be_compared_is_refused(test, spoil, sentence):
    table = simulated(iterations=6)
    spoiled = spoil(table.assign(repeat_1=table["repeat"] == 1))
    with pytest.raises(ValueError, match=sentence):
        test(spoiled, "random")


def test_a_method_is_not_compared_with_itself_nor_without_common_iterations():
    table = simulated()
    with pytest.raises(ValueError, match="another one"):
        likelihood_ratio(table, "deimos")
    apart = table.assign(n_acquired=table.n_acquired + 50 * (table.method == "random"))
    with pytest.raises(ValueError, match="never evaluated at the same iteration"):
        likelihood_ratio(apart, "random")
    with pytest.raises(ValueError, match="at the same iteration"):
        run_level_test(apart, "random")


def test_scores_that_the_method_explains_completely_have_no_likelihood():
    table = curves({"deimos": [1, 2, 4], "random": [2, 3, 5]}, repeats=1)
    with pytest.raises(ValueError, match="do not vary within iterations"):
        likelihood_ratio(table, "random")
    with pytest.raises(ValueError, match="do not vary within iterations"):
        likelihood_ratio(table.assign(value=0.1), "random")
