"""Check what is said of mean curves, over resamples of the repeats, and of single numbers."""

from dataclasses import replace
from math import inf, isfinite, nan

import numpy as np
import pandas as pd

from deimos import stats
from deimos.report import resamples
from deimos.report.findings import Finding, Outcome, between
from deimos.report.paper import Claim
from deimos.tracking import Evidence

SURE = 0.95  # of resamples or seeds, from which a claim is supported; below 1 − SURE contradicted


def _by_resamples(share: float) -> Outcome:
    if not isfinite(share):
        return "undecided"
    if share >= SURE:
        return "supported"
    return "contradicted" if share <= 1 - SURE else "undecided"


def ahead(claim: Claim, rows: pd.DataFrame, evidence: Evidence) -> Finding:
    """The leader's mean is the better one in a share of the iterations within the bounds."""
    (method,), curves = claim.methods, resamples.curves(between(claim, rows))
    sign = 1 if claim.better == "lower" else -1

    def iterations_ahead(means: resamples.Means) -> float:
        return float((sign * (means[method] - means[claim.leader]) > 0).mean())

    seen = iterations_ahead(curves.means())
    low, high = claim.bounds
    held = curves.share(lambda means: low <= iterations_ahead(means) <= high)
    return Finding(_by_resamples(held), effect=seen, share=held)


def _reached(claim: Claim, means: resamples.Means, steps: np.ndarray) -> dict[str, float]:
    """Acquisitions at which each mean curve first reaches the threshold; inf if it never does."""
    found = {}
    for method in claim.methods:
        mean = means[method]
        good = mean <= claim.threshold if claim.better == "lower" else mean >= claim.threshold
        found[method] = float(steps[good.argmax()]) if good.any() else inf
    return found


def fewest_labels(claim: Claim, rows: pd.DataFrame, evidence: Evidence) -> Finding:
    """DEIMOS reaches the score first, or ties; unsettled where no method has reached it yet."""
    curves = resamples.curves(rows)

    def first(means: resamples.Means) -> bool:
        reached = _reached(claim, means, curves.steps)
        return reached["deimos"] == min(reached.values()) < inf

    def nobody(means: resamples.Means) -> bool:
        return min(_reached(claim, means, curves.steps).values()) == inf

    held, unsettled = curves.share(first), curves.share(nobody)
    reached = tuple(_reached(claim, curves.means(), curves.steps).items())
    return Finding(
        _by_resamples(held), share=held, unsettled=unsettled, reached=reached,
        looked_to=int(curves.steps[-1]),
    )  # fmt: skip


def extra_data(claim: Claim, rows: pd.DataFrame, evidence: Evidence) -> Finding:
    """Others need a share more than DEIMOS that lies within the bounds; it takes whole runs."""
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
    return Finding(
        _by_resamples(held), share=held, unsettled=1.0, reached=tuple(seen.items()),
        looked_to=int(curves.steps[-1]), reasons=reasons,
    )  # fmt: skip


# Numbers that lie within bounds


def number_within(claim: Claim, rows: pd.DataFrame, evidence: Evidence) -> Finding:
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


def mean_within(claim: Claim, rows: pd.DataFrame, evidence: Evidence) -> Finding:
    """The mean over a run lies within the bounds, by Student's t over the repeats."""
    means = between(claim, rows).groupby("repeat").value.mean()
    return _by_interval(means.to_numpy(), *claim.bounds)


def rises(claim: Claim, rows: pd.DataFrame, evidence: Evidence) -> Finding:
    """The last quarter of a run has a higher mean than its first, by Student's t over repeats."""
    curves = between(claim, rows).pivot(index="n_acquired", columns="repeat", values="value")
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


def nugget_within(claim: Claim, rows: pd.DataFrame, evidence: Evidence) -> Finding:
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
