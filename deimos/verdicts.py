"""The paper's claims beside our numbers: what holds, what does not, and what cannot be told.

`paper.py` has the claims as data; each names the kind of check that CHECKS finds for it here.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite

import numpy as np

from deimos import stats
from deimos.extras import extra
from deimos.paper import METHODS, Claim

with extra("reproduce"):
    import pandas as pd
    from pandas.io.formats.style import Styler

Test = tuple[stats.LikelihoodRatio, stats.RunLevel]


def as_printed(claims: Sequence[Claim]) -> pd.DataFrame:
    """What the paper says, a row a claim, with its numbers as it prints them."""
    rows = [(claim.where, claim.says, claim.paper) for claim in claims]
    return pd.DataFrame(rows, columns=["where", "the paper says", "with"])


def show(frame: pd.DataFrame) -> Styler:
    """A table of sentences as a notebook should show it: nothing cut short, no row numbers."""
    left = [{"selector": "td, th", "props": "text-align: left; vertical-align: top"}]
    return frame.style.hide().set_table_styles(left)


def verdicts(
    claims: Sequence[Claim], table: pd.DataFrame, doubts: Mapping[str, Sequence[str]]
) -> pd.DataFrame:
    """The paper's claims beside our numbers: claim, where, paper, ours, interval, verdict.

    A claim that DEIMOS outperforms "holds" if the LMM as printed is significant at 0.05 in the
    claimed direction, against every method named; the printed p need not come out. The run-level p
    stands beside it and the interval is that test's. "No difference" holds if no LMM is
    significant at 0.05; higher diversity in almost all iterations, if the LMM's p is below 0.01 and
    DEIMOS' mean is higher in at least 90 % of them. Fewest acquisitions: no method gets there
    sooner, and DEIMOS gets there. Other claims hold if our numbers lie within the claim's bounds.

    `doubts` says by experiment why its runs cannot decide (`tracking.doubts`: a small scale, other
    data than the paper's). The verdict then is "cannot tell", with the reason and, where there are
    numbers, the way they point; and so it is when runs are missing, too short or too few.
    """
    return pd.DataFrame(
        [_verdict(claim, table, doubts.get(claim.experiment, ())) for claim in claims],
        columns=["claim", "where", "paper", "ours", "interval", "verdict"],
    )


def differences(
    table: pd.DataFrame, doubts: Sequence[str], repeats: int = 10, better: str = "higher"
) -> pd.DataFrame:
    """What `stats.paired_differences` decides, a row a method: no claim of the paper's.

    A method is "better" or "worse" than the reference if Holm's p is below 0.05; with `doubts`, or
    with fewer than `repeats` pairs, the verdict is "cannot tell", and how the numbers look.
    """
    said = []
    for row in stats.paired_differences(table).itertuples():
        sign = 1 if better == "higher" else -1
        way = "better" if sign * row.effect > 0 else "worse"
        verdict = way if row.holm < 0.05 else "no difference shown"
        few = [f"{row.repeats} of {repeats} repeats"] if row.repeats < repeats else []
        if known := [*doubts, *few]:
            verdict = f"cannot tell ({', '.join(known)}): here {verdict}"
        interval = f"[{row.low:+.2g}, {row.high:+.2g}]"
        said.append((row.method, f"{row.effect:+.2g}", interval, f"{row.holm:.2g}", verdict))
    return pd.DataFrame(said, columns=["claim", "ours", "interval", "p (Holm)", "verdict"])


def beside(claims: Sequence[Claim], table: pd.DataFrame) -> pd.DataFrame:
    """Acquisitions needed to reach each score (Tables 1, 2): for each method the paper's and ours.

    "ours" is the first crossing of the mean over repeats, as printed; "for good" the first point
    from which the mean never falls behind again. "-" where there are no runs.
    """
    rows = {}
    for claim in (claim for claim in claims if claim.kind == "fewest"):
        row = rows[claim.threshold] = {}
        for method, printed in zip(claim.methods, claim.printed, strict=True):
            name = METHODS[method]
            row[name, "paper"] = str(printed)
            row[name, "ours"], row[name, "for good"] = _reached_by(claim, method, table)
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


@dataclass(frozen=True)
class Finding:
    """Our numbers in words, whether they point the claim's way, and whether that is enough."""

    ours: str
    interval: str
    agrees: bool
    enough: bool = True


def _verdict(claim: Claim, table: pd.DataFrame, known: Sequence[str]) -> dict[str, str]:
    doubts = list(known)
    try:
        rows = _rows_of(claim, table)
        finding = CHECKS[claim.kind](claim, rows)
    except stats.Undecidable as lack:
        finding = Finding("", "", False)
        verdict = f"cannot tell ({', '.join([*doubts, str(lack)])})"
    else:
        runs = rows.groupby(["method", "repeat"]).n_acquired.max()
        repeats = runs.groupby(level="method").size().min()
        if runs.min() < claim.horizon:
            doubts.append(f"runs stop at {runs.min()} of {claim.horizon} acquisitions")
        if repeats < claim.repeats:
            doubts.append(f"{repeats} of {claim.repeats} repeats")
        verdict = "holds" if finding.agrees and finding.enough else "does not hold"
        if doubts:
            way = "same" if finding.agrees else "other"
            verdict = f"cannot tell ({', '.join(doubts)}): points the {way} way"
    return {
        "claim": claim.says,
        "where": claim.where,
        "paper": claim.paper,
        "ours": finding.ours,
        "interval": finding.interval,
        "verdict": verdict,
    }


def subject(claim: Claim, table: pd.DataFrame) -> pd.DataFrame:
    """The rows of a claim's experiment, batch size and metric."""
    return table[
        (table.experiment == claim.experiment)
        & (table.batch_size == claim.batch_size)
        & (table.metric == claim.metric)
    ]


def _rows_of(claim: Claim, table: pd.DataFrame) -> pd.DataFrame:
    methods = {"deimos", *claim.methods}
    rows = subject(claim, table)
    rows = rows[rows.method.isin(methods)]
    missing = [METHODS[method] for method in METHODS if method in methods - set(rows.method)]
    if missing:
        raise stats.Undecidable(f"no runs of {', '.join(missing)}" if len(rows) else "no runs")
    stats.check(rows)
    return rows


def _tests(claim: Claim, rows: pd.DataFrame) -> list[Test]:
    rows = rows[rows.n_acquired <= claim.horizon]
    return [
        (stats.likelihood_ratio(rows, other), stats.run_level_test(rows, other))
        for other in claim.methods
    ]


def _outperforms(claim: Claim, rows: pd.DataFrame, level: float = 0.05) -> Finding:
    tests = _tests(claim, rows)
    sign = 1 if claim.better == "lower" else -1  # of the other method minus DEIMOS
    return Finding(
        *_in_words(tests),
        all(sign * test.effect > 0 for test, _ in tests),
        all(test.p_value < level for test, _ in tests),
    )


def _no_difference(claim: Claim, rows: pd.DataFrame) -> Finding:
    tests = _tests(claim, rows)
    return Finding(*_in_words(tests), all(test.p_value >= 0.05 for test, _ in tests))


def _more_diverse(claim: Claim, rows: pd.DataFrame) -> Finding:
    found = _outperforms(claim, rows, level=0.01)
    rows = rows[rows.n_acquired <= claim.horizon]
    means = rows.pivot_table(index="n_acquired", columns="method", values="value").dropna()
    shares = [float((means["deimos"] > means[other]).mean()) for other in claim.methods]
    higher = ", ".join(f"{share:.0%}" for share in shares)
    return Finding(
        f"{found.ours}; higher in {higher} of iterations",
        found.interval,
        found.agrees,
        found.enough and min(shares) >= 0.9,
    )


def _reached(claim: Claim, rows: pd.DataFrame) -> dict[str, int | float]:
    """Acquisitions each method needs; inf where it never gets there."""
    row = stats.acquisitions_to_reach(rows, [claim.threshold], claim.better).iloc[0]
    return {method: inf if pd.isna(count) else int(count) for method, count in row.items()}


def _fewest(claim: Claim, rows: pd.DataFrame) -> Finding:
    reached = _reached(claim, rows)
    ours = ", ".join(
        f"{METHODS[method]} {'never' if reached[method] == inf else reached[method]}"
        for method in claim.methods
    )
    return Finding(ours, "", reached["deimos"] == min(reached.values()) < inf)


def _extra(claim: Claim, rows: pd.DataFrame) -> Finding:
    reached = _reached(claim, rows)
    if not 0 < reached["deimos"] < inf:
        when = "never reaches" if reached["deimos"] else "starts beyond"
        return Finding(f"DEIMOS {when} {claim.threshold}", "", False)
    first = reached["deimos"]
    extra = {method: (reached[method] - first) / first for method in claim.methods}
    ours = ", ".join(
        f"{METHODS[method]} " + ("never" if more == inf else f"{more:+.0%}")
        for method, more in extra.items()
    )
    low, high = claim.bounds
    return Finding(ours, "", all(low <= more <= high for more in extra.values()))


def _within(claim: Claim, rows: pd.DataFrame) -> Finding:
    low, high = claim.bounds
    least, most = rows.value.min(), rows.value.max()
    ours = f"{least:.6g}" if least == most else f"mean {rows.value.mean():.6g}"
    interval = "" if least == most else f"[{least:.6g}, {most:.6g}]"
    return Finding(ours, interval, bool(low <= least and most <= high))


CHECKS: dict[str, Callable[[Claim, pd.DataFrame], Finding]] = {
    "outperforms": _outperforms,
    "no_difference": _no_difference,
    "more_diverse": _more_diverse,
    "fewest": _fewest,
    "extra": _extra,
    "within": _within,
}


def _in_words(tests: list[Test]) -> tuple[str, str]:
    """Other method minus DEIMOS with both p-values, and the run-level intervals of the same."""
    ours = [
        f"{METHODS[lmm.method]} {lmm.effect:+.2g}, p = {_p(lmm.log10_p)} (by run {by_run})"
        for lmm, run in tests
        for by_run in [f"{run.p_value:.2g}" if isfinite(run.p_value) else "undefined"]
    ]
    ends = [run.interval for _, run in tests if isfinite(run.interval[0])]
    return "; ".join(ours), "; ".join(f"[{low:+.2g}, {high:+.2g}]" for low, high in ends)


def _p(log10_p: float) -> str:
    """Two digits of a p-value that may be too small for a float."""
    if log10_p > -3:
        return f"{10**log10_p:.2g}"
    exponent = int(np.floor(log10_p))
    digits = f"{10 ** (log10_p - exponent):.1f}"
    return f"1.0e{exponent + 1}" if digits == "10.0" else f"{digits}e{exponent}"
