"""The verdicts in words: text is made of what `judging` found here, once, for tables and pages."""

from collections import Counter
from collections.abc import Iterator, Sequence
from math import isfinite

import numpy as np

from deimos import stats
from deimos.extras import extra
from deimos.report.findings import OUTCOMES, Comparison, Outcome, subject
from deimos.report.judging import Verdict, judge
from deimos.report.paper import METHODS, Claim
from deimos.tracking import Evidence

with extra("reproduce"):
    import pandas as pd
    from pandas.io.formats.style import Styler

NUMBER_COLUMNS = (
    "effect", "low", "high", "repeats", "repeats_needed", "repeats_needed_authors", "p", "holm",
    "paper_p_log10", "false_positives", "share", "rests_on",
)  # fmt: skip
# What the paper's own test takes for granted, told wherever its p-values are shown.
ON_THE_PAPERS_TEST = (
    "The paper's test (App. C) takes the iterations of a run for independent, which they are not: "
    "beside each p stands how often it would see a difference at .05 where there is none, by "
    "simulation."
)

QUESTIONS = {
    "sample": "Is a random sample of the pool enough, or should the whole pool count?",
    "masks": "How many masks does the covariance need?",
    "noise": "How closely must τ⁻¹ be chosen?",
    "pixels": "Do unscaled pixels, as in the authors' code, cost accuracy?",
    "eq. 6": "Does it matter where τ_s⁻¹ stands: as printed, or as the authors ran it?",
    "space": "Do predictions as logits serve the covariance as well as probabilities do?",
    "optimiser": "Does the rate of the next step, as the authors' Keras had it, change anything?",
    "remainder": "Does a last minibatch of a few points cost accuracy: the dips of every curve?",
    "precision": "Does fitting the convolutions in half precision cost accuracy?",
    "method": "What do cheaper and more elaborate ways to a batch achieve?",
}


def as_printed(claims: Sequence[Claim]) -> pd.DataFrame:
    """The claims as the paper makes them, a row each, with its numbers as it prints them."""
    rows = [(claim.where, claim.says, claim.paper) for claim in claims]
    return pd.DataFrame(rows, columns=["where", "the paper says", "with"])


def show(frame: pd.DataFrame) -> Styler:
    """Style a table of sentences for a notebook: nothing cut short, no row numbers.

    Of a table of verdicts the words alone are shown: their numbers stand in the words, too.
    """
    left = [{"selector": "td, th", "props": "text-align: left; vertical-align: top"}]
    words = frame[[column for column in frame if column not in NUMBER_COLUMNS]]
    return words.style.hide().set_table_styles(left)


def verdicts(claims: Sequence[Claim], evidence: Evidence) -> pd.DataFrame:
    """The paper's claims beside our numbers: a row a claim, in words and in numbers.

    `outcome` is one of `findings.OUTCOMES`. `effect`, `low` and `high` are those of the comparison
    that supports the claim least, the other method less the claim's leader in the metric's units,
    with its 95 % interval; where no methods are compared, the number in question and its range.
    `repeats_needed` are those that would decide an undecided claim with 80 % power.
    """
    return pd.DataFrame([row(verdict) for verdict in judge(claims, evidence)])


def row(verdict: Verdict) -> dict[str, object]:
    """A verdict as a row of `verdicts`."""
    claim, finding, deciding = verdict.claim, verdict.finding, verdict.deciding
    compared = isinstance(deciding, Comparison)
    printed = deciding.printed_test if compared else None
    undecided = compared and verdict.outcome == "undecided"
    return {
        "where": claim.where,
        "claim": claim.says,
        "paper": claim.paper,
        "outcome": verdict.outcome,
        "ours": ours(verdict),
        "needs": needs(verdict),
        "paper's own test": "; ".join(map(own_test, finding.comparisons)),
        "effect": deciding.effect,
        "low": deciding.low,
        "high": deciding.high,
        "repeats": verdict.repeats,
        "repeats_needed": verdict.repeats_needed,
        "repeats_needed_authors": deciding.repeats_needed_authors if undecided else None,
        "p": deciding.p_value if compared else np.nan,
        "holm": deciding.holm if compared else np.nan,
        "paper_p_log10": printed.log10_p if printed else np.nan,
        "false_positives": deciding.false_positives if compared else np.nan,
        "share": finding.share,
        "rests_on": rests_on(verdict),
    }


def ours(verdict: Verdict, shares: bool = True) -> str:
    """Our numbers for a claim, in words; empty without runs.

    `shares` says in how many seeds, or resamples of the repeats, the claim holds, too.
    """
    claim, finding = verdict.claim, verdict.finding
    parts = [_effect(one) for one in finding.comparisons]
    if isfinite(finding.margin):
        parts.append(f"none if within ±{finding.margin:.2g}")
    if claim.kind in ("ahead", "more_diverse") and isfinite(finding.effect):
        parts.append(f"in {finding.effect:.0%} of iterations")
    for method, n in finding.reached:
        more = f"{n:+.0%}" if claim.kind == "extra" else f"{n:.0f}"
        said = more if isfinite(n) else f"not by {finding.looked_to}"
        parts.append(f"{METHODS[method]} {said}")
    if claim.kind in ("within", "nugget") and isfinite(finding.effect):
        parts.append(_numbers(finding.effect, finding.low, finding.high))
    if claim.kind in ("mean", "rises") and isfinite(finding.effect):
        digits = ".2g" if claim.kind == "mean" else "+.2g"
        parts.append(stats.with_interval(finding.effect, finding.low, finding.high, digits))
    if shares and isfinite(finding.share) and (claim.repeats > 1 or claim.kind != "within"):
        of = "seeds" if claim.kind == "within" else "repeats"
        of = of if claim.kind in ("within", "nugget") else "resamples of the repeats"
        parts.append(f"so in {finding.share:.0%} of {of}")
    return "; ".join(parts)


