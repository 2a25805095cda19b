"""What a check finds, as data: an outcome, and the comparisons or numbers behind it."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan
from typing import Literal

import pandas as pd

from deimos import stats
from deimos.report.paper import Claim

Outcome = Literal["supported", "contradicted", "undecided", "not tested"]
OUTCOMES: tuple[Outcome, ...] = ("supported", "contradicted", "undecided", "not tested")


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
    unsettled: float = 0.0  # share of the resamples in which longer runs may still tell otherwise
    margin: float = nan  # within which a difference counts as none
    reached: tuple[tuple[str, float], ...] = ()  # acquisitions or extra data needed, by method
    looked_to: int = 0  # acquisitions: a score that is not reached by then may be later
    reasons: tuple[str, ...] = ()


def subject(claim: Claim, table: pd.DataFrame) -> pd.DataFrame:
    """The rows of a claim's experiment, batch size and metric."""
    return table[
        (table.experiment == claim.experiment)
        & (table.batch_size == claim.batch_size)
        & (table.metric == claim.metric)
    ]


def between(claim: Claim, rows: pd.DataFrame) -> pd.DataFrame:
    return rows[(rows.n_acquired >= claim.start) & (rows.n_acquired <= claim.horizon)]


def combined(outcomes: Sequence[Outcome]) -> Outcome:
    """The outcome of a claim that needs all of these."""
    for outcome in ("contradicted", "not tested", "undecided"):
        if outcome in outcomes:
            return outcome
    return "supported"
