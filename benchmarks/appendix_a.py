"""The best of all batches, searched by sharing what batches have in common, and one by one."""

from collections.abc import Iterator
from functools import partial
from itertools import combinations, islice
from math import comb

import numpy as np

from benchmarks.measured import Row, seconds
from deimos.studies import greedy_vs_optimal

TIMED = 1_000  # batches conditioned on one by one


def condition(V: np.ndarray, batches: list[tuple[int, ...]]) -> None:
    """The variance that each batch removes, one point after the other as the paper's code does."""
    for batch in batches:
        left = V.copy()
        for n in batch:
            left -= np.outer(left[n], left[n] / left[n, n])


def rows(full: bool) -> Iterator[Row]:
    for b, n_points in ((2, 200), (5, 30), (10, 20)):
        n = 200 if full else 20
        V = greedy_vs_optimal.simulate(n_points, 50, n, np.random.default_rng(0))
        ours = seconds(partial(greedy_vs_optimal.greedy_ratios, V, b)) / n
        some = list(islice(combinations(range(n_points), b), TIMED))
        each = seconds(partial(condition, V[0, :, 0, :, 0].numpy(), some)) / len(some)
        what = f"Appendix A, best {b} of {n_points} points, an instance of {n}"
        note = f"{comb(n_points, b):,} batches, {TIMED:,} of them timed one by one"
        yield Row(what, "every batch by itself", ours, each * comb(n_points, b), note=note)
