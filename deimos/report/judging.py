"""Judge each claim of the paper by the runs: a verdict is data, `verdicts` makes text of it.

A claim is *supported*, *contradicted*, *undecided* or *not tested*. A difference between methods is
judged by the 95 % interval of Student's t over paired run means, not by the paper's own test
(App. C), which stands beside it. `paper.py` has the claims; each names the kind of check that
CHECKS finds for it here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import inf, isfinite, nan, sqrt
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy.stats import ttest_ind

from deimos import stats
from deimos.report import resamples
from deimos.report.paper import METHODS, Claim
from deimos.tracking import Evidence, Origin

Outcome = Literal["supported", "contradicted", "undecided", "not tested"]
OUTCOMES: tuple[Outcome, ...] = ("supported", "contradicted", "undecided", "not tested")
ENOUGH = 0.5  # of the paper's horizon, from which runs are judged as far as they go
SURE = 0.95  # of resamples or seeds, from which a claim is supported; below 1 − SURE contradicted


@dataclass(frozen=True)
class Comparison:
    """One method against the one that the claim puts first: effects are method less that one."""

    method: str
    outcome: Outcome
    effect: float
    low: float
    high: float
    repeats: int
    p_value: float  # of the paired t-test
    authors: float = nan  # the same effect in the authors' curves
    repeats_needed: int | None = None  # for 80 % power at the effect seen
    repeats_needed_authors: int | None = None  # at the authors' effect
    printed_test: stats.LikelihoodRatio | None = None  # the paper's own
    false_positives: float = nan  # of the paper's own at .05, by null simulation
    holm: float = nan  # p, corrected for the family that is shown together


@dataclass(frozen=True)
class Finding:
    """Result of a check; without comparisons its numbers are effect, low and high."""

    outcome: Outcome
    comparisons: tuple[Comparison, ...] = ()
    effect: float = nan
    low: float = nan
    high: float = nan
    share: float = nan  # of the resamples, or of the seeds, in which the claim holds
    margin: float = nan  # within which a difference counts as none
    reached: tuple[tuple[str, float], ...] = ()  # acquisitions or extra data needed, by method
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """A claim, what came of it, and what that rests on."""

    claim: Claim
    finding: Finding
    outcome: Outcome
    repeats: int
    repeats_needed: int | None
    reasons: tuple[str, ...]
    origin: Origin | None  # None without runs

    @property
    def deciding(self) -> Comparison | Finding:
        """The comparison that supports the claim least, or all there is."""
        return min(self.finding.comparisons, key=_support, default=self.finding)


def judge(claims: Sequence[Claim], evidence: Evidence) -> list[Verdict]:
    """Judge every claim; the p-values of one family, that stand in one place, are Holm's."""
    return _families([_judged(claim, evidence) for claim in claims])


def _judged(claim: Claim, evidence: Evidence) -> Verdict:
    origin, rows, reasons = evidence.origins.get(claim.experiment), None, ()
    try:
        rows = _rows_of(claim, evidence.table)
        finding = CHECKS[claim.kind](claim, rows, evidence)
    except stats.Undecidable as lack:
        finding, reasons = Finding("not tested"), (str(lack),)
    repeats = 0 if rows is None else int(rows.groupby("method")["repeat"].nunique().min())
    notes = finding.reasons
    if rows is not None:
        reasons += origin.doubts
        end = int(rows.groupby(["method", "repeat"]).n_acquired.max().min())
        if claim.kind not in ("within", "nugget") and end < claim.horizon:
            # A curve that has not reached a score yet may reach it where the paper still looks.
            if end < ENOUGH * claim.horizon or claim.kind in ("fewest", "extra"):
                reasons += (f"runs stop at {end} of {claim.horizon} acquisitions",)
            else:
                notes += (f"over the first {end} of {claim.horizon} acquisitions",)
    outcome = "not tested" if reasons else finding.outcome
    needed = _needed(claim, finding, repeats) if outcome == "undecided" else None
    return Verdict(claim, finding, outcome, repeats, needed, (*notes, *reasons), origin)


def _needed(claim: Claim, finding: Finding, repeats: int) -> int | None:
    """Count the repeats, or seeds, that decide an undecided claim; None where that is not known."""
    if claim.kind == "within":
        return claim.repeats if repeats < claim.repeats else None
    each = [one.repeats_needed for one in finding.comparisons if one.outcome == "undecided"]
    return None if None in each else max(each, default=None)


def _families(found: list[Verdict]) -> list[Verdict]:
    families: dict[tuple, list[tuple[int, int]]] = {}
    for i, verdict in enumerate(found):
        claim = verdict.claim
        place = claim.where, claim.experiment, claim.batch_size, claim.metric, claim.kind
        for j in range(len(verdict.finding.comparisons)):
            families.setdefault(place, []).append((i, j))
    corrected = {}
    for members in families.values():
        p_values = [found[i].finding.comparisons[j].p_value for i, j in members]
        corrected |= dict(zip(members, stats.holm(p_values), strict=True))
    return [
        replace(verdict, finding=replace(verdict.finding, comparisons=tuple(
            replace(one, holm=float(corrected[i, j]))
            for j, one in enumerate(verdict.finding.comparisons)
        )))
        for i, verdict in enumerate(found)
    ]  # fmt: skip


