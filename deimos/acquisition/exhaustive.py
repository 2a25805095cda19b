"""The best of all batches, by trying every one of them (App. A).

Axes:  J dropout masks · S sample points · c outputs · n candidates · b batch size
I covariances side by side · K beginnings of batches · m candidates after a beginning
"""

from collections import defaultdict

import torch
from jaxtyping import Float, Int
from torch import Tensor

from deimos.acquisition.checks import rounding, sorted_candidates


def optimal_batch(
    V: Float[Tensor, "S c S c"], candidates: Int[Tensor, " n"], batch_size: int
) -> tuple[Int[Tensor, " b"], float]:
    """Find the batch that lowers the trace of V most of all; return both (App. A)."""
    batches, removed = optimal_batches(V[None], candidates, batch_size)
    return batches[0], removed[0].item()


def optimal_batches(
    V: Float[Tensor, "I S c S c"], candidates: Int[Tensor, " n"], batch_size: int
) -> tuple[Int[Tensor, "I b"], Float[Tensor, " I"]]:
    """`optimal_batch` for I covariances side by side.

    Batches that begin alike share the conditioning on their beginning, and beginnings that end with
    the same point are extended together. P is the covariance, given the beginning, of the m
    candidates after it, and Q the same rows and columns of its square. Time and memory grow with
    the number of batches.
    """
    candidates = sorted_candidates(candidates, V.shape[1], batch_size)
    n, c = len(candidates), V.shape[2]
    rows = V[:, candidates].flatten(3).flatten(1, 2)  # [I nc Sc]
    P = rows.unflatten(2, (-1, c))[:, :, candidates].flatten(2)  # [I nc nc]
    P, Q = (X.movedim(0, -1)[:, :, None].contiguous() for X in (P, rows @ rows.mT))  # [nc nc 1 I]
    floor = torch.stack([rounding(instance) for instance in V]).mean().item()
    if batch_size == 1:
        P, Q = diagonal_blocks(P, c), diagonal_blocks(Q, c)

    # For each last point its beginnings [K k], what they remove [K I], P and Q [… K I].
    ends = {-1: (candidates.new_empty(1, 0), V.new_zeros(1, len(V)), P, Q)}
    for size in range(1, batch_size):
        longer = defaultdict(list)
        for last, (beginnings, removed, P, Q) in ends.items():
            for point in range(last + 1, n - batch_size + size):
                row = c * (point - last - 1)
                gain, *PQ = condition_on_first(
                    P[row:, row:], Q[row:, row:], c, floor, size == batch_size - 1
                )
                beginning = torch.nn.functional.pad(beginnings, (0, 1), value=point)
                longer[point].append((beginning, removed + gain, *PQ))
        ends = {
            point: [torch.cat(x, max(0, x[0].dim() - 2)) for x in zip(*parts, strict=True)]
            for point, parts in longer.items()
        }

    most, batches = V.new_full((len(V),), -torch.inf), candidates.new_zeros(len(V), batch_size)
    for last, (beginnings, removed, P, Q) in ends.items():
        gain, _, _ = condition_on_first(P.flatten(3), Q.flatten(3), c, floor)  # [m KI]
        best, where = (removed.flatten() + gain).unflatten(1, removed.shape).flatten(0, 1).max(0)
        ending = last + 1 + where // len(beginnings)
        batch = torch.cat([beginnings[where % len(beginnings)], ending[:, None]], 1)
        batches = torch.where((best > most)[:, None], candidates[batch], batches)
        most = torch.maximum(best, most)
    return batches, most


def condition_on_first(
    P: Float[Tensor, "mc mc K I"],
    Q: Float[Tensor, "mc mc K I"],
    c: int,
    floor: float,
    ending: bool = False,
) -> tuple[Float[Tensor, "K I"], Tensor, Tensor]:
    """Condition on the first point: the variance that it removes, and P and Q of the others.

    An output with no variance above the floor removes nothing. Of P and Q only the diagonal blocks
    are kept where the batch is ending: the scores need no more.
    """
    removed = 0.0
    for output in range(c):
        precision = torch.where(P[0, 0] > floor, 1 / P[0, 0], 0.0)
        gain = Q[0, 0] * precision
        removed = removed + gain
        x = P[1:, 0]
        y = (Q[1:, 0] + Q[0, 1:] - x * gain) * precision
        P, Q = P[1:, 1:], Q[1:, 1:]
        if ending and output == c - 1:
            P, Q = diagonal_blocks(P, c), diagonal_blocks(Q, c)
            x, y = (v.unflatten(0, (-1, c)).transpose(0, 1) for v in (x, y))  # [c m K I]
        P = P.addcmul(x[:, None], x * precision, value=-1)
        Q = Q.addcmul(x[:, None], y, value=-1)  # its symmetric part is right, and all that counts
    return removed, P, Q


def diagonal_blocks(P: Float[Tensor, "mc mc K I"], c: int) -> Float[Tensor, "c c m K I"]:
    """Each point's own c × c block."""
    apart = P.unflatten(0, (-1, c)).unflatten(2, (-1, c))  # [m c m c K I]
    return apart.diagonal(dim1=0, dim2=2).movedim(-1, 2)
