"""The c × c blocks W_i and Q_i of every candidate, and the score tr(W_i⁻¹Q_i) (§4).

Few outputs are worked on number by number, points side by side, which keeps their digits; of many,
whole blocks are factorised, one after another. Beside a tiny nugget the first alone is safe.

Axes:  J dropout masks · c outputs · n candidates
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from deimos.acquisition.mask_space import BLOCK, WIDE, project

ON_GPU = 2**26  # as BLOCK on a GPU, where few long operations are faster and memory is the limit


def blocks(
    F: Float[Tensor, "J c n"],
    H: Float[Tensor, "J J"],
    own: Float[Tensor, " n"],
    nugget: float,
    wide: bool = False,
) -> tuple[Float[Tensor, "c c n"], Float[Tensor, "c c n"], Float[Tensor, " n"]]:
    """W and Q of every candidate, with `own` = w_i τ⁻², and its score.

    `wide` ones lie in memory point by point.
    """
    _, c, n = F.shape
    W, Q = (F.new_empty(n, c, c).permute(1, 2, 0) if wide else F.new_empty(c, c, n) for _ in "WQ")
    score = F.new_empty(n)
    for w, q, s, f, o in in_parts(W, Q, score, F, own):
        Hf = project(H, f)
        if wide:
            point = f.permute(2, 1, 0).contiguous()  # [n c J]
            w.copy_((point @ point.mT).permute(1, 2, 0))
            q.copy_((Hf.permute(2, 1, 0) @ point.mT).permute(1, 2, 0))
        else:
            for a in range(c):
                w[a, a:] = w[a:, a] = (f[:, a, None] * f[:, a:]).sum(0)
                q[a, a:] = q[a:, a] = (Hf[:, a, None] * f[:, a:]).sum(0)
        w.diagonal().add_(nugget)
        q.diagonal().sub_(o[:, None])
        s.copy_(ratio(w, q, nugget, wide))
    return W, Q, score


def lower(
    W: Float[Tensor, "c c n"],
    Q: Float[Tensor, "c c n"],
    score: Float[Tensor, " n"],
    CE: Float[Tensor, "k c n"],
    nugget: float,
    wide: bool = False,
) -> None:
    """W − CCᵀ, Q − 2CEᵀ and the score that follows, in place.

    2CEᵀ differs from CEᵀ + ECᵀ by a skew matrix, which no trace with a symmetric one sees.
    """
    for w, q, s, part in in_parts(W, Q, score, CE):
        if wide:
            C, E = (x.permute(2, 1, 0).contiguous() for x in part.chunk(2))  # [n c k]
            w.permute(2, 0, 1).baddbmm_(C, C.mT, alpha=-1)
            q.permute(2, 0, 1).baddbmm_(C, E.mT, alpha=-2)
        else:
            for x, y in zip(*part.chunk(2), strict=True):
                w.addcmul_(x[:, None], x, value=-1)
                q.addcmul_(x[:, None], y, value=-2)
        s.copy_(ratio(w, q, nugget, wide))


def axes_of(W: Float[Tensor, "c c"]) -> tuple[Float[Tensor, " c"], Float[Tensor, "c c"]]:
    """The variances along W's principal axes, and these axes as columns.

    By the processor: a GPU takes milliseconds for so small a matrix.
    """
    if len(W) == 1:
        return W[0], torch.ones_like(W)
    variances, axes = torch.linalg.eigh(W.cpu())
    return variances.to(W.device), axes.to(W.device)


def ratio(
    W: Float[Tensor, "c c n"], Q: Float[Tensor, "c c n"], nugget: float, wide: bool = False
) -> Float[Tensor, " n"]:
    """tr(W⁻¹Q), by eliminating one output after the other; no pivot is truly below the nugget.

    If `wide`, by Cholesky factors.
    """
    if wide:
        root, failed = torch.linalg.cholesky_ex(W.permute(2, 0, 1))
        if not failed.any():
            return (torch.cholesky_inverse(root) * Q.permute(2, 1, 0)).sum((1, 2))
    parts = []
    while True:
        pivot = W[0, 0].clamp(min=nugget)
        parts.append(Q[0, 0] / pivot)
        if len(W) == 1:
            break
        w = W[1:, 0] / pivot
        q = Q[1:, 0] - w * Q[0, 0]
        Q = Q[1:, 1:].addcmul(w[:, None], Q[:1, 1:], value=-1).addcmul_(q[:, None], w, value=-1)
        W = W[1:, 1:].addcmul(w[:, None], W[:1, 1:], value=-1)
    total = parts.pop()
    while parts:
        total = parts.pop().add_(total)
    return total


def in_parts(W: Float[Tensor, "c c n"], *others: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """W and others side by side, in parts of as many points as fit in the cache."""
    points = max(1, (ON_GPU if W.is_cuda else BLOCK) // len(W) ** 2)
    if points >= W.shape[2]:
        return iter([(W, *others)])
    return zip(*(tensor.split(points, -1) for tensor in (W, *others)), strict=True)


def is_wide(c: int, delicate: bool) -> bool:
    """True if blocks are worked on whole."""
    return c > WIDE and not delicate
