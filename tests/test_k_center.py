"""Robust k-Center against every batch there is, and against the model as it was published."""

from itertools import combinations

import numpy as np
import pytest
import torch
from scipy import sparse
from scipy.optimize import Bounds, LinearConstraint, milp

from deimos import k_center
from deimos.acquisition.beliefs import Beliefs

ACQUIRE = [k_center.robust_k_center, k_center.greedy_k_center]


def some_points(rng, S: int, n: int, h: int = 2, grid: int | None = None) -> Beliefs:
    """S points, n of them candidates in no order; on a grid some points and distances are equal."""
    x = rng.normal(size=(S, h)) if grid is None else rng.integers(0, grid, (S, h))
    return Beliefs(
        torch.from_numpy(rng.permutation(S)[:n]), features=torch.from_numpy(x * 1.0).float()
    )


def robust_radius(beliefs: Beliefs, batch, outliers: int) -> float:
    """The (Ξ+1)-th largest distance of a candidate to its nearest centre."""
    x, candidates = beliefs.features.double().numpy(), beliefs.candidates.tolist()
    centres = sorted(set(range(len(x))) - set(candidates) | set(map(int, batch)))
    nearest = np.sqrt(((x[candidates, None] - x[centres]) ** 2).sum(-1)).min(1)
    return sorted(nearest, reverse=True)[outliers]


def smallest_radius(beliefs: Beliefs, b: int, outliers: int) -> float:
    batches = combinations(beliefs.candidates.tolist(), b)
    return min(robust_radius(beliefs, batch, outliers) for batch in batches)


def authors_model_is_feasible(beliefs: Beliefs, b: int, outliers: int, delta: float) -> bool:
    """The programme of Sener & Savarese: u_j, w_ij, ξ_ij over all points, in that order."""
    x, candidates = beliefs.features.double().numpy(), beliefs.candidates.numpy()
    S = len(x)
    distances = np.sqrt(((x[:, None] - x) ** 2).sum(-1))
    point, centre = np.divmod(np.arange(S * S), S)
    lower, upper = np.zeros(S + 2 * S * S), np.ones(S + 2 * S * S)
    lower[np.setdiff1d(np.arange(S), candidates)] = 1  # what is labelled is a centre
    one, none = sparse.eye_array(S * S), sparse.csr_array((S * S, S))
    far = (distances > delta).ravel()
    all_of = sparse.csr_array
    constraints = [
        (all_of(np.r_[np.ones(S), np.zeros(2 * S * S)][None]), S - len(candidates) + b, None),
        (sparse.hstack([sparse.csr_array((S, S)), sparse.kron(sparse.eye_array(S), np.ones(S)),
                        sparse.csr_array((S, S * S))]), 1, None),
        (sparse.hstack([-np.eye(S)[centre], one, 0 * one]), -np.inf, 0),
        (sparse.hstack([none, one, -one]).tocsr()[far], 0, None),
        (all_of(np.r_[np.zeros(S + S * S), np.ones(S * S)][None]), -np.inf, outliers),
    ]  # fmt: skip
    answer = milp(
        np.zeros(S + 2 * S * S),
        integrality=1,
        bounds=Bounds(lower, upper),
        constraints=[
            LinearConstraint(A, lo, lo if up is None else up) for A, lo, up in constraints
        ],
    )
    assert answer.status in (0, 2)  # solved, or proved infeasible
    return answer.status == 0


@pytest.mark.parametrize("outliers", [0, 1, 2])
@pytest.mark.parametrize(("S", "n", "b"), [(9, 9, 2), (12, 9, 2), (10, 9, 3), (40, 8, 2)])
@pytest.mark.parametrize("grid", [None, 4])
def test_enough_steps_find_the_smallest_radius_of_all_batches_and_prove_it(
    rng, S, n, b, outliers, grid
):
    for _ in range(4):
        seen = some_points(rng, S, n, grid=grid)
        solution = k_center.robust_search(seen, b, outliers, steps=100)
        assert solution.radius == pytest.approx(smallest_radius(seen, b, outliers), rel=1e-12)
        assert solution.lower_bound == solution.radius and not solution.limit_met