def _support(one: Comparison) -> tuple[int, float]:
    order = ("contradicted", "not tested", "undecided", "supported")
    spread = one.high - one.low
    return order.index(one.outcome), abs(one.effect) / spread if spread > 0 else inf


def subject(claim: Claim, table: pd.DataFrame) -> pd.DataFrame:
    """The rows of a claim's experiment, batch size and metric."""
    return table[
        (table.experiment == claim.experiment)
        & (table.batch_size == claim.batch_size)
        & (table.metric == claim.metric)
    ]


def _rows_of(claim: Claim, table: pd.DataFrame) -> pd.DataFrame:
    methods = {claim.leader, *claim.methods}
    rows = subject(claim, table)
    if rows.empty and len(table[(table.experiment == claim.experiment)]):
        raise stats.Undecidable(f"no run records {claim.metric} at batch size {claim.batch_size}")
    rows = rows[rows.method.isin(methods)]
    missing = [METHODS[method] for method in METHODS if method in methods - set(rows.method)]
    if missing:
        raise stats.Undecidable(f"no runs of {', '.join(missing)}" if len(rows) else "no runs")
    stats.check_table(rows)
    return rows


def _between(claim: Claim, rows: pd.DataFrame) -> pd.DataFrame:
    return rows[(rows.n_acquired >= claim.start) & (rows.n_acquired <= claim.horizon)]


def _combined(outcomes: Sequence[Outcome]) -> Outcome:
    """The outcome of a claim that needs all of these."""
    for outcome in ("contradicted", "not tested", "undecided"):
        if outcome in outcomes:
            return outcome
    return "supported"


# Differences between methods


def _compared(claim: Claim, evidence: Evidence, method: str) -> Comparison:
    """Compare a method with the leader over the repeats that both have: a difference is claimed."""
    every = _between(claim, subject(claim, evidence.table))
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
    rows = _between(claim, subject(claim, evidence.published))
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


def _outperforms(claim: Claim, rows: pd.DataFrame, evidence: Evidence) -> Finding:
    found = tuple(_compared(claim, evidence, method) for method in claim.methods)
    return Finding(_combined([one.outcome for one in found]), found)


def _faster(claim: Claim, rows: pd.DataFrame, evidence: Evidence) -> Finding:
    """The same of seconds, which compare where a run has its processor to itself."""
    if any("CPU" not in device for device in evidence.origins[claim.experiment].devices):
        raise stats.Undecidable("the runs of a fleet share a GPU: runs on processors tell")
    return _outperforms(claim, rows, evidence)


def _no_difference(claim: Claim, rows: pd.DataFrame, evidence: Evidence) -> Finding:
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
    return Finding(_combined([one.outcome for one in found]), tuple(found), margin=margin)


def _sd_of(one: Comparison) -> float:
    """The standard deviation behind an interval."""
    if one.repeats < 2:
        return nan
    return (one.high - one.low) / 2 * sqrt(one.repeats) / stats.t_quantile(one.repeats - 1)


# Statements about mean curves, checked over resamples of the repeats


def _by_resamples(share: float) -> Outcome:
    if not isfinite(share):
        return "undecided"
    if share >= SURE:
        return "supported"
    return "contradicted" if share <= 1 - SURE else "undecided"


def _ahead(claim: Claim, rows: pd.DataFrame, evidence: Evidence) -> Finding:
    """The leader's mean is the better one in a share of the iterations within the bounds."""
    (method,), curves = claim.methods, resamples.curves(_between(claim, rows))
    sign = 1 if claim.better == "lower" else -1

    def ahead(means: resamples.Means) -> float:
        return float((sign * (means[method] - means[claim.leader]) > 0).mean())

    seen = ahead(curves.means())
    held = curves.share(lambda means: claim.bounds[0] <= ahead(means) <= claim.bounds[1])
    return Finding(_by_resamples(held), effect=seen, share=held)


def _more_diverse(claim: Claim, rows: pd.DataFrame, evidence: Evidence) -> Finding:
    """Higher by the interval, and by the mean in nearly all iterations."""
    found = _outperforms(claim, rows, evidence)
    each = [
        _ahead(replace(claim, methods=(method,), bounds=(0.9, 1)), rows, evidence)
        for method in claim.methods
    ]
    outcome = _combined([found.outcome, *(one.outcome for one in each)])
    return replace(found, outcome=outcome, effect=min(one.effect for one in each))


