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

Axes:  J dropout masks · c outputs · S sample points, n of them candidates · b batch size
"""

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from deimos.cores import one_thread as one_thread
from deimos.inputs import (
    TIE,
    centred,
    check_nuggets,
    check_predictions,
    check_weights,
    first_best,
    in_order,
)

BLOCK = 2**18  # numbers of W worked on at a time, so that they stay in the processor's cache
ON_GPU = 2**26  # the same on a GPU, where few long operations are faster and memory is the limit
FEW = 2**19  # predictions, for which one core is faster than a GPU that is asked back at every pick


def select(
    predictions: Float[Tensor, "J S c"],
    candidates: Int[Tensor, " n"],
    batch_size: int,
    noise: float = 0.0,
    smoothing: float = 0.0,
    weights: Float[Tensor, " S"] | None = None,
) -> Int[Tensor, " b"]:
    """What `greedy_batch` picks from `covariance(predictions, noise)`, without that matrix.

    `noise` is τ⁻¹ (eq. 5, and classification as the authors ran it), `smoothing` is τ_s⁻¹ (eq. 6
    as printed); at most one of them is not 0. `weights` say how much each sample point matters,
    candidate or not: all the same unless given.
    """
    return select_with_gains(predictions, candidates, batch_size, noise, smoothing, weights)[0]


@torch.no_grad()
@one_thread()
def select_with_gains(
    predictions: Float[Tensor, "J S c"],
    candidates: Int[Tensor, " n"],
    batch_size: int,
    noise: float = 0.0,
    smoothing: float = 0.0,
    weights: Float[Tensor, " S"] | None = None,
) -> tuple[Int[Tensor, " b"], Float[Tensor, " b"]]:
    """The batch, and the expected improvement of each of its points given those before it."""
    if predictions.is_cuda and predictions.numel() < FEW:
        about = (None if one is None else one.cpu() for one in (predictions, candidates, weights))
        here, among, how_much = about
        found = select_with_gains(here, among, batch_size, noise, smoothing, how_much)
        return tuple(one.to(predictions.device) for one in found)
    check_nuggets(noise, smoothing)
    check_predictions(predictions)
    S = predictions.shape[1]
    candidates = in_order(candidates, S, batch_size)
    features, scale = standard_features(predictions, noise + smoothing)
    others = torch.ones(S, dtype=torch.bool, device=features.device)
    others[candidates] = False
    inside, outside = None, None  # the weights of candidates and others, where there are some
    if weights is not None:
        weights = check_weights(weights, S).to(features)
        inside, outside = weights[candidates], weights[others]
    F, rest = apart(features, others)
    del features

    eps = torch.finfo(F.dtype).eps
    noise, nugget = noise / scale, (noise + smoothing) / scale
    exhausts = nugget == 0
    nugget = nugget or 64 * eps  # so that 0/0 is 0, and not rounding error over rounding error
    # Beside so small a nugget the outputs of a point must be told apart afresh after every pick.
    delicate = F.shape[1] > 1 and nugget < 1e-4
    weight = torch.ones_like(F[0, 0]) if inside is None else inside
    own_noise = noise * predictions.shape[2] * weight  # what its label takes away at itself
    bonus = own_noise + noise * F.shape[1] * weight
    CE = F.new_empty(2 * F.shape[1], *F.shape[1:])
    picked, gains, nothing, fresh = [], [], 0.0, False
    while True:
        if not fresh:
            F = uncorrelated(F) if delicate else F
            M, H = torch.eye(len(F)).to(F), second_moment(F, inside) + second_moment(rest, outside)
            W, Q, score = blocks(F, H, noise**2 * weight, nugget)
            start = Q.diagonal() + noise**2 * weight[:, None]
            known, fresh = len(picked), True
            start[picked] = 0
            greatest = start.max().item()
        total = score + bonus
        best, top = first_best(total, nothing)

        # W and Q keep the rounding errors of what they were at the start. Before those can be seen
        # beside the best score, start afresh from features given the batch, which lose nothing.
        visible = eps**-0.25 * max(top - own_noise[best].item(), 0)
        stale = delicate or (
            greatest > nugget * visible and (start / W.diagonal().clamp(min=nugget)).max() > visible
        )
        if stale and len(picked) > known:
            R = root(F[:, :, picked[known:]].flatten(1), nugget)
            if noise:
                F[:, :, picked] = 0
            for part in (*F.split(BLOCK, -1), *rest.split(BLOCK, -1)):
                part.copy_(project(R, part))
            fresh = False
            continue
        picked.append(best)
        gains.append(total[best].item())
        if len(picked) == batch_size:
            return candidates[picked], F.new_tensor(gains) * scale
        nothing = TIE * gains[0] if exhausts else 0.0

        # In the axes of W_n the outputs of n are independent observations.
        variance, axes = axes_of(W[:, :, best])
        variance = variance.clamp(min=nugget)
        x = F[:, :, best] @ (axes / variance.sqrt())
        w, r = M @ x, H @ x
        e = torch.addmm(r, w, x.T @ r, alpha=-0.5)
        if noise:
            e.addcdiv_(w, variance, value=noise**2 / 2 * weight[best].item())
        # M loses wwᵀ and H loses weᵀ + ewᵀ, so W loses CCᵀ and Q loses CEᵀ + ECᵀ.
        M.addmm_(w, w.T, alpha=-1)
        H.addmm_(w, e.T, alpha=-1).addmm_(e, w.T, alpha=-1)
        torch.mm(torch.cat([w, e], 1).T, F.flatten(1), out=CE.flatten(1))
        lower(W, Q, score, CE, nugget)
        start[best], bonus[best] = 0, -torch.inf


def standard_features(
    predictions: Float[Tensor, "J S c"], nugget: float
) -> tuple[Float[Tensor, "J d S"], float]:
    """F over the root of the mean variance, and that variance; in double precision.

    Class probabilities sum to one, so that only c − 1 of their directions vary: the last is left
    out (d = c − 1) where its variance is as good as nothing beside the nugget.
    """
    J, S, c = predictions.shape
    F = centred(predictions).mT
    scale = torch.linalg.vector_norm(F).item() ** 2 / (J - 1) / (S * c) or 1.0
    nothing = 1e-11 * (nugget or 64 * torch.finfo(F.dtype).eps * scale) * (J - 1)
    if c > 1 and F.sum(1).square().sum(0).max() <= c * nothing:
        ones_first = torch.cat([torch.ones(c, 1), torch.eye(c)[:, 1:]], 1).to(F)
        F = torch.linalg.qr(ones_first).Q[:, 1:].T @ F
    return F.contiguous().div_(((J - 1) * scale) ** 0.5), scale


def apart(
    features: Float[Tensor, "J d S"], others: Bool[Tensor, " S"]
) -> tuple[Float[Tensor, "J d n"], Float[Tensor, "J d r"]]:
    """The features of the candidates, and those of the `others`, which are no candidates.

    Of a whole pool there is no room for a second copy: the larger part takes the place of both.
    """
    J, d, S = features.shape
    if not others.any():
        return features, features[:, :, :0]
    most = others if others.sum() > S // 2 else ~others
    fewer, memory, n = features[:, :, ~most], features.view(-1), d * int(most.sum())
    for j in range(J):
        memory[j * n : (j + 1) * n] = features[j, :, most].flatten()
    more = memory[: J * n].view(J, d, -1)
    return (fewer, more) if most is others else (more, fewer)


def blocks(
    F: Float[Tensor, "J c n"], H: Float[Tensor, "J J"], own: Float[Tensor, " n"], nugget: float
) -> tuple[Float[Tensor, "c c n"], Float[Tensor, "c c n"], Float[Tensor, " n"]]:
    """W and Q of every candidate, with `own` = w_i τ⁻², and its score."""
    _, c, n = F.shape
    W, Q, score = F.new_empty(c, c, n), F.new_empty(c, c, n), F.new_empty(n)
    for w, q, s, f, o in in_parts(W, Q, score, F, own):
        Hf = project(H, f)
        for a in range(c):
            w[a, a:] = w[a:, a] = (f[:, a, None] * f[:, a:]).sum(0)
            q[a, a:] = q[a:, a] = (Hf[:, a, None] * f[:, a:]).sum(0)
        w.diagonal().add_(nugget)
        q.diagonal().sub_(o[:, None])
        s.copy_(ratio(w, q, nugget))
    return W, Q, score


def lower(
    W: Float[Tensor, "c c n"],
    Q: Float[Tensor, "c c n"],
    score: Float[Tensor, " n"],
    CE: Float[Tensor, "k c n"],
    nugget: float,
) -> None:
    """W − CCᵀ, Q − 2CEᵀ and the score that follows, in place.

    2CEᵀ differs from CEᵀ + ECᵀ by a skew matrix, which no trace with a symmetric one sees.
    """
    for w, q, s, part in in_parts(W, Q, score, CE):
        for x, y in zip(*part.chunk(2), strict=True):
            w.addcmul_(x[:, None], x, value=-1)
            q.addcmul_(x[:, None], y, value=-2)
        s.copy_(ratio(w, q, nugget))


def axes_of(W: Float[Tensor, "c c"]) -> tuple[Float[Tensor, " c"], Float[Tensor, "c c"]]:
    """The variances along W's principal axes, and these axes as columns.

    By the processor: a GPU takes milliseconds for so small a matrix.
    """
    if len(W) == 1:
        return W[0], torch.ones_like(W)
    variances, axes = torch.linalg.eigh(W.cpu())
    return variances.to(W.device), axes.to(W.device)


def ratio(
    W: Float[Tensor, "c c n"], Q: Float[Tensor, "c c n"], nugget: float
) -> Float[Tensor, " n"]:
    """tr(W⁻¹Q), by eliminating one output after the other; no pivot is truly below the nugget."""
    pivot = W[0, 0].clamp(min=nugget)
    total = Q[0, 0] / pivot
    if len(W) == 1:
        return total
    w = W[1:, 0] / pivot
    q = Q[1:, 0] - w * Q[0, 0]
    Q = Q[1:, 1:].addcmul(w[:, None], Q[:1, 1:], value=-1).addcmul_(q[:, None], w, value=-1)
    W = W[1:, 1:].addcmul(w[:, None], W[:1, 1:], value=-1)
    return total.add_(ratio(W, Q, nugget))


def in_parts(W: Float[Tensor, "c c n"], *others: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """W and others side by side, in parts of as many points as fit in the cache."""
    points = max(1, (ON_GPU if W.is_cuda else BLOCK) // len(W) ** 2)
    if points >= W.shape[2]:
        return iter([(W, *others)])
    return zip(*(tensor.split(points, -1) for tensor in (W, *others)), strict=True)


def second_moment(
    F: Float[Tensor, "J c n"], weights: Float[Tensor, " n"] | None = None
) -> Float[Tensor, "J J"]:
    """Σ_i w_i f_if_iᵀ."""
    if weights is None:
        return F.flatten(1) @ F.flatten(1).T
    total = F.new_zeros(len(F), len(F))
    for f, part in zip(F.split(BLOCK, -1), weights.split(BLOCK), strict=True):
        total += (f * part).flatten(1) @ f.flatten(1).T
    return total


def uncorrelated(F: Float[Tensor, "J c n"]) -> Float[Tensor, "J c n"]:
    """Each point's outputs turned to its own principal axes, which changes no trace.

    A variance that is small beside the others of its point keeps its digits that way.
    """
    f = F.permute(2, 0, 1)  # [n J c]
    axes = torch.linalg.eigh(f.mT @ f).eigenvectors.flip(-1)
    return (f @ axes).permute(1, 2, 0).contiguous()


def root(X: Float[Tensor, "J k"], nugget: float) -> Float[Tensor, "J J"]:
    """R with RRᵀ = (I + XXᵀ/nugget)⁻¹: what is left of the features once X is known is Rᵀf."""
    U, sigma, _ = torch.linalg.svd(X, full_matrices=False)
    shrink = 1 - (nugget / (sigma**2 + nugget)).sqrt()
    return torch.eye(len(X)).to(X) - U * shrink @ U.T


def project(A: Float[Tensor, "J r"], F: Float[Tensor, "J c n"]) -> Float[Tensor, "r c n"]:
    """Aᵀf_i for every point."""
    return (A.T @ F.flatten(1)).unflatten(1, F.shape[1:])