@pytest.mark.parametrize("bounds", ["correct", "authors"])
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_the_smallest_radius_lies_between_the_two_bounds(rng, steps, bounds):
    for outliers in (0, 1, 2):
        seen = some_points(rng, 14, 11, h=3)
        solution = k_center.robust_search(seen, 3, outliers, steps=steps, bounds=bounds)
        smallest = smallest_radius(seen, 3, outliers)
        assert solution.lower_bound <= smallest * (1 + 1e-12)
        assert smallest <= solution.radius * (1 + 1e-12)
        assert solution.radius == pytest.approx(
            robust_radius(seen, solution.positions, outliers), rel=1e-12
        )
        if bounds == "correct":
            assert solution.radius <= solution.greedy_radius


@pytest.mark.parametrize("outliers", [0, 1])
def test_the_published_model_reaches_the_radius_and_nothing_below_it(rng, outliers):
    seen = some_points(rng, 24, 20)
    solution = k_center.robust_search(seen, 4, outliers, steps=100)
    assert authors_model_is_feasible(seen, 4, outliers, solution.radius * (1 + 1e-9))
    assert not authors_model_is_feasible(seen, 4, outliers, solution.radius * (1 - 1e-9))


def test_larger_problems_are_proved_too_and_beat_farthest_first(rng):
    seen = some_points(rng, 330, 300, h=5)
    five, all_steps = (k_center.robust_search(seen, 12, 2, steps=steps) for steps in (5, 100))
    assert five.lower_bound <= all_steps.lower_bound == all_steps.radius <= five.radius
    assert five.radius < 0.97 * five.greedy_radius and not all_steps.limit_met


def test_a_batch_of_one_is_the_first_of_the_best_candidates(rng):
    for grid in (None, 3):
        seen = some_points(rng, 40, 30, grid=grid)
        for outliers in (0, 1, 5):
            solution = k_center.robust_search(seen, 1, outliers)
            best = min(sorted(seen.candidates.tolist()),
                       key=lambda i: round(robust_radius(seen, [i], outliers), 9))  # fmt: skip
            assert solution.positions.tolist() == [best]
            assert solution.lower_bound == solution.radius <= solution.greedy_radius


def test_greedy_is_farthest_first_in_order_of_picking(rng):
    for grid in (None, 4):
        seen = some_points(rng, 60, 45, h=3, grid=grid)
        x, candidates = seen.features.double().numpy(), sorted(seen.candidates.tolist())
        centres, picked = sorted(set(range(60)) - set(candidates)), []
        for _ in range(20):
            free = [i for i in candidates if i not in picked]
            farthest = [min(((x[i] - x[j]) ** 2).sum() for j in centres + picked) for i in free]
            picked.append(free[int(np.argmax(farthest))])
        assert k_center.greedy_k_center(seen, 20, rng).tolist() == picked


def test_the_greedy_radius_is_that_of_the_greedy_batch(rng):
    seen = some_points(rng, 60, 50)
    batch = k_center.greedy_k_center(seen, 6, rng)
    assert k_center.robust_search(seen, 6, 2).greedy_radius == pytest.approx(
        robust_radius(seen, batch, 2)
    )


