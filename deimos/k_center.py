"""Robust k-Center: the batch that leaves all candidates but Ξ near a labelled point (§5).

Sener & Savarese (2018) ask for the b new centres that minimise the robust radius: the (Ξ+1)-th
largest distance of a candidate to its nearest centre, new or labelled before. The smallest is one
of the distances between points, and is found by bisection: whether b centres reach a given one is a
covering programme (`covering.py`) of n columns, not the 2n² + n variables of the original.

Axes:  S sample points · h features · n candidates · b batch size
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from deimos.acquisition.beliefs import Beliefs, checked_candidates, checked_features
from deimos.acquisition.set_cover import any_cover, cover
from deimos.extras import extra

with extra("reproduce"):
    from scipy.spatial.distance import cdist, pdist, squareform

OUTLIERS = 0.001  # Ξ as a fraction of the candidates, the authors'
STEPS = 5  # of the bisection, the authors'
SECONDS = 20.0  # of the solver, a step
ROUNDING = 1e-12  # relative, of distances


@dataclass(frozen=True)
class Solution:
    """A batch, what is certain about it, and whether time ran out."""

    positions: Int[Tensor, " b"]
    radius: float  # the batch's robust radius: an upper bound on the smallest
    lower_bound: float  # proved: no batch of this size has a smaller robust radius
    greedy_radius: float  # the robust radius of the farthest-first batch
    limit_met: bool  # whether a radius was given up undecided, and then taken to be out of reach


@dataclass(frozen=True)
class Embedding:
    """The candidates in order of position, and how far each is from the nearest labelled point."""

    candidates: Int[Tensor, " n"]
    points: Float[np.ndarray, "n h"]
    near: Float[np.ndarray, " n"]  # ∞ where nothing is labelled


def robust_k_center(
    beliefs: Beliefs,
    batch_size: int,
    rng: np.random.Generator,
    outliers: int | None = None,
    steps: int = STEPS,
    seconds: float = SECONDS,
    bounds: str = "correct",
) -> Int[Tensor, " b"]:
    """The batch of `robust_search`. Nothing in it is random: `rng` is not used."""
    return robust_search(beliefs, batch_size, outliers, steps, seconds, bounds).positions


def greedy_k_center(
    beliefs: Beliefs, batch_size: int, rng: np.random.Generator
) -> Int[Tensor, " b"]:
    """Farthest-first, in the order of picking: the greedy core-set. `rng` is not used."""
    layout = embed(beliefs, batch_size)
    return layout.candidates[farthest_first(layout, batch_size)]


def robust_search(
    beliefs: Beliefs,
    batch_size: int,
    outliers: int | None = None,
    steps: int = STEPS,
    seconds: float = SECONDS,
    bounds: str = "correct",
) -> Solution:
    """Bisect for the smallest robust radius, in `steps` steps of at most `seconds` of solver each.

    A batch of one is exact: every candidate is tried, as by the authors, and the first of the best
    taken. Centres that a radius does not need are picked farthest-first.

    With `bounds="correct"` the search starts between half a farthest-first radius, which is proved,
    and the robust radius of the farthest-first batch: no answer is worse than that batch.
    `bounds="authors"` is the published search. Its upper bound takes distances to the new centres
    alone, and its lower bound is half of that, which proves nothing: where it is above the smallest
    radius the search ends short of it. The programme asks for any batch that reaches the radius, so
    the answer may be worse than farthest-first. `lower_bound` is proved all the same.
    """
    if steps < 1 or not seconds > 0 or bounds not in ("correct", "authors"):
        raise ValueError(
            f"got {steps=}, {seconds=}, {bounds=}, wanted 1 step or more, some time, and bounds "
            '"correct" or "authors"'
        )
    layout = embed(beliefs, batch_size)
    n = len(layout.points)
    outliers = int(OUTLIERS * n) if outliers is None else outliers
    if not 0 <= outliers < n:
        raise ValueError(f"got {outliers} outliers, wanted 0 to {n - 1}")
    search = _Search(layout, squareform(pdist(layout.points)), batch_size, outliers)
    greedy, proved = search.greedy()
    if batch_size == 1:
        found = search.one_centre()
    else:
        found = search.bisect(greedy, proved, steps, seconds, bounds)
    batch, proved, limit_met = found
    radius, greedy_radius = search.robust_radius(batch), search.robust_radius(greedy)
    return Solution(layout.candidates[batch], radius, proved, greedy_radius, limit_met)


@dataclass(frozen=True)
class _Search:
    """The search for one batch: its candidates, and what they are to each other."""

    layout: Embedding
    distances: Float[np.ndarray, "n n"]
    batch_size: int
    outliers: int  # Ξ

    def robust_radius(self, batch: Sequence[int]) -> float:
        """The (Ξ+1)-th largest distance of a candidate to its nearest centre."""
        nearest = np.minimum(self.layout.near, self.distances[batch].min(0))
        at = len(nearest) - 1 - self.outliers
        return float(np.partition(nearest, at)[at])

    def greedy(self) -> tuple[list[int], float]:
        """The farthest-first batch, and a proved lower bound on the smallest robust radius.

        Farthest-first with Ξ picks to spare ends with b + Ξ + 1 points a radius r or more apart,
        and as far from all that is labelled. Leave any Ξ out: two of the rest must share a new
        centre, or one make do with a labelled point, so that one is r/2 or more from its centre.
        """
        n = len(self.layout.points)
        order = farthest_first(self.layout, min(self.batch_size + self.outliers, n))
        farthest = np.minimum(self.layout.near, self.distances[order].min(0)).max()
        return order[: self.batch_size], float(farthest) / 2 * (1 - ROUNDING)

    def one_centre(self) -> tuple[list[int], float, bool]:
        """The best single centre, by trying each."""
        radii = [self.robust_radius([i]) for i in range(len(self.layout.points))]
        best = int(np.argmin(radii))
        return [best], radii[best], False

    def bisect(
        self, batch: list[int], proved: float, steps: int, seconds: float, bounds: str
    ) -> tuple[list[int], float, bool]:
        """The batch, a proved lower bound, and whether a step was given up undecided."""
        near, limit_met = self.layout.near, False
        lower, upper, search = proved, self.robust_radius(batch), cover
        if bounds == "authors":
            upper, search = float(self.distances[batch].min(0).max()), any_cover
            lower = upper / 2
        radii = np.unique(np.append(near, self.distances))  # all that a robust radius can be
        for _ in range(steps):
            within = radii[(lower <= radii) & (radii < upper)]
            if not len(within):
                break
            middle = max(np.searchsorted(within, (lower + upper) / 2, side="right") - 1, 0)
            delta, next_up = np.append(within, upper)[middle : middle + 2].tolist()
            reach = self.distances[near > delta] <= delta
            centres, certain = search(reach, self.batch_size, self.outliers, seconds)
            if centres is not None:
                batch = farthest_first(self.layout, self.batch_size, centres.tolist())
                assert self.robust_radius(batch) <= delta
                upper = delta if bounds == "authors" else self.robust_radius(batch)
            else:
                lower = next_up
                proved = max(proved, next_up) if certain else proved
                limit_met |= not certain
        if lower == proved and not np.any((lower <= radii) & (radii < upper)):
            proved = self.robust_radius(batch)
        return batch, proved, limit_met


def farthest_first(layout: Embedding, batch_size: int, start: Sequence[int] = ()) -> list[int]:
    """`start`, then one by one the candidate farthest from every centre; ties go to the first."""
    picked = list(start)
    near = np.minimum(
        layout.near, cdist(layout.points[picked], layout.points).min(0, initial=np.inf)
    )
    while len(picked) < batch_size:
        near[picked] = -1  # no point is picked twice, even where all coincide
        picked.append(int(near.argmax()))
        near = np.minimum(near, cdist(layout.points[picked[-1:]], layout.points)[0])
    return picked


def embed(beliefs: Beliefs, batch_size: int) -> Embedding:
    """The embedding on the CPU in double precision; ValueError if no batch can be drawn from it."""
    # In order, so that ties go to the lowest position
    candidates = checked_candidates(beliefs, batch_size)
    features = checked_features(beliefs, "k-Center").cpu().double().numpy()
    chosen = candidates.cpu().numpy()
    labelled = np.delete(features, chosen, axis=0)
    near = cdist(features[chosen], labelled).min(1, initial=np.inf)
    return Embedding(candidates, features[chosen], near)
