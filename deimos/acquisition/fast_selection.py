"""The greedy batch without the covariance matrix: Algorithm 1 in mask space, exact (§4).

V = τ⁻¹I + FᵀF, with F the centred predictions over √(J−1), so J × J matrices say it all. Let
M be what the batch so far has left of the J × J identity, G = Σ_j f_jf_jᵀ and H = MGM. Then

    eq. 5:  W_i = f_iᵀMf_i + τ⁻¹I,    Q_i = f_iᵀHf_i − τ⁻²I,  EI(i) = tr(W_i⁻¹Q_i) + 2cτ⁻¹
    eq. 6:  W_i = f_iᵀMf_i + τ_s⁻¹I,  Q_i = f_iᵀHf_i,         EI(i) = tr(W_i⁻¹Q_i)

where a picked point leaves G in the first and stays in the second. One more label lowers the
c × c blocks W and Q by products of a few J-vectors with F: O(S J c²) a pick, O(S J c) memory,
nothing S × S.

Where point j matters w_j times, EI(i) = Σ_j w_j tr(V_ji W_i⁻¹ V_ij): G = Σ_j w_j f_jf_jᵀ, and in
eq. 5, where V_ii alone has a τ⁻¹, Q_i = f_iᵀHf_i − w_i τ⁻²I and EI(i) = tr(W_i⁻¹Q_i) + 2c w_i τ⁻¹.

Points come in parts of a fixed size, each a core's: the same batch on any number of cores. With
many points of one output, reading F takes most of the time, so one reading serves several picks:
those that follow if only the best points of now are looked at. Where another comes out, F is read
again.

Axes:  J dropout masks · c outputs · S sample points, n of them candidates · b batch size
"""

from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from deimos.acquisition.candidate_blocks import lower
from deimos.acquisition.checks import (
    TIE,
    Whole,
    check_nuggets,
    check_predictions,
    check_weights,
    sorted_candidates,
    whole_number,
)
from deimos.acquisition.cores import Cores
from deimos.acquisition.cores import one_thread as one_thread
from deimos.acquisition.mask_space import (
    parts_of,
    project,
    root,
    second_moment,
    standard_features,
)
from deimos.acquisition.search_state import (
    AHEAD,
    Label,
    Part,
    Search,
    apply_label,
    begin,
    label_effect,
    rate,
    refresh,
)

# Predictions, for which one core is faster than a GPU that is asked back at every pick
FEW_PREDICTIONS = 2**19
AMONG = 64  # best points of each part, among which the next picks are foreseen


def select(
    predictions: Float[Tensor, "J S c"],
    candidates: Int[Tensor, " n"],
    batch_size: Whole,
    noise: float = 0.0,
    smoothing: float = 0.0,
    weights: Float[Tensor, " S"] | None = None,
) -> Int[Tensor, " b"]:
    """Pick as `greedy_batch` does from `covariance(predictions, noise)`, without that matrix.

    `noise` is τ⁻¹ (eq. 5, and classification as the authors ran it), `smoothing` is τ_s⁻¹ (eq. 6
    as printed); at most one of them is not 0. `weights` say how much each sample point matters,
    candidate or not: all the same unless given.
    """
    return select_with_gains(predictions, candidates, batch_size, noise, smoothing, weights)[0]


@torch.no_grad()
def select_with_gains(
    predictions: Float[Tensor, "J S c"],
    candidates: Int[Tensor, " n"],
    batch_size: Whole,
    noise: float = 0.0,
    smoothing: float = 0.0,
    weights: Float[Tensor, " S"] | None = None,
) -> tuple[Int[Tensor, " b"], Float[Tensor, " b"]]:
    """The batch, and the expected improvement of each of its points given those before it."""
    if predictions.is_cuda and predictions.numel() < FEW_PREDICTIONS:
        about = (None if one is None else one.cpu() for one in (predictions, candidates, weights))
        here, among, how_much = about
        found = select_with_gains(here, among, batch_size, noise, smoothing, how_much)
        return tuple(one.to(predictions.device) for one in found)
    check_nuggets(noise, smoothing)
    check_predictions(predictions)
    S, batch_size = predictions.shape[1], whole_number(batch_size, "the batch size")
    candidates = sorted_candidates(candidates, S, batch_size)
    weights = None if weights is None else check_weights(weights, S)
    with Cores(len(parts_of(predictions))) as cores:
        search = begin(predictions, candidates, noise, smoothing, weights, cores)
        picked, gains = [], []
        while True:
            best, gain = pick(search, TIE * gains[0] if gains and search.exhausts else 0.0)
            picked.append(best)
            gains.append(gain)
            if len(picked) == batch_size:
                return candidates[picked], search.M.new_tensor(gains) * search.scale
            condition_masks(search, best)


def pick(search: Search, nothing: float) -> tuple[int, float]:
    """The best candidate and its expected improvement; ties go to the first.

    W and Q keep the rounding errors of what they were at the start. Before those can be seen
    beside the best score, start afresh from features given the batch, which lose nothing.
    """
    while True:
        top = max(part.best for part in search.parts)
        as_good = top - max(TIE * abs(top), nothing)
        part = next(part for part in search.parts if part.best >= as_good)
        place = part.total.clamp(max=as_good).argmax().item()  # argmax takes the first
        best = part.first + place
        if len(search.picked) == search.known:
            return best, part.total[place].item()
        eps = torch.finfo(part.F.dtype).eps
        visible = eps**-0.25 * max(top - part.own_noise[place].item(), 0)
        if not (search.delicate or is_stale(search, visible)):
            return best, part.total[place].item()
        start_afresh(search)


