"""State of a greedy search in mask space, and what one more label takes from it (§4).

`fast_selection` has the equations; W, Q, M, H and F here are those.

Axes:  J dropout masks · c outputs · n candidates · r other points of a part
"""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from deimos.acquisition.candidate_blocks import axes_of, blocks, is_wide
from deimos.acquisition.cores import Cores
from deimos.acquisition.mask_space import features_in_parts, parts_of, second_moment, uncorrelated

MANY = 2**23  # predictions of one output, which no cache holds
AHEAD = 4  # picks that one reading of F is to serve then


@dataclass
class Part:
    """Some of the points: features of candidates F and of others `rest`, blocks and scores."""

    F: Float[Tensor, "J c n"]
    rest: Float[Tensor, "J c r"]
    inside: Float[Tensor, " n"] | None  # weights of the candidates, where there are some
    outside: Float[Tensor, " r"] | None
    first: int  # the first candidate's place among all
    weight: Float[Tensor, " n"]
    own_noise: Float[Tensor, " n"]  # what a label takes away at the point itself
    bonus: Float[Tensor, " n"]
    CE: Float[Tensor, "ahead k c n"]  # what W and Q lose by the next picks
    W: Tensor = None
    Q: Tensor = None
    score: Tensor = None
    start: Tensor = None  # Q's diagonal when it was made, [n c]
    total: Tensor = None
    best: float = -torch.inf


@dataclass
class Label:
    """A pick's effect: M loses wwᵀ and H loses weᵀ + ewᵀ, so W loses CCᵀ and Q loses CEᵀ + ECᵀ."""

    pick: int
    w: Float[Tensor, "J c"]
    e: Float[Tensor, "J c"]
    place: int = 0  # its CE among those of the picks ahead


@dataclass
class Search:
    """State of the search between one pick and the next."""

    parts: list[Part]
    cores: Cores
    noise: float
    nugget: float
    scale: float
    exhausts: bool  # without a nugget, nothing is left beyond the rank
    delicate: bool  # the outputs of a point must be told apart afresh after every pick
    wide: bool
    M: Float[Tensor, "J J"] = None
    H: Float[Tensor, "J J"] = None
    picked: list[int] = field(default_factory=list)
    known: int = 0  # picks that the features are conditioned on
    foreseen: list["Label"] = field(default_factory=list)  # the next picks, whose CE are there
    greatest: float = 0.0

    def at(self, candidate: int) -> tuple[Part, int]:
        """The part that a candidate is in, and its place there."""
        part = next(part for part in reversed(self.parts) if part.first <= candidate)
        return part, candidate - part.first


def begin(
    predictions: Float[Tensor, "J S c"],
    candidates: Int[Tensor, " n"],
    noise: float,
    smoothing: float,
    weights: Float[Tensor, " S"] | None,
    cores: Cores,
) -> Search:
    """Features in parts, and blocks and scores before the first pick."""
    S, c = predictions.shape[1:]
    sizes = [part.shape[1] for part in parts_of(predictions)]
    features, scale = features_in_parts(parts_of(predictions), noise + smoothing, cores)
    is_candidate = torch.zeros(S, dtype=torch.bool, device=features[0].device)
    is_candidate[candidates] = True
    eps = torch.finfo(features[0].dtype).eps
    noise, nugget = noise / scale, (noise + smoothing) / scale
    d = features[0].shape[1]
    # Without a nugget 64 ε stands for it, so that 0/0 is 0, and not rounding error over another.
    delicate = d > 1 and (nugget or 64 * eps) < 1e-4
    search = Search(
        [], cores, noise, nugget or 64 * eps, scale, nugget == 0, delicate, is_wide(d, delicate)
    )
    few = d > 1 or predictions.numel() < MANY or predictions.is_cuda
    ahead, first = 1 if few else AHEAD, 0
    for i, inside in enumerate(is_candidate.split(sizes)):
        F, features[i] = features[i], None
        matters = None if weights is None else weights.to(F).split(sizes)[i]
        rest = F[:, :, ~inside] if not inside.all() else F[:, :, :0]
        F = F if inside.all() else F[:, :, inside]
        weight = torch.ones_like(F[0, 0]) if matters is None else matters[inside]
        own_noise = noise * c * weight
        search.parts.append(
            Part(
                F, rest, None if matters is None else weight,
                None if matters is None else matters[~inside], first, weight, own_noise,
                own_noise + noise * d * weight, F.new_empty(ahead, 2 * d, *F.shape[1:]),
            )
        )  # fmt: skip
        first += F.shape[2]
    refresh(search)
    return search


def refresh(search: Search) -> None:
    """M, H, and every candidate's blocks and score from the features as they are now."""

    def moments(part: Part) -> tuple[Tensor, Tensor]:
        part.F = uncorrelated(part.F) if search.delicate and part.F.shape[2] else part.F
        inside, outside = part.inside, part.outside
        return second_moment(part.F, inside), second_moment(part.rest, outside)

    found = search.cores.each(moments, search.parts)
    search.H = in_sum([inside for inside, _ in found]) + in_sum([outside for _, outside in found])
    search.M = torch.eye(len(search.H)).to(search.H)
    noise = search.noise

    def score(part: Part) -> None:
        own = noise**2 * part.weight
        part.W, part.Q, part.score = blocks(part.F, search.H, own, search.nugget, search.wide)
        part.start = part.Q.diagonal() + own[:, None]
        for n in search.picked:
            if part.first <= n < part.first + len(part.score):
                part.start[n - part.first] = 0
        rate(part)

    search.cores.each(score, search.parts)
    search.known, search.foreseen = len(search.picked), []
    search.greatest = max(p.start.max().item() for p in search.parts if len(p.start))


def in_sum(matrices: list[Tensor]) -> Tensor:
    """Their sum, in order."""
    total = matrices[0]
    for matrix in matrices[1:]:
        total = total + matrix
    return total


def rate(part: Part) -> None:
    """The expected improvement of a part's candidates, and the best of them."""
    part.total = part.score + part.bonus
    part.best = part.total.max().item() if len(part.total) else -torch.inf


def label_effect(search: Search, candidate: int) -> Label:
    """The effect of one candidate's label on M and H."""
    (part, place), M, H = search.at(candidate), search.M, search.H
    # In the axes of W_n the outputs of n are independent observations.
    variance, axes = axes_of(part.W[:, :, place])
    variance = variance.clamp(min=search.nugget)
    x = part.F[:, :, place] @ (axes / variance.sqrt())
    w, r = M @ x, H @ x
    e = torch.addmm(r, w, x.T @ r, alpha=-0.5)
    if search.noise:
        e.addcdiv_(w, variance, value=search.noise**2 / 2 * part.weight[place].item())
    return Label(candidate, w, e)


def apply_label(search: Search, label: Label) -> None:
    """M and H given one more label."""
    w, e = label.w, label.e
    search.M.addmm_(w, w.T, alpha=-1)
    search.H.addmm_(w, e.T, alpha=-1).addmm_(e, w.T, alpha=-1)
    search.picked.append(label.pick)
    part, place = search.at(label.pick)
    part.start[place], part.bonus[place] = 0, -torch.inf