def _reached(claim: Claim, means: resamples.Means, steps: np.ndarray) -> dict[str, float]:
    """Acquisitions at which each mean curve first reaches the threshold; inf if it never does."""
    found = {}
    for method in claim.methods:
        mean = means[method]
        good = mean <= claim.threshold if claim.better == "lower" else mean >= claim.threshold
        found[method] = float(steps[good.argmax()]) if good.any() else inf
    return found


def _fewest(claim: Claim, rows: pd.DataFrame, evidence: Evidence) -> Finding:
    curves = resamples.curves(rows)

    def first(means: resamples.Means) -> bool:
        reached = _reached(claim, means, curves.steps)
        return reached["deimos"] == min(reached.values()) < inf

    held = curves.share(first)
    reached = _reached(claim, curves.means(), curves.steps)
    return Finding(_by_resamples(held), share=held, reached=tuple(reached.items()))


def _extra(claim: Claim, rows: pd.DataFrame, evidence: Evidence) -> Finding:
    """Others need a share more than DEIMOS that lies within the bounds."""
    curves, (low, high) = resamples.curves(rows), claim.bounds
    claim = replace(claim, methods=("deimos", *claim.methods))

    def extra(means: resamples.Means) -> dict[str, float]:
        reached = _reached(claim, means, curves.steps)
        first = reached.pop("deimos")
        if not 0 < first < inf:
            return {}
        return {method: (n - first) / first for method, n in reached.items()}

    def holds(means: resamples.Means) -> bool:
        found = extra(means)
        return bool(found) and all(low <= more <= high for more in found.values())

    held, seen = curves.share(holds), extra(curves.means())
    reasons = () if seen else (f"DEIMOS does not reach {claim.threshold} after the start",)
    return Finding(_by_resamples(held), share=held, reached=tuple(seen.items()), reasons=reasons)


# Numbers that lie within bounds


def _within(claim: Claim, rows: pd.DataFrame, evidence: Evidence) -> Finding:
    """One number decides; of several, one a seed, the share within the bounds."""
    low, high = claim.bounds
    values = rows.value.to_numpy()
    share = float(((low <= values) & (values <= high)).mean())
    reasons = ()
    if len(values) < claim.repeats:
        outcome, seeds = "undecided", "1 seed" if len(values) == 1 else f"{len(values)} seeds"
        reasons = (f"checked over {seeds} of {claim.repeats}",)
    else:
        outcome = _by_resamples(share)
        if outcome == "undecided":
            reasons = ("it depends on the seed",)
    numbers = values.mean(), values.min(), values.max()
    return Finding(outcome, (), *map(float, numbers), share=share, reasons=reasons)


def _mean(claim: Claim, rows: pd.DataFrame, evidence: Evidence) -> Finding:
    """The mean over a run lies within the bounds, by Student's t over the repeats."""
    means = _between(claim, rows).groupby("repeat").value.mean()
    return _by_interval(means.to_numpy(), *claim.bounds)


def _rises(claim: Claim, rows: pd.DataFrame, evidence: Evidence) -> Finding:
    """The last quarter of a run has a higher mean than its first, by Student's t over repeats."""
    curves = _between(claim, rows).pivot(index="n_acquired", columns="repeat", values="value")
    n = curves.dropna().index
    quarter = (n.max() - n.min()) / 4
    first, last = curves.loc[: n.min() + quarter], curves.loc[n.max() - quarter : n.max()]
    return _by_interval((last.mean() - first.mean()).to_numpy(), 0, inf)


def _by_interval(values: np.ndarray, least: int | float, most: int | float) -> Finding:
    """Judge one value a repeat by the interval of their mean: it lies within, or outside."""
    _, (low, high) = stats.paired_test(values)
    outcome: Outcome = "undecided"
    if least < low and high < most:
        outcome = "supported"
    elif high < least or low > most:
        outcome = "contradicted"
    return Finding(outcome, effect=float(values.mean()), low=low, high=high)


def _nugget(claim: Claim, rows: pd.DataFrame, evidence: Evidence) -> Finding:
    """The nugget in use over the mean dropout variance of each repeat's first model (App. E)."""
    in_use = evidence.origins[claim.experiment].nugget.get(claim.batch_size, nan)
    first = rows[rows.n_acquired == 0]
    if first.empty or not isfinite(in_use):
        raise stats.Undecidable("no run records the variance of its first model")
    shares = in_use / first.value.to_numpy()
    low, high = claim.bounds
    inside = float(((low <= shares) & (shares <= high)).mean())
    numbers = shares.mean(), shares.min(), shares.max()
    return Finding(_by_resamples(inside), (), *map(float, numbers), share=inside)


CHECKS: dict[str, Callable[[Claim, pd.DataFrame, Evidence], Finding]] = {
    "outperforms": _outperforms,
    "faster": _faster,
    "no_difference": _no_difference,
    "ahead": _ahead,
    "more_diverse": _more_diverse,
    "fewest": _fewest,
    "extra": _extra,
    "within": _within,
    "mean": _mean,
    "rises": _rises,
    "nugget": _nugget,
}
