"""Summarise the tidy table for people: means at a few budgets, distances to the authors' curves."""

from math import nan

import numpy as np
import pandas as pd
from scipy.stats import ttest_ind

from deimos.stats import check_table


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """`mean`, sample `sd` (ddof=1, as the figures shade) and `n` repeats by method, n_acquired."""
    check_table(table)
    by_point = table.groupby(["method", "n_acquired"], sort=False).value
    return by_point.agg(mean="mean", sd="std", n="count").reset_index()


def at_budgets(table: pd.DataFrame, most: int = 12) -> pd.DataFrame:
    """Mean ± sample sd at a glance: a row for each budget (at most `most`), a column a method."""
    points = summary(table)
    budgets = np.unique(points.n_acquired)
    shown = budgets[np.unique(np.linspace(0, len(budgets) - 1, most).round().astype(int))]
    points = points[points.n_acquired.isin(shown)].copy()
    points["score"] = [
        f"{row.mean:.4g} ± {row.sd:.2g}" if row.n > 1 else f"{row.mean:.4g}"
        for row in points.itertuples()
    ]
    wide = points.pivot(index="n_acquired", columns="method", values="score").fillna("")
    return wide[points.method.unique()].rename_axis(columns=None)


def gaps(table: pd.DataFrame, published: pd.DataFrame) -> pd.DataFrame:
    """Our runs less the authors': a row for each curve that both have.

    The unit is the run: `difference` is that of the means over runs of a run's mean score, at the
    iterations (`points`) that all runs have; `low` and `high` end its 95 % interval by Welch's t,
    nan where either side has a single run.
    """
    curve = ["experiment", "batch_size", "metric", "method"]
    authors = dict(list(published.groupby(curve, sort=False)))
    rows = []
    for name, runs in table.groupby(curve, sort=False):
        if name not in authors:
            continue
        sides = [
            side.pivot(index="n_acquired", columns="repeat", values="value").dropna()
            for side in (runs, authors[name])
        ]
        points = sides[0].index.intersection(sides[1].index)
        if len(points):
            ours, theirs = (side.loc[points].mean().to_numpy() for side in sides)
            interval = (nan, nan)
            if min(len(ours), len(theirs)) > 1:
                interval = ttest_ind(ours, theirs, equal_var=False).confidence_interval()
            counts = len(points), len(ours), len(theirs)
            rows.append((*name, *counts, ours.mean() - theirs.mean(), *interval))
    columns = [*curve, "points", "ours", "theirs", "difference", "low", "high"]
    return pd.DataFrame(rows, columns=columns)


def coverage(table: pd.DataFrame) -> pd.DataFrame:
    """Repeats and acquisitions of each method, in a table of many experiments."""
    by_method = table.groupby(["experiment", "batch_size", "method"], sort=False)
    wide = by_method.agg(repeats=("repeat", "nunique"), acquired=("n_acquired", "max"))
    return wide.reset_index()
