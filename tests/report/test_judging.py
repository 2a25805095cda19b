"""What a claim needs to be supported, contradicted, or left undecided."""

from dataclasses import replace

import numpy as np
import pytest
from tables import PUBLISHED, curves, evidence_of, simulated

from deimos.report import paper, resamples, verdicts
from deimos.report.judging import CHECKS, judge
from deimos.report.method_checks import difference
from deimos.report.paper import Claim
from deimos.stats import RunLevel

MORE = Claim("here", "DEIMOS outperforms Random", "outperforms", "splicing", 1, "mse",
             methods=("random",), horizon=11)  # fmt: skip


def outcome(claim, table=PUBLISHED, **origin):
    return judge([claim], evidence_of(table, **origin))[0].outcome


def run_level(*differences):
    d = np.array(differences)
    half = 4.303 * d.std(ddof=1) / 3**0.5
    return RunLevel(
        "random", "deimos", d.mean(), differences, 0.0, (d.mean() - half, d.mean() + half)
    )


@pytest.mark.parametrize(
    "ours, authors, expected",
    [
        (run_level(1.0, 1.1, 1.2), None, "supported"),
        (run_level(-1.0, -1.1, -1.2), None, "contradicted"),
        (run_level(-1.0, 1.1, 1.2), None, "undecided"),
        # The interval ends below the authors' effect, which is known better than that.
        (run_level(0.1, -0.1, 0.05), run_level(1.0, 1.1, 1.2), "contradicted"),
        # It ends below it, but their own runs would not tell the two apart.
        (run_level(0.1, -0.1, 0.05), run_level(-1.0, 2.0, 1.2), "undecided"),
        (run_level(0.1, -2.0, 2.0), run_level(1.0, 1.1, 1.2), "undecided"),
        # A claim is of a direction: an effect smaller than theirs supports it all the same.
        (run_level(0.10, 0.11, 0.12), run_level(1.0, 1.1, 1.2), "supported"),
    ],
)
def test_a_difference_is_judged_by_its_interval(ours, authors, expected):
    assert difference(ours, authors, 1) == expected
    flipped = [one and run_level(*(-d for d in one.differences)) for one in (ours, authors)]
    assert difference(*flipped, -1) == expected


def test_one_repeat_decides_nothing():
    assert outcome(MORE, simulated(repeats=1, effect=9.0)) == "undecided"


def test_a_rate_of_no_false_positives_is_a_number():
    table = simulated(repeats=3, iterations=12)
    apart = table.value + 100 * (table["repeat"] - 2)  # runs far apart: the test sees nothing
    one = judge([MORE], evidence_of(table.assign(value=apart)))[0].deciding
    assert np.isfinite(one.false_positives)
    assert ";" not in verdicts.own_test(replace(one, false_positives=0.0))
    assert verdicts.own_test(replace(one, false_positives=0.0)).endswith("(0% false at .05)")


def test_a_claim_of_two_methods_needs_both():
    both = replace(MORE, methods=("random", "bald"))
    level = np.random.default_rng(0).standard_normal((3, 12, 3)) / 9
    table = curves({"deimos": level[0], "random": level[1] + 3, "bald": level[2] + 3})
    assert outcome(both, table) == "supported"
    mixed = curves({"deimos": level[0], "random": level[1] + 3, "bald": level[2] - 3})
    assert outcome(both, mixed) == "contradicted"
    open_ = curves({"deimos": level[0], "random": level[1] + 3, "bald": level[2]})
    assert outcome(both, open_) == "undecided"


def test_a_pair_counts_only_if_the_repeat_has_both_methods():
    table = simulated(repeats=5, effect=3.0)
    fewer = table[(table.method == "deimos") | (table["repeat"] < 4)]
    assert judge([MORE], evidence_of(fewer))[0].deciding.repeats == 3


@pytest.mark.parametrize(
    "origin, reason",
    [
        ({"scale": "quick"}, "quick scale"),
        ({"stand_in": True}, "not the paper's data"),
    ],
)
def test_small_runs_and_other_data_test_nothing_but_show_their_numbers(origin, reason):
    (verdict,) = judge([paper.FACE_AGE[0]], evidence_of(PUBLISHED, **origin))
    assert verdict.outcome == "not tested" and verdict.reasons == (reason,)
    assert verdict.deciding.effect == pytest.approx(0.69, abs=0.005)


