"""Judge each claim of the paper by the runs: a verdict is data, `verdicts` makes text of it.

A claim is *supported*, *contradicted*, *undecided* or *not tested*. A difference between methods is
judged by the 95 % interval of Student's t over paired run means, not by the paper's own test
(App. C), which stands beside it. `paper.py` has the claims; each names the kind of check that
CHECKS finds for it here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import inf

import pandas as pd

from deimos import stats
from deimos.report import curve_checks, method_checks
from deimos.report.findings import Comparison, Finding, Outcome, subject
from deimos.report.paper import METHODS, Claim
from deimos.tracking import Evidence, Origin

ENOUGH = 0.5  # of the paper's horizon, from which runs are judged as far as they go

CHECKS: dict[str, Callable[[Claim, pd.DataFrame, Evidence], Finding]] = {
    "outperforms": method_checks.outperforms,
    "faster": method_checks.faster,
    "no_difference": method_checks.no_difference,
    "more_diverse": method_checks.more_diverse,
    "ahead": curve_checks.ahead,
    "fewest": curve_checks.fewest_labels,
    "extra": curve_checks.extra_data,
    "within": curve_checks.number_within,
    "mean": curve_checks.mean_within,
    "rises": curve_checks.rises,
    "nugget": curve_checks.nugget_within,
}


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
            if end < ENOUGH * claim.horizon or finding.unsettled != 0:
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
