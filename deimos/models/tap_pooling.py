"""Sums of shifted products, pooled: what is left of a convolution after one matrix product.

A convolution's product with all of its taps side by side leaves Z[…, a, e, c], what tap (a, e) adds
to the unit a rows up and e columns left. `pooled_taps` adds the taps and takes the maximum of every
window, in one pass over Z, where single operations make a dozen; on a GPU by kernels of our own.

Axes:  B images · H × W places · a × e taps · c channels
"""

import math
from typing import no_type_check

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

try:
    import triton
    import triton.language as tl
except ImportError:  # torch for CPUs comes without it
    triton = None

UNITS = 1024  # of one program


def pooled_taps(
    Z: Float[Tensor, "B H W a e c"], window: tuple[int, int]
) -> Float[Tensor, "B h w c"]:
    """max over windows of Σ_ae Z[·, i+a, j+e, a, e], with what does not fill a window cut off."""
    # The kernels count in 32 bits and places of a window in 8, and add in float32.
    small = Z.numel() <= 2**31 - UNITS and math.prod(window) <= 256
    if triton is None or not Z.is_cuda or not small or Z.dtype == torch.float64:
        return pooled_taps_plain(Z, window)
    return _PooledTaps.apply(Z.contiguous(), *window)


def pooled_taps_plain(Z: Tensor, window: tuple[int, int]) -> Tensor:
    """The slow obvious twin."""
    (n_a, n_e), (h, w) = Z.shape[3:5], _sums(Z)
    sums = sum(Z[:, a : a + h, e : e + w, a, e] for a in range(n_a) for e in range(n_e))
    return F.max_pool2d(sums.permute(0, 3, 1, 2), window).permute(0, 2, 3, 1)


def _sums(Z: Tensor) -> tuple[int, int]:
    """Rows and columns for which all taps are there."""
    return Z.shape[1] - Z.shape[3] + 1, Z.shape[2] - Z.shape[4] + 1


class _PooledTaps(torch.autograd.Function):
    @staticmethod
    def forward(ctx, Z: Tensor, tall: int, wide: int) -> Tensor:
        B, H, W, n_a, n_e, c = Z.shape
        h, w = (size // side for size, side in zip(_sums(Z), (tall, wide), strict=True))
        out = Z.new_empty(B, h, w, c)
        place = torch.empty_like(out, dtype=torch.uint8)
        ctx.save_for_backward(place)
        ctx.sizes = H, W, h, w, c, n_a, n_e, tall, wide
        grid = (math.ceil(out.numel() / UNITS),)
        _add_and_pool[grid](Z, out, place, out.numel(), *ctx.sizes, UNITS)
        return out

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:
        (place,) = ctx.saved_tensors
        H, W, _, _, c, n_a, n_e, _, _ = ctx.sizes
        back = grad.new_empty(len(grad), H, W, n_a, n_e, c)
        grid = (math.ceil(back.numel() / UNITS),)
        _spread[grid](grad.contiguous(), place, back, back.numel(), *ctx.sizes, UNITS)
        return back, None, None


if triton is not None:
    # Triton compiles a function as it is: a type checker's wrapper would hide `tl` from it.

    @triton.jit
    @no_type_check
    def _add_and_pool(
        Z, out, place, size, H, W, h, w,
        C: tl.constexpr, A: tl.constexpr, E: tl.constexpr, TALL: tl.constexpr, WIDE: tl.constexpr,
        UNITS: tl.constexpr,
    ):  # fmt: skip
        """A program has UNITS units of the pooled layer; where NaN is, it is the maximum."""
        unit = tl.program_id(0) * UNITS + tl.arange(0, UNITS)
        there = unit < size
        c, cell = unit % C, unit // C
        column, row, image = cell % w, cell // w % h, cell // (w * h)
        best = tl.full([UNITS], float("-inf"), tl.float32)
        winner = tl.full([UNITS], 0, tl.int32)
        for p in tl.static_range(TALL):
            for q in tl.static_range(WIDE):
                total = tl.full([UNITS], 0.0, tl.float32)
                for a in tl.static_range(A):
                    for e in tl.static_range(E):
                        from_row = image * H + row * TALL + p + a
                        tap = ((from_row * W + column * WIDE + q + e) * A + a) * E + e
                        total += tl.load(Z + tap * C + c, there, other=0.0).to(tl.float32)
                better = (total > best) | (total != total)
                best = tl.where(better, total, best)
                winner = tl.where(better, p * WIDE + q, winner)
        tl.store(out + unit, best.to(out.dtype.element_ty), there)
        tl.store(place + unit, winner.to(tl.uint8), there)

    @triton.jit
    @no_type_check
    def _spread(
        grad, place, back, size, H, W, h, w,
        C: tl.constexpr, A: tl.constexpr, E: tl.constexpr, TALL: tl.constexpr, WIDE: tl.constexpr,
        UNITS: tl.constexpr,
    ):  # fmt: skip
        """A program has UNITS entries of Z: the gradient of its unit where that won, else 0."""
        entry = tl.program_id(0) * UNITS + tl.arange(0, UNITS)
        there = entry < size
        c, e, a = entry % C, entry // C % E, entry // (C * E) % A
        y = entry // (C * E * A * W) % H - a
        x = entry // (C * E * A) % W - e
        image = entry // (C * E * A * W * H)
        used = there & (y >= 0) & (y < h * TALL) & (x >= 0) & (x < w * WIDE)
        unit = ((image * h + y // TALL) * w + x // WIDE) * C + c
        won = tl.load(place + unit, used, other=0).to(tl.int32) == y % TALL * WIDE + x % WIDE
        value = tl.load(grad + unit, used & won, other=0.0)
        tl.store(back + entry, value, there)