def test_runs_that_are_missing_or_too_short_test_nothing():
    claim = paper.FACE_AGE[0]
    (short,) = judge([claim], evidence_of(PUBLISHED[PUBLISHED.n_acquired <= 500]))
    assert short.reasons == ("runs stop at 500 of 2000 acquisitions",)
    (half,) = judge([claim], evidence_of(PUBLISHED[PUBLISHED.n_acquired <= 1000]))
    assert half.outcome == "undecided"
    assert half.reasons == ("over the first 1000 of 2000 acquisitions",)
    (none,) = judge([claim], evidence_of(PUBLISHED[PUBLISHED.method != "max_variance"]))
    assert none.outcome == "not tested" and none.reasons == ("no runs of Max. variance",)
    other = replace(claim, metric="seconds")
    (unmeasured,) = judge([other], evidence_of(PUBLISHED))
    assert unmeasured.reasons == ("no run records seconds at batch size 100",)


def test_no_difference_needs_an_interval_within_half_of_the_lead_over_random():
    claim = replace(MORE, kind="no_difference", methods=("bald",))
    noise = np.random.default_rng(1).standard_normal((3, 12, 3))
    same = {"deimos": noise[0] / 9, "bald": noise[1] / 9, "random": noise[2] / 9 + 4}
    assert outcome(claim, curves(same)) == "supported"  # margin 2
    assert outcome(claim, curves(same | {"bald": noise[1] / 9 + 3})) == "contradicted"
    assert outcome(claim, curves(same | {"bald": noise[1] / 9 + 2})) == "undecided"
    few = curves(same)
    assert outcome(claim, few[few["repeat"] == 1]) == "undecided"


def test_an_ahead_is_supported_where_nearly_all_resamples_agree():
    claim = replace(MORE, kind="ahead", bounds=(0.9, 1), horizon=9)
    level = np.arange(10)[:, None] + np.zeros(3)
    always = curves({"deimos": level, "random": level + 1})
    assert outcome(claim, always) == "supported"
    assert outcome(claim, curves({"deimos": level, "random": level - 1})) == "contradicted"
    of_one = level + np.array([-3, 1, 1])  # one repeat of three disagrees
    (verdict,) = judge([claim], evidence_of(curves({"deimos": level, "random": of_one})))
    # The drawn mean is above where the repeat that disagrees is not drawn: 8 draws of 27.
    assert verdict.outcome == "undecided"
    assert verdict.finding.share == pytest.approx(8 / 27)


def test_a_tables_row_is_supported_if_nothing_gets_there_sooner():
    claim = replace(paper.SPLICING[6], methods=("deimos", "random"), horizon=2)
    assert claim.kind == "fewest"

    def rows(random, deimos=(3, 0.1, 0.1)):
        two = {"deimos": np.array(deimos), "random": np.array(random)}
        return curves({name: np.stack([c, c], axis=1) for name, c in two.items()}, repeats=2)

    assert outcome(claim, rows([3, 3, 0.1])) == "supported"
    assert outcome(claim, rows([3, 3, 3])) == "supported"
    assert outcome(claim, rows([3, 0.1, 0.1])) == "supported"  # a tie
    assert outcome(claim, rows([3, 0.1, 0.1], [3, 3, 0.1])) == "contradicted"
    assert outcome(claim, rows([3, 3, 3], [3, 3, 3])) == "contradicted"


def test_extra_data_is_judged_against_the_printed_percentage():
    claim = next(c for c in paper.SPLICING if c.kind == "extra")
    claim = replace(claim, methods=("random",), horizon=39)

    def needs(deimos, random):
        falls = {
            method: np.where(np.arange(40) >= n, 0.0, 1.0)[:, None] + np.zeros(2)
            for method, n in (("deimos", deimos), ("random", random))
        }
        return judge([claim], evidence_of(curves(falls, repeats=2)))[0]

    assert needs(20, 33).outcome == "supported"
    assert dict(needs(20, 33).finding.reached) == {"random": pytest.approx(0.65)}
    assert needs(20, 32).outcome == "contradicted" and needs(20, 99).outcome == "supported"
    assert needs(99, 20).outcome == "contradicted" and needs(0, 20).outcome == "contradicted"


def reaching(**after):
    """Curves of two repeats over 40 iterations: a method's error falls to 0 after so many."""
    falls = {name: np.where(np.arange(40) >= n, 0.0, 1.0) for name, n in after.items()}
    return curves({name: fall[:, None] + np.zeros(2) for name, fall in falls.items()}, repeats=2)


