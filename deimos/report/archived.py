"""Measurements of one archive, and what a page's sentence tells of them."""

from functools import cache
from pathlib import Path

import pandas as pd

from deimos import stats, tracking

Outcomes = dict[tuple[str, str], tuple[str, str]]  # subject and sentence → outcome and number


@cache
def table(file: Path) -> pd.DataFrame:
    """An archive's measurements, read once for all tables and sentences; not to be changed."""
    return tracking.of_archives([file]).table


def rows(file: Path, metric: str) -> pd.DataFrame:
    measured = table(file)
    return measured[measured.metric == metric]


def less(rows: pd.DataFrame, method: str, reference: str = "deimos") -> tuple[str, str]:
    """Whether a method is "higher" than another or "lower", or "undecided", and by how much.

    By the 95 % interval of Student's t over paired run means.
    """
    test = stats.run_level_test(rows, method, reference)
    low, high = test.interval
    outcome = "higher" if low > 0 else "lower" if high < 0 else "undecided"
    return outcome, number(test.effect, low, high, len(test.differences))


def number(effect: float, low: float, high: float, repeats: int) -> str:
    """An effect as a sentence has it: with its interval, and how often it was repeated."""
    return f"{stats.with_interval(effect, low, high)} ({repeats} repeats)"
