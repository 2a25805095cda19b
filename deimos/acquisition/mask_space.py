"""The features of mask space: F, the centred predictions over √(J−1), a column a point (§4).

V = τ⁻¹I + FᵀF, and J × J matrices say all of it. Of many points F is kept in parts of a fixed size,
each a core's. J masks span J − 1 directions, so that a point's outputs, if they are more, are
turned into J − 1 of them and zeros: an orthogonal turn of a point's own outputs changes no trace.

Axes:  J dropout masks · S sample points, p of them in a part · c outputs · d of them that vary
"""

import torch
from jaxtyping import Float
from torch import Tensor

from deimos.acquisition.checks import centred
from deimos.acquisition.cores import Cores

BLOCK = 2**18  # numbers that fit in the processor's cache
PART = 2**17  # predictions of one mask in a part
WIDE = 16  # outputs of a point from which whole blocks are worked on, and not number by number


def parts_of(predictions: Float[Tensor, "J S c"]) -> list[Float[Tensor, "J _ c"]]:
    """Views of the points in parts; on a GPU, which is one core in this, one part."""
    _, S, c = predictions.shape
    return list(predictions.split(S if predictions.is_cuda else max(1, PART // c), 1))


def standard_features(
    predictions: Float[Tensor, "J S c"], nugget: float
) -> tuple[Float[Tensor, "J d S"], float]:
    """F over the root of the mean variance, and that variance; in double precision."""
    parts = parts_of(predictions)
    with Cores(len(parts)) as cores:
        features, scale = features_in_parts(parts, nugget, cores)
    return features[0] if len(features) == 1 else torch.cat(features, -1), scale


def features_in_parts(
    parts: list[Float[Tensor, "J _ c"]], nugget: float, cores: Cores
) -> tuple[list[Float[Tensor, "J d _"]], float]:
    """`standard_features`, a part at a time.

    Class probabilities sum to one, so that only c − 1 of their directions vary: the last is left
    out (d = c − 1) where its variance is as good as nothing beside the nugget. Of many classes and
    fewer masks J − 1 are left.
    """
    (J, _, c), S = parts[0].shape, sum(part.shape[1] for part in parts)
    many = c > max(WIDE, J - 1)

    def centre(part: Float[Tensor, "J p c"]) -> tuple[Tensor, float]:
        F = centred(part).mT
        squares = torch.linalg.vector_norm(F).item() ** 2
        return (turned(F) if many else F), squares

    found = cores.each(centre, parts)
    features = [F for F, _ in found]
    scale = sum(squares for _, squares in found) / (J - 1) / (S * c) or 1.0
    del found
    nothing = 1e-11 * (nugget or 64 * torch.finfo(features[0].dtype).eps * scale) * (J - 1)

    def sums(F: Float[Tensor, "J c p"]) -> float:
        return F.sum(1).square().sum(0).max().item()

    one_less = c > 1 and not many and max(cores.each(sums, features)) <= c * nothing
    ones_first = torch.cat([torch.ones(c, 1), torch.eye(c)[:, 1:]], 1).to(features[0])
    contrasts = torch.linalg.qr(ones_first).Q[:, 1:].T if one_less else None

    def unit(i: int) -> Float[Tensor, "J d p"]:
        F, features[i] = features[i], None
        F = F if contrasts is None else contrasts @ F
        return F.contiguous().div_(((J - 1) * scale) ** 0.5)

    return cores.each(unit, range(len(features))), scale


def turned(F: Float[Tensor, "J c p"]) -> Float[Tensor, "J r p"]:
    """Each point's outputs turned into the r = J − 1 directions that masks can tell apart.

    With C an orthonormal basis of what sums to 0 over masks, F_i = CCᵀF_i, and of (CᵀF_i)ᵀ = QR
    the c × r matrix Q is the turn: F_iQ = CRᵀ.
    """
    J = len(F)
    ones_first = torch.cat([torch.ones(J, 1), torch.eye(J)[:, 1:]], 1).to(F)
    C = torch.linalg.qr(ones_first).Q[:, 1:]  # [J r]
    R = torch.linalg.qr(torch.einsum("jr,jcp->pcr", C, F), mode="r").R  # [p r r]
    return torch.einsum("jr,pkr->jkp", C, R).contiguous()


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