def test_runs_that_stop_early_tell_who_reaches_a_score_first_once_somebody_has():
    claim = next(c for c in paper.SPLICING if c.kind == "fewest")
    claim = replace(claim, methods=("deimos", "random"), horizon=60)
    note = ("over the first 39 of 60 acquisitions",)
    for deimos, random, found, said in (
        (20, 99, "supported", "DEIMOS 20; Random not by 39"),
        (99, 20, "contradicted", "DEIMOS not by 39; Random 20"),
    ):
        (verdict,) = judge([claim], evidence_of(reaching(deimos=deimos, random=random)))
        assert (verdict.outcome, verdict.reasons) == (found, note)
        assert verdicts.ours(verdict, shares=False) == said
    nobody = reaching(deimos=99, random=99)
    (verdict,) = judge([claim], evidence_of(nobody))
    assert verdict.outcome == "not tested"
    assert verdict.reasons == ("runs stop at 39 of 60 acquisitions",)
    assert outcome(replace(claim, horizon=39), nobody) == "contradicted"  # it never does


def test_one_resample_in_which_nobody_reaches_a_score_leaves_runs_that_stop_early_untested():
    claim = next(c for c in paper.SPLICING if c.kind == "fewest")
    claim = replace(claim, methods=("deimos", "random"), horizon=60)
    early = reaching(deimos=20, random=99)
    late = (early.method == "deimos") & (early.repeat == 2)
    early.loc[late, "value"] = 1.0  # this repeat has not got there
    (verdict,) = judge([claim], evidence_of(early))
    assert verdict.outcome == "not tested" and verdict.finding.unsettled > 0


def test_runs_that_stop_early_do_not_tell_how_much_more_data_another_needs():
    claim = next(c for c in paper.SPLICING if c.kind == "extra")
    claim = replace(claim, methods=("random",))
    early = reaching(deimos=20, random=99)
    (verdict,) = judge([replace(claim, horizon=60)], evidence_of(early))
    assert verdict.outcome == "not tested"
    assert verdict.reasons == ("runs stop at 39 of 60 acquisitions",)
    assert outcome(replace(claim, horizon=39), early) == "supported"


def test_a_claim_about_seeds_says_in_how_many_it_holds():
    claim = next(c for c in paper.SYNTHETIC_1D if c.where == "Fig. 1 left")

    def over(values):
        table = curves({"deimos": [values]}, repeats=len(values), metric="queried_in_centre",
                       experiment="synthetic-1d", batch_size=5)  # fmt: skip
        return judge([claim], evidence_of(table))[0]

    assert over([3] * 20).outcome == "supported" and over([3] * 19 + [2]).outcome == "supported"
    half = over([3] * 11 + [2] * 9)
    assert half.outcome == "undecided" and half.finding.share == pytest.approx(0.55)
    assert half.reasons == ("it depends on the seed",)
    assert over([2] * 20).outcome == "contradicted"
    few = over([3] * 3)
    assert few.outcome == "undecided" and few.repeats_needed == 20


def test_an_exact_number_needs_one_run():
    claim = next(c for c in paper.APPENDIX_A if c.metric == "example_greedy")
    table = curves({"deimos": [16.9]}, 1, "example_greedy", experiment="greedy-vs-optimal",
                   batch_size=2)  # fmt: skip
    assert outcome(claim, table) == "supported"
    assert outcome(claim, table.assign(value=17.0)) == "contradicted"


def test_higher_diversity_needs_the_interval_and_nearly_all_iterations():
    claim = next(c for c in paper.MNIST_7_VS_9 if c.kind == "more_diverse")
    claim, names = replace(claim, horizon=19), ("deimos", *claim.methods)
    noise = np.random.default_rng(2).standard_normal((3, 20, 3)) / 9
    digits = {"experiment": "mnist-7-vs-9", "batch_size": 25, "metric": "diversity"}
    table = curves(dict(zip(names, noise, strict=True)), **digits)
    assert outcome(claim, table.assign(value=table.value + 5 * (table.method == "deimos"))) == (
        "supported"
    )
    now_and_then = 40 * ((table.method == "deimos") & (table.n_acquired % 2 == 0))
    assert outcome(claim, table.assign(value=table.value + now_and_then)) == "contradicted"


def test_a_mean_is_judged_by_its_interval_over_the_repeats():
    claim = replace(MORE, kind="mean", leader="random", bounds=(0.5, 1), horizon=3)
    rows = np.full((4, 3), 0.75) + [[-0.2], [0.2], [0.1], [-0.1]]  # mean .75 in every repeat

    def judged(*by_repeat):
        return judge([claim], evidence_of(curves({"random": rows + np.array(by_repeat)})))[0]

    above = judged(-0.01, 0.0, 0.01)
    half = 4.303 * 0.01 / 3**0.5
    assert above.outcome == "supported" and above.finding.effect == pytest.approx(0.75)
    assert above.finding.low == pytest.approx(0.75 - half, abs=1e-5)
    assert verdicts.ours(above) == "0.75 [0.73, 0.77]"
    assert judged(-0.41, -0.4, -0.39).outcome == "contradicted"
    assert judged(-0.31, -0.2, -0.29).outcome == "undecided"
    assert judged(0.23, 0.24, 0.25).outcome == "undecided"  # the interval passes 1
    (alone,) = judge([claim], evidence_of(curves({"random": rows[:, :1]}, 1)))
    assert alone.outcome == "undecided" and verdicts.ours(alone) == "0.75"