def is_stale(search: Search, visible: float) -> bool:
    """True if some block may have lost so much that its rounding errors are visible."""
    if not search.greatest > search.nugget * visible:
        return False
    return any(
        (p.start / p.W.diagonal().clamp(min=search.nugget)).max().item() > visible
        for p in search.parts
        if len(p.start)
    )


def start_afresh(search: Search) -> None:
    """Features given all that is picked, and all that follows from them."""
    new = [search.at(n) for n in search.picked[search.known :]]
    R = root(torch.cat([part.F[:, :, n : n + 1] for part, n in new], 2).flatten(1), search.nugget)
    if search.noise:
        for part, n in [search.at(n) for n in search.picked]:
            part.F[:, :, n] = 0

    def given(part: Part) -> None:
        for F in (part.F, part.rest):
            if F.shape[2]:
                F.copy_(project(R, F))

    search.cores.each(given, search.parts)
    refresh(search)


def condition_masks(search: Search, best: int) -> None:
    """Condition all blocks and scores on the label of the best candidate."""
    if not search.foreseen or search.foreseen[0].pick != best:
        search.foreseen = look_ahead(search, best)
        C_and_E = torch.cat([x for label in search.foreseen for x in (label.w, label.e)], 1).T

        def read(part: Part) -> None:
            CE = part.CE[: len(search.foreseen)]
            torch.mm(C_and_E, part.F.flatten(1), out=CE.view(len(C_and_E), -1))

        search.cores.each(read, search.parts)
    label = search.foreseen.pop(0)
    apply_label(search, label)

    def less(part: Part) -> None:
        lower(part.W, part.Q, part.score, part.CE[label.place], search.nugget, search.wide)
        rate(part)

    search.cores.each(less, search.parts)


def look_ahead(search: Search, best: int) -> list[Label]:
    """The label of the best candidate, and those of the next few were only the best there."""
    found = [label_effect(search, best)]
    if len(search.parts[0].CE) > 1:
        few, candidates = the_best(search, best)
        at = candidates.index(best)
        while len(found) < AHEAD:
            condition_masks(few, at)
            at = few.parts[0].total.argmax().item()
            found.append(replace(label_effect(few, at), pick=candidates[at], place=len(found)))
    return found


def the_best(search: Search, best: int) -> tuple[Search, list[int]]:
    """A search among the candidates that score best in each part, and which they are."""
    own, place = search.at(best)

    def among(part: Part) -> tuple[Tensor, list[Tensor]]:
        these = part.total.topk(min(AMONG, len(part.total))).indices
        if part is own:
            these = torch.cat([these[these != place], these.new_tensor([place])])
        about = part.F, part.weight, part.own_noise, part.bonus, part.W, part.Q, part.start.T
        return part.first + these, [one[..., these] for one in about]

    found = search.cores.each(among, [part for part in search.parts if len(part.total)])
    about = (torch.cat(one, -1) for one in zip(*(about for _, about in found), strict=True))
    F, weight, own_noise, bonus, W, Q, start = about
    CE = F.new_empty(1, 2 * F.shape[1], *F.shape[1:])
    few = Part(F, F[:, :, :0], None, None, 0, weight, own_noise, bonus, CE, W, Q)
    few.start, few.score = start.T, torch.empty_like(weight)
    M, H = search.M.clone(), search.H.clone()
    candidates = torch.cat([these for these, _ in found]).tolist()
    return replace(search, parts=[few], M=M, H=H, picked=[], foreseen=[]), candidates


@torch.no_grad()
def improvements(
    predictions: Float[Tensor, "J S c"],
    candidates: Int[Tensor, " n"],
    picked: Int[Tensor, " k"],
    noise: float = 0.0,
    smoothing: float = 0.0,
) -> Float[Tensor, " n"]:
    """Expected improvement of each candidate once `picked` are known: tr(V_i V_ii⁻¹ V_iᵀ)."""
    F, scale = standard_features(predictions, noise + smoothing)
    noise, nugget = noise / scale, (noise + smoothing) / scale or 1e-12
    if len(picked):
        F = project(root(F[:, :, picked].flatten(1), nugget), F)
        if noise:
            F[:, :, picked] = 0
    d, left_out = F.shape[1], predictions.shape[2] - F.shape[1]
    G, one, found = second_moment(F), torch.eye(d).to(F), []
    for some in candidates.split(max(1, 2**22 // (d * len(F)))):
        f = F[:, :, some].permute(2, 1, 0)  # [n d J]
        V_ii = f @ f.mT
        VV_ii = f @ G @ f.mT + 2 * noise * V_ii + noise**2 * one
        gains = torch.linalg.solve(V_ii + nugget * one, VV_ii).diagonal(dim1=1, dim2=2).sum(1)
        found.append(scale * (gains + left_out * noise))
    return torch.cat(found)


def batch_improvement(
    predictions: Float[Tensor, "J S c"],
    batch: Int[Tensor, " b"],
    noise: float = 0.0,
    smoothing: float = 0.0,
    weights: Float[Tensor, " S"] | None = None,
) -> float:
    """`variance_removed` from `covariance(predictions, noise)`, without that matrix."""
    gains = select_with_gains(predictions, batch, len(batch), noise, smoothing, weights)[1]
    return gains.sum().item()
