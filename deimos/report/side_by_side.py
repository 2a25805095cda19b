"""The findings of these runs, beside what the runs kept here decided.

The kept runs' verdicts stand in a table beside them, `mlruns/reference/verdicts.csv`, which `make
figures SCALE=reference` writes. Each is that of the runs with most repeats, which may be from
another machine than the figures: so the UI, the last notebook and the pages all say the same.
"""

from collections.abc import Sequence

import pandas as pd

from deimos import stats
from deimos.report import paper, verdicts
from deimos.report.findings import subject
from deimos.report.judging import Verdict, judge
from deimos.report.paper import Claim
from deimos.tracking import REFERENCE, REFERENCES, Evidence

KEPT_VERDICTS = REFERENCES / "verdicts.csv"
EXPERIMENTS = {
    "synthetic-1d": "One dimension (Fig. 1)",
    "splicing": "5' splicing (Fig. 2 left, Tab. 1)",
    "face-age": "Face age (Fig. 2)",
    "mnist-7-vs-9": "MNIST 7 vs 9 (Fig. 3, B.1, Tab. 2)",
    "mnist-0-to-9": "MNIST 0-9 (Fig. 3)",
}
SIMULATIONS = {"greedy-vs-optimal": "Greedy vs optimal (App. A)"}


def experiment_lines(evidence: Evidence) -> pd.DataFrame:
    """Table of a row an experiment: DEIMOS' mean score less random's, or the claims by outcome.

    Of an experiment with several batch sizes, the comparison that the paper makes first.
    """
    kept = pd.read_csv(KEPT_VERDICTS)
    rows = []
    for name, title in {**EXPERIMENTS, **SIMULATIONS}.items():
        claims = [claim for claim in paper.CLAIMS if claim.experiment == name]
        against = next((claim for claim in claims if _is_against_random(claim)), None)
        decided = kept[kept.experiment == name]
        if against is None:
            here = verdicts.counted([verdict.outcome for verdict in judge(claims, evidence)])
            there, score = verdicts.counted(decided.outcome.tolist()), "claims"
        else:
            is_same = (decided["where"] == against.where) & (decided.claim == against.says)
            (row,) = decided[is_same].itertuples()
            here = _against_random(against, evidence)
            there = f"{_repeated(-row.effect, -row.high, -row.low, row.repeats)}: {row.outcome}"
            score = f"{against.metric}, b {against.batch_size}"
        rows.append((title, score, here, there))
    return pd.DataFrame(rows, columns=["experiment", "score", "these runs", "the kept runs"])


def _is_against_random(claim: Claim) -> bool:
    return (claim.kind, claim.methods) == ("outperforms", ("random",))


def _against_random(claim: Claim, evidence: Evidence) -> str:
    """DEIMOS less random over the repeats that have both, as far as the runs go; "no runs"."""
    rows = subject(claim, evidence.table)
    rows = rows[rows.method.isin(["deimos", "random"]) & (rows.n_acquired <= claim.horizon)]
    rows = rows[rows.groupby("repeat").method.transform("nunique") == 2]
    if rows.empty:
        return "no runs"
    test = stats.run_level_test(rows, "random", claim.leader)
    low, high = test.interval
    effect = _repeated(-test.effect, -high, -low, len(test.differences))
    end = rows.n_acquired.max()
    return effect if end == claim.horizon else f"{effect}, to {end} of {claim.horizon}"


def _repeated(effect: float, low: float, high: float, repeats: int) -> str:
    times = "repeat" if repeats == 1 else "repeats"
    return f"{stats.with_interval(effect, low, high)}, {repeats} {times}"


def verdicts_at(
    scale: str, evidence: Evidence, claims: Sequence[Claim] = paper.CLAIMS
) -> pd.DataFrame:
    """A row for each of the paper's claims, as `verdicts.verdicts` has them.

    At the kept runs' scale they are what all kept runs together decide, and `by` names those that
    do; at any other scale they are judged from the evidence.
    """
    if scale != REFERENCE:
        return verdicts.verdicts(claims, evidence)
    kept = pd.read_csv(KEPT_VERDICTS)
    kept = kept[kept.experiment.isin({claim.experiment for claim in claims})]
    words = kept.select_dtypes(exclude="number").columns
    return kept.fillna(dict.fromkeys(words, "")).drop(columns="experiment")


def kept_verdicts(decided: list[tuple[str, Verdict]]) -> str:
    """The table beside the kept runs, a row a claim, with the name of the runs that decide it."""
    rows = [
        {"experiment": verdict.claim.experiment, **verdicts.row(verdict), "by": name}
        for name, verdict in decided
    ]
    return pd.DataFrame(rows).to_csv(index=False, float_format="%.3g")
