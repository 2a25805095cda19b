"""Resample the repeats of an experiment: how sure is a statement about mean curves?

All methods share the repeats that are drawn, since a repeat is the same labelled set for each.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations_with_replacement
from math import factorial, nan

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from deimos.stats import Undecidable

Means = dict[str, Float[np.ndarray, " t"]]  # method → mean curve
ALL_DRAWS, DRAWS = 7, 2_000  # up to so many repeats every draw is looked at, else so many draws


@dataclass(frozen=True)
class Curves:
    """The runs of some methods at the iterations that all of them have."""

    steps: Int[np.ndarray, " t"]  # n_acquired
    runs: dict[str, Float[np.ndarray, "n t"]]  # method → a row a repeat

    def means(self) -> Means:
        """Mean curves of the repeats as they are."""
        return {method: runs.mean(axis=0) for method, runs in self.runs.items()}

    def share(self, holds: Callable[[Means], bool]) -> float:
        """The share of resamples in which the statement `holds`; nan of a single repeat."""
        n = len(next(iter(self.runs.values())))
        if n < 2:
            return nan
        found = weights = 0.0
        for counts, weight in _draws(n):
            means = {method: counts @ runs / n for method, runs in self.runs.items()}
            found, weights = found + weight * holds(means), weights + weight
        return found / weights


def curves(rows: pd.DataFrame) -> Curves:
    """The curves of one metric; raises `Undecidable` where no repeat, or no iteration, has all."""
    wide = rows.pivot(index=["method", "repeat"], columns="n_acquired", values="value")
    methods = rows.method.unique()
    repeats = sorted(set.intersection(*(set(wide.loc[m].index) for m in methods)))
    wide = wide[wide.index.get_level_values("repeat").isin(repeats)].dropna(axis=1)
    if not repeats or wide.empty:
        raise Undecidable("no repeat has all methods at the same iterations")
    runs = {method: wide.loc[method].to_numpy(dtype=float) for method in methods}
    return Curves(wide.columns.to_numpy(), runs)


def _draws(n: int) -> Iterator[tuple[Int[np.ndarray, " n"], float]]:
    """Yield the number of times that each of n repeats is drawn, and the weight of that draw."""
    if n > ALL_DRAWS:
        for counts in np.random.default_rng(0).multinomial(n, [1 / n] * n, DRAWS):
            yield counts, 1.0
        return
    for drawn in combinations_with_replacement(range(n), n):
        counts = np.bincount(drawn, minlength=n)
        ways = factorial(n)
        for count in counts:
            ways //= factorial(int(count))
        yield counts, float(ways)