def test_what_rises_is_higher_in_the_last_quarter_than_in_the_first():
    claim = replace(MORE, kind="rises", methods=("deimos",), horizon=7)
    level = np.array([[0.0], [0], [9], [9], [9], [9], [1], [1]]) + [0.1, 0.2, 0.3]
    steeper = level * [1, 1.1, 1.2]
    (verdict,) = judge([claim], evidence_of(curves({"deimos": steeper})))
    assert verdict.outcome == "supported"
    assert verdict.finding.effect == pytest.approx(np.mean([1, 1.1, 1.2]))
    assert verdicts.ours(verdict).startswith("+1.1 [+")
    assert outcome(claim, curves({"deimos": steeper[::-1]})) == "contradicted"
    assert outcome(claim, curves({"deimos": level * [1, -1.1, 1.2]})) == "undecided"
    assert outcome(claim, curves({"deimos": level[:1]})) == "not tested"


def test_the_nugget_is_a_share_of_the_first_models_variance():
    claim = next(c for c in paper.FACE_AGE if c.kind == "nugget")
    table = curves({"deimos": [[40.0, 30, 50], [1, 1, 1]]}, metric="mean_variance",
                   experiment="face-age", batch_size=100)  # fmt: skip
    verdict = judge([claim], evidence_of(table, nugget={100: 5.0}))[0]
    assert verdict.outcome == "supported" and verdict.finding.low == pytest.approx(0.1)
    assert outcome(claim, table, nugget={100: 50.0}) == "contradicted"


def test_seconds_on_a_shared_gpu_are_not_compared():
    claim = replace(next(c for c in paper.MNIST_7_VS_9 if c.kind == "faster"), horizon=1)
    table = curves({"deimos": np.ones((2, 3)), "k_center": np.full((2, 3), 2.0) + [0, 0.1, 0.2],
                    "batchbald": np.full((2, 3), 3.0) + [0, 0.1, 0.2]}, metric="acquire_seconds",
                   experiment="mnist-7-vs-9", batch_size=25)  # fmt: skip
    assert outcome(claim, table) == "supported"
    assert outcome(claim, table, devices=("NVIDIA",)) == "not tested"


@pytest.mark.parametrize("claim", paper.CLAIMS, ids=lambda claim: f"{claim.where} {claim.says}")
def test_every_claim_has_a_check_that_can_be_asked(claim):
    assert claim.kind in CHECKS
    (verdict,) = judge([claim], evidence_of(PUBLISHED))
    assert verdict.outcome != "not tested" or verdict.reasons


# What the authors' own curves say by these rules


def test_the_authors_curves_decide_by_run_what_their_test_calls_overwhelming():
    claims = [c for c in paper.CLAIMS if c.kind == "outperforms" and len(c.methods) == 1]
    found = {(v.claim.where, v.claim.methods[0]): v.outcome
             for v in judge(claims, evidence_of(PUBLISHED))}  # fmt: skip
    assert found["Fig. 3 a", "random"] == found["Fig. 3 a", "k_center"] == "supported"
    assert found["Fig. 2 left", "max_variance"] == "undecided"  # p = 2.1e-278 by App. C
    assert found["Fig. 2 left", "random"] == "undecided"  # p = 6.9e-34 by App. C
    assert found["§5.3", "batchbald"] == "undecided"


# Resamples


def test_resamples_of_few_repeats_are_all_of_them_and_of_many_are_drawn():
    few = resamples.curves(simulated(repeats=3))
    draws = list(resamples._draws(3))
    assert sum(weight for _, weight in draws) == 27 and len(draws) == 10
    assert few.share(lambda means: True) == 1
    many = resamples.curves(simulated(repeats=9))
    above = many.share(lambda means: means["random"].mean() > means["deimos"].mean())
    assert above == many.share(lambda means: means["random"].mean() > means["deimos"].mean())
    assert 0.5 < above <= 1


def test_a_resample_draws_the_same_repeats_for_every_method():
    table = curves({"deimos": [[0, 10, 20]], "random": [[1, 11, 21]]})
    found = resamples.curves(table)
    assert found.share(lambda means: np.isclose(means["random"] - means["deimos"], 1).all()) == 1