def needs(verdict: Verdict) -> str:
    """Say what is missing for a decision: reasons, and the repeats that it would take."""
    parts = list(verdict.reasons)
    if verdict.outcome == "undecided":
        for one in verdict.finding.comparisons:
            if one.outcome == "undecided":
                seen = _count(one.repeats_needed)
                theirs = f", {_count(one.repeats_needed_authors)} for the authors'"
                known = theirs if isfinite(one.authors) else ""
                parts.append(f"{METHODS[one.method]}: {seen} for the effect seen{known}")
    return "; ".join(parts)


def _count(repeats: int | None) -> str:
    return f"{repeats:,} repeats" if repeats else "more repeats than anybody runs"


def own_test(one: Comparison) -> str:
    """The paper's own test of a comparison, and how far it is to be trusted."""
    if one.printed_test is None:
        return ""
    wrong = ""
    if isfinite(one.false_positives):
        wrong = f" ({one.false_positives:.0%} false at .05)"
    return f"{METHODS[one.method]} p = {in_digits(one.printed_test.log10_p)}{wrong}"


def rests_on(verdict: Verdict) -> str:
    """Scale, data, machine, versions and commit behind a verdict; empty without runs."""
    origin = verdict.origin
    return "" if origin is None else f"{origin.note}; {origin.machine}"


def _effect(one: Comparison) -> str:
    return f"{METHODS[one.method]} {stats.with_interval(one.effect, one.low, one.high)}"


def _numbers(mean: float, low: float, high: float) -> str:
    return f"{mean:.6g}" if low == high else f"mean {mean:.4g}, from {low:.4g} to {high:.4g}"


def in_digits(log10_p: float) -> str:
    """Two digits of a p-value that may be too small for a float."""
    if log10_p > -3:
        return f"{10**log10_p:.2g}"
    exponent = int(np.floor(log10_p))
    digits = f"{10 ** (log10_p - exponent):.1f}"
    return f"1.0e{exponent + 1}" if digits == "10.0" else f"{digits}e{exponent}"


def differences(
    table: pd.DataFrame, doubts: Sequence[str], repeats: int = 10, better: str = "higher"
) -> pd.DataFrame:
    """Judge every method against DEIMOS, a row each: no claim of the paper's.

    A method is "better" or "worse" if Holm's p is below 0.05, else "undecided"; with `doubts`, or
    fewer than `repeats` pairs, "not tested", and `because` says why and how the numbers look.
    """
    rows = []
    for found in stats.paired_differences(table).itertuples():
        sign = 1 if better == "higher" else -1
        way = "better" if sign * found.effect > 0 else "worse"
        outcome = way if found.holm < 0.05 else "undecided"
        few = [f"{found.repeats} of {repeats} repeats"] if found.repeats < repeats else []
        because = ", ".join([*doubts, *few])
        if because:
            outcome, because = "not tested", f"{because}; here {outcome}"
        effect = stats.with_interval(found.effect, found.low, found.high)
        rows.append((found.method, outcome, effect, f"{found.holm:.2g}", because))
    return pd.DataFrame(rows, columns=["claim", "outcome", "ours", "p (Holm)", "because"])


def thresholds_table(claims: Sequence[Claim], table: pd.DataFrame) -> pd.DataFrame:
    """Acquisitions needed to reach each score (Tables 1, 2): for each method the paper's and ours.

    "ours" is the first crossing of the mean over repeats, as printed; "for good" the first point
    from which the mean never falls behind again. "-" where there are no runs.
    """
    rows = {}
    for claim in (claim for claim in claims if claim.kind == "fewest"):
        cells = rows[claim.threshold] = {}
        for method, printed in zip(claim.methods, claim.printed, strict=True):
            name = METHODS[method]
            cells[name, "paper"] = str(printed)
            cells[name, "ours"], cells[name, "for good"] = _reached_by(claim, method, table)
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("to reach").reset_index()


def _reached_by(claim: Claim, method: str, table: pd.DataFrame) -> Iterator[str]:
    rows = subject(claim, table)
    rows = rows[rows.method == method]
    for sustained in (False, True):
        if rows.empty:
            yield "-"
            continue
        reached = stats.acquisitions_to_reach(rows, [claim.threshold], claim.better, sustained)
        count = reached[method].iloc[0]
        yield f"not by {rows.n_acquired.max()}" if pd.isna(count) else str(count)


def counted(outcomes: Sequence[Outcome]) -> str:
    """Count the claims by outcome, as one phrase."""
    counts = Counter(outcomes)
    return ", ".join(f"{counts[outcome]} {outcome}" for outcome in OUTCOMES if counts[outcome])


def questions() -> pd.DataFrame:
    """Table of the questions, a row each."""
    return pd.DataFrame(QUESTIONS.items(), columns=["rows", "question"])
