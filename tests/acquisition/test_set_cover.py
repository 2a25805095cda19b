"""The covering programme against all choices of columns, one by one."""

from itertools import combinations

import numpy as np
import pytest

from deimos.acquisition import set_cover

# Edges of two triangles against their corners: three corners cover all edges by halves, no three
# corners cover them whole.
TRIANGLES = np.kron(np.eye(2), 1 - np.eye(3)).astype(bool)


def fewest_bare(a, b: int) -> int:
    choices = combinations(range(a.shape[1]), min(b, a.shape[1]))
    return min((~a[:, list(columns)].any(1)).sum() for columns in choices)


def some_matrices(rng, n: int = 60):
    for _ in range(n):
        m, k = rng.integers(1, 12, 2)
        yield rng.random((m, k)) < rng.uniform(0.1, 0.7)


@pytest.mark.parametrize("outliers", [0, 1, 2])
def test_the_answer_is_that_of_trying_every_choice(rng, outliers):
    seen = set()
    for a in some_matrices(rng):
        for b in (2, 3):
            possible = bool(fewest_bare(a, b) <= outliers)
            chosen, certain = set_cover.cover(a, b, outliers, 20.0)
            assert certain and (chosen is not None) == possible
            if possible:
                assert len(set(chosen)) == len(chosen) <= b
                assert (~a[:, chosen].any(1)).sum() <= outliers
            seen.add(possible)
    assert seen == {True, False}


@pytest.mark.parametrize("outliers", [0, 1, 2])
def test_dropping_rows_and_columns_changes_no_answer(rng, outliers):
    dropped = np.zeros(2, int)
    for a in some_matrices(rng, 150):
        less, columns = set_cover.reduce(a, outliers)
        dropped += np.subtract(a.shape, less.shape)
        for b in (1, 2, 3):
            possible = fewest_bare(a, b) <= outliers
            assert (fewest_bare(less, b) <= outliers) == possible
        for kept in combinations(range(len(columns)), min(2, len(columns))):
            if (~less[:, list(kept)].any(1)).sum() <= outliers:
                assert (~a[:, columns[list(kept)]].any(1)).sum() <= outliers
    assert (dropped > 0).all()


def test_branching_proves_what_the_relaxation_leaves_open():
    assert set_cover.cover(TRIANGLES, 3, 0, 20.0) == (None, True)
    chosen, certain = set_cover.cover(TRIANGLES, 4, 0, 20.0)
    assert certain and TRIANGLES[:, chosen].any(1).all()


def test_running_out_of_time_is_not_taken_for_a_proof():
    assert set_cover.cover(TRIANGLES, 3, 0, 1e-9) == (None, False)
    assert set_cover.any_cover(TRIANGLES, 3, 0, 1e-9) == (None, False)


def test_the_local_search_leaves_local_optima(rng):
    x = np.random.default_rng(1).random((300, 2))
    a = ((x[:, None] - x) ** 2).sum(-1) <= 0.14**2
    assert set_cover.local_search(a, 20, 0, swaps=1) is None  # the greedy cover
    chosen = set_cover.local_search(a, 20, 0)
    assert len(set(chosen)) == 20 and a[:, chosen].any(1).all()


def test_any_cover_takes_exactly_b_columns_even_useless_ones():
    a = np.eye(3, 6, dtype=bool)
    chosen, certain = set_cover.any_cover(a, 5, 0, 20.0)
    assert certain and len(set(chosen)) == 5 and {0, 1, 2} <= set(chosen.tolist())
    assert set_cover.any_cover(a, 2, 0, 20.0) == (None, True)