def test_labelled_points_are_centres_already(rng):
    clusters = torch.tensor([[0.0, 0], [9, 0], [0, 9]]).repeat_interleave(20, 0)
    x = clusters + torch.from_numpy(rng.normal(size=(60, 2))).float() / 10
    seen = Beliefs(torch.arange(1, 60), features=x)  # one point of the first cluster is labelled
    batch = k_center.robust_search(seen, 2, outliers=0).positions
    assert sorted((batch // 20).tolist()) == [1, 2]


def test_outliers_are_left_out_and_are_one_in_a_thousand_by_default(rng):
    x = torch.from_numpy(rng.normal(size=(2010, 2))).float()
    x[[500, 1500]] = torch.tensor([[50.0, 0], [0, -80]])
    seen = Beliefs(torch.arange(10, 2010), features=x)
    solution = k_center.robust_search(seen, 3)
    assert solution.radius == pytest.approx(robust_radius(seen, solution.positions, 2))
    assert not {500, 1500} & set(solution.positions.tolist())
    assert {500, 1500} <= set(k_center.greedy_k_center(seen, 3, rng).tolist())


@pytest.mark.parametrize("acquire", ACQUIRE)
@pytest.mark.parametrize("features", [torch.zeros(30, 4), torch.arange(30)[:, None] // 10 * 1.0])
@pytest.mark.parametrize("batch_size", [1, 2, 7, 24])
@pytest.mark.parametrize("outliers", [0, 3])
def test_equal_embeddings_give_full_batches_of_different_candidates(
    rng, acquire, features, batch_size, outliers
):
    candidates = torch.arange(29, 5, -1)
    more = {"outliers": outliers} if acquire is k_center.robust_k_center else {}
    batch = acquire(Beliefs(candidates, features=features), batch_size, rng, **more).tolist()
    assert len(set(batch)) == batch_size and set(batch) <= set(candidates.tolist())
    if not features.any():
        assert batch == list(range(6, 6 + batch_size))


@pytest.mark.parametrize("acquire", ACQUIRE)
def test_nothing_need_be_labelled(rng, acquire):
    seen = some_points(rng, 12, 12)
    assert len(set(acquire(seen, 4, rng).tolist())) == 4


def test_nothing_is_random_and_the_order_of_candidates_is_of_no_account(rng):
    seen = some_points(rng, 80, 70)
    shuffled = Beliefs(seen.candidates.flip(0), features=seen.features)
    first = k_center.robust_k_center(seen, 5, np.random.default_rng(1))
    assert torch.equal(first, k_center.robust_k_center(shuffled, 5, np.random.default_rng(2)))


def test_a_limit_that_is_met_is_reported_and_proves_nothing(rng):
    seen = some_points(rng, 40, 30)
    solution = k_center.robust_search(seen, 4, 1, steps=100, seconds=1e-9)
    known = k_center.robust_search(seen, 4, 1, steps=100)
    assert solution.limit_met and not known.limit_met
    assert known.radius <= solution.radius <= solution.greedy_radius
    # Left is what farthest-first proves: 4 + 1 + 1 points this far apart, of which 1 is left out.
    order = k_center.greedy_k_center(seen, 4 + 1, rng)
    assert solution.lower_bound == pytest.approx(robust_radius(seen, order, 0) / 2)


def test_the_authors_search_asks_for_their_radii(rng, monkeypatch):
    asked, worse = [], 0
    any_cover = k_center.any_cover

    def listen(reach, *rest):
        asked.append(len(reach))
        return any_cover(reach, *rest)

    monkeypatch.setattr(k_center, "any_cover", listen)
    for _ in range(12):
        seen = some_points(rng, 28, 12)
        x, candidates = seen.features.double(), seen.candidates.sort().values
        labelled = np.setdiff1d(np.arange(28), candidates)
        distances = torch.cdist(x[candidates], x)
        near, between = distances[:, labelled].min(1).values, distances[:, candidates]
        radii = torch.cat([near, between.flatten()]).unique()
        smallest = smallest_radius(seen, 3, 0) * (1 + 1e-12)
        newest = k_center.greedy_k_center(seen, 3, rng)
        upper = distances[:, newest].min(1).values.max()
        lower, wanted = upper / 2, []
        for _ in range(5):
            if not ((lower <= radii) & (radii < upper)).any():
                break
            middle = (lower + upper) / 2
            wanted.append(int((near > middle).sum()))
            if middle >= smallest:  # the programme is feasible
                upper = radii[radii <= middle].max()
            else:
                lower = radii[radii >= middle].min()
        asked.clear()
        solution = k_center.robust_search(seen, 3, outliers=0, bounds="authors")
        assert asked == wanted
        worse += solution.radius > solution.greedy_radius
    assert worse  # than farthest-first, which the right bounds rule out


@pytest.mark.parametrize("acquire", ACQUIRE)
def test_what_no_batch_can_be_drawn_from_is_refused(rng, acquire):
    seen = some_points(rng, 9, 6)
    for batch_size in (0, 7):
        with pytest.raises(ValueError, match=f"batch of {batch_size} cannot be drawn from 6"):
            acquire(seen, batch_size, rng)
    for features in (None, torch.full((9, 2), torch.nan)):
        with pytest.raises(ValueError, match="features"):
            acquire(Beliefs(seen.candidates, features=features), 2, rng)


@pytest.mark.parametrize(
    "wrong", [{"outliers": 6}, {"outliers": -1}, {"steps": 0}, {"seconds": 0.0}, {"bounds": "both"}]
)
def test_settings_without_a_meaning_are_refused(rng, wrong):
    with pytest.raises(ValueError, match=f"got .*{list(wrong)[0]}"):
        k_center.robust_search(some_points(rng, 9, 6), 2, **wrong)
