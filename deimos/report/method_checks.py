"""Check claimed differences between methods, by Student's t over paired run means.

The paper's own test (App. C) stands beside it, and decides nothing.
"""

from collections.abc import Callable
from dataclasses import replace
from math import isfinite, nan, sqrt
from typing import Any

import pandas as pd
from scipy.stats import ttest_ind

from deimos import stats
from deimos.report.curve_checks import ahead
from deimos.report.findings import Comparison, Finding, Outcome, between, combined, subject
from deimos.report.paper import Claim
from deimos.tracking import Evidence


def _compared(claim: Claim, evidence: Evidence, method: str) -> Comparison:
    """Compare a method with the leader over the repeats that both have: a difference is claimed."""
    every = between(claim, subject(claim, evidence.table))
    rows = every[every.method.isin([method, claim.leader])]
    rows = rows[rows.groupby("repeat").method.transform("nunique") == 2]
    others = every[~every.method.isin([method, claim.leader])]
    test = stats.run_level_test(rows, method, claim.leader)
    theirs = _authors(claim, evidence, method)
    authors, sd = (nan, test.sd) if theirs is None else (theirs.effect, _pooled(test, theirs))
    sign = 1 if claim.better == "lower" else -1
    false = _or_none(stats.false_positives, pd.concat([rows, others]), method, claim.leader)
    return Comparison(
        method, difference(test, theirs, sign), test.effect, *test.interval,
        len(test.differences), test.p_value, authors,
        stats.repeats_needed(test.effect, sd), stats.repeats_needed(authors, sd),
        _or_none(stats.likelihood_ratio, rows, method, claim.leader),
        nan if false is None else false,
    )  # fmt: skip


def _or_none(test: Callable, rows: pd.DataFrame, method: str, reference: str) -> Any:
    """The result of a test; None where the table does not allow it, as with a single repeat."""
    try:
        return test(rows, method, reference)
    except stats.Undecidable:
        return None


def _authors(claim: Claim, evidence: Evidence, method: str) -> stats.RunLevel | None:
    """The same test on the authors' curves; None where these do not have it."""
    rows = between(claim, subject(claim, evidence.published))
    if rows.empty or not {method, claim.leader} <= set(rows.method):
        return None
    return stats.run_level_test(rows, method, claim.leader)


def _pooled(one: stats.RunLevel, other: stats.RunLevel) -> float:
    """The standard deviation of both sides' differences, each around its own mean."""
    sides = [side for side in (one, other) if len(side.differences) > 1]
    freedom = sum(len(side.differences) - 1 for side in sides)
    squares = sum(side.sd**2 * (len(side.differences) - 1) for side in sides)
    return sqrt(squares / freedom) if freedom else nan


def difference(ours: stats.RunLevel, authors: stats.RunLevel | None, sign: int) -> Outcome:
    """Judge a claimed difference by its 95 % interval; `sign` is that of the claimed effect.

    Supported if the interval excludes 0 in the claimed direction. Contradicted if it excludes 0 in
    the other, or if the effect is smaller than the authors' by more than both sides' chance: the
    interval excludes theirs, and so does Welch's interval of the difference of the two.
    """
    near, far = sorted(sign * end for end in ours.interval)
    if not isfinite(near):
        return "undecided"
    if near > 0:
        return "supported"
    if far < 0:
        return "contradicted"
    if authors is None or len(authors.differences) < 2 or not 0 < far < sign * authors.effect:
        return "undecided"
    apart = ttest_ind(ours.differences, authors.differences, equal_var=False)
    return "contradicted" if apart.pvalue < 0.05 else "undecided"


def outperforms(claim: Claim, rows: pd.DataFrame, evidence: Evidence) -> Finding:
    found = tuple(_compared(claim, evidence, method) for method in claim.methods)
    return Finding(combined([one.outcome for one in found]), found)


def faster(claim: Claim, rows: pd.DataFrame, evidence: Evidence) -> Finding:
    """The same of seconds, which compare where a run has its processor to itself."""
    if any("CPU" not in device for device in evidence.origins[claim.experiment].devices):
        raise stats.Undecidable("the runs of a fleet share a GPU: runs on processors tell")
    return outperforms(claim, rows, evidence)


def no_difference(claim: Claim, rows: pd.DataFrame, evidence: Evidence) -> Finding:
    """Two one-sided tests at 2.5 %; the margin is half of DEIMOS' lead over random (TOST)."""
    lead = subject(claim, evidence.table)
    lead = lead[lead.method.isin(["deimos", "random"]) & (lead.n_acquired <= claim.horizon)]
    margin = abs(stats.run_level_test(lead, "random").effect) / 2
    found = []
    for method in claim.methods:
        one = _compared(claim, evidence, method)
        outcome: Outcome = "undecided"
        if -margin < one.low and one.high < margin:
            outcome = "supported"
        elif one.low > margin or one.high < -margin:
            outcome = "contradicted"
        # As many as would tell the effect seen from the margin.
        needed = stats.repeats_needed(margin - abs(one.effect), _sd_of(one))
        found.append(replace(
            one, outcome=outcome, repeats_needed=needed, repeats_needed_authors=None,
        ))  # fmt: skip
    return Finding(combined([one.outcome for one in found]), tuple(found), margin=margin)


def _sd_of(one: Comparison) -> float:
    """The standard deviation behind an interval."""
    if one.repeats < 2:
        return nan
    return (one.high - one.low) / 2 * sqrt(one.repeats) / stats.t_quantile(one.repeats - 1)


def more_diverse(claim: Claim, rows: pd.DataFrame, evidence: Evidence) -> Finding:
    """Higher by the interval, and by the mean in nearly all iterations."""
    found = outperforms(claim, rows, evidence)
    each = [
        ahead(replace(claim, methods=(method,), bounds=(0.9, 1)), rows, evidence)
        for method in claim.methods
    ]
    outcome = combined([found.outcome, *(one.outcome for one in each)])
    return replace(found, outcome=outcome, effect=min(one.effect for one in each))
