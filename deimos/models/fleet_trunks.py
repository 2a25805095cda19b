"""The trunks of all members of a fleet in one pass, in the forms that a GPU is fastest at.

What slows a small convolution down on a GPU are layouts and the many passes around it. So here
channels come last, in multiples of what matrix units take; biases are the weights of a channel of
ones, or come after the pooling, which commutes with them; and a convolution is, by its size,

    patches  the first one: a product of its patches with the kernels, members side by side;
    taps     a later one: a product with all taps side by side, which are added and pooled at once;
    each     one so large that a member fills the GPU alone: cuDNN's, one member after the other.

The values are those of `Network.features` but for rounding. With `precision` bfloat16 products take
and give numbers of 8 bits; in float32 they are as exact as torch lets convolutions be (TF32).

Axes:  M members · n points · h × w places · c channels, last
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float, Num
from torch import Tensor, nn

from deimos.models.networks import Network, Pixels, layout
from deimos.models.tap_pooling import pooled_taps
from deimos.models.training import PRECISIONS

LARGE = 10e6  # multiplications a point, from which a minibatch of one member fills a GPU
FEW, MANY = 8, 64  # channels come in multiples of these, MANY in large convolutions
PARTS = 16  # of a long sum
KINDS = nn.Conv2d, nn.MaxPool2d, nn.ReLU

Weights = dict[str, Float[Tensor, "M *shape"]]
Trunks = Callable[[Weights, Num[Tensor, "M n *input"]], Float[Tensor, "M n d"]]


@dataclass(frozen=True)
class _Stage:
    """A convolution, the pooling after it, if there is one, and the rectifier."""

    place: int  # among the trunk's layers
    channels: int  # that come out
    kernel: tuple[int, int]
    stride: tuple[int, int]
    large: bool
    window: tuple[int, int] = (1, 1)  # of the pooling

    @property
    def padded(self) -> int:
        """Channels with those that are added: of large convolutions one or more."""
        return _multiple(self.channels + 1, MANY) if self.large else _multiple(self.channels, FEW)

    @property
    def pools(self) -> bool:
        return self.window != (1, 1)


def all_trunks(network: Network, point: Num[Tensor, "*input"], precision: str) -> Trunks | None:
    """Features of all members from their weights and inputs; None for a trunk of another kind.

    Weights are named as in `network`; `point` is any one input.
    """
    stages = _stages(network, point)
    if stages is None:
        return None

    def features(weights: Weights, x: Tensor) -> Tensor:
        members = x.shape[:2]
        x = network.crop(x.flatten(0, 1))
        h = layout(x) if type(network.trunk[0]) is Pixels else network.trunk[0](x)
        h = h.permute(0, 2, 3, 1).unflatten(0, members)
        for i, stage in enumerate(stages):
            w, b = (weights[f"trunk.{stage.place}.{name}"] for name in ("weight", "bias"))
            dtype = w.dtype if precision == "float32" else PRECISIONS[precision]
            if stage.large:
                h = _each(stage, h, w, b, dtype, first=i == 0)
            elif i > 0:
                h = _taps(stage, h, w, b, dtype)
            else:
                blocks = stages[1].stride if len(stages) > 1 and not stages[1].large else (1, 1)
                h = _patches(stage, h, w, b, dtype, blocks)
        h = torch.stack([one[..., : stage.channels] for one in h])
        return h.permute(0, 1, 4, 2, 3).flatten(2).to(w.dtype)

    return features


@torch.no_grad()
def _stages(network: Network, point: Tensor) -> list[_Stage] | None:
    """The trunk's convolutions, or None if one of its layers, or their order, is not as here."""
    head, *layers = network.trunk or [nn.Identity()]
    last = layers.pop() if layers else None
    # Layers of other kinds, and those derived from these, are not even tried: they may change.
    if list(head.parameters()) or any(type(layer) not in KINDS for layer in layers):
        return None
    image, stages, rectified = head(network.crop(point[None])), [], 0
    image = image.to(next(network.parameters()).dtype)
    if image.ndim != 4 or not isinstance(last, nn.Flatten):
        return None
    names = dict(network.named_parameters()).keys()
    for place, layer in enumerate(layers, start=1):
        image = layer(image)
        if isinstance(layer, nn.ReLU):
            rectified += 1
        elif isinstance(layer, nn.MaxPool2d) and stages and not stages[-1].pools:
            sizes = layer.kernel_size, layer.stride, layer.padding, layer.dilation
            window, *about = map(_pair, sizes)
            if (*about, layer.ceil_mode) != (window, (0, 0), (1, 1), False):
                return None
            stages[-1] = replace(stages[-1], window=window)
        elif isinstance(layer, nn.Conv2d) and rectified == len(stages):
            products = image[0, 0].numel() * layer.weight.numel()
            shape = layer.out_channels, layer.kernel_size, layer.stride
            stages.append(_Stage(place, *shape, large=products > LARGE))
            plain = (layer.padding, layer.dilation, layer.groups) == ((0, 0), (1, 1), 1)
            own = {f"trunk.{place}.weight", f"trunk.{place}.bias"} <= names
            if not plain or not own or not _has_form(stages):
                return None
        else:
            return None
    return stages if stages and rectified == len(stages) else None


def _has_form(stages: Sequence[_Stage]) -> bool:
    """Tell if the last convolution has a form, given that those before it have one.

    A large one needs the channel of ones. Another one whose stride is not 1 needs what comes in as
    blocks, which patches alone give.
    """
    *earlier, this = stages
    if not earlier or this.large or this.stride == (1, 1):
        return not this.large or all(stage.large for stage in earlier)
    whole = not any(size % step for size, step in zip(this.kernel, this.stride, strict=True))
    return whole and len(earlier) == 1 and not (earlier[0].large or earlier[0].pools)


def _patches(
    stage: _Stage, h: Tensor, w: Tensor, b: Tensor, dtype: torch.dtype, blocks: tuple[int, int]
) -> Float[Tensor, "M n h w c"]:
    """The first convolution; its units lie block by block, each block's channels side by side."""
    (tall, wide), (M, n) = blocks, h.shape[:2]
    seen = h.unfold(2, stage.kernel[0], stage.stride[0]).unfold(3, stage.kernel[1], stage.stride[1])
    seen = _whole(seen, blocks).unflatten(3, (-1, wide)).unflatten(2, (-1, tall)).transpose(3, 4)
    taps = seen[0, 0, 0, 0, 0, 0].numel()  # [M n h w tall wide | c kernel]
    patches = seen.new_zeros(*seen.shape[:6], _multiple(taps + 1, FEW), dtype=dtype)
    patches[..., :taps].unflatten(-1, seen.shape[6:]).copy_(seen)
    w = w.flatten(2)
    if not stage.pools:
        patches[..., taps], w = 1, torch.cat([w, b[..., None]], 2)
    w = _grown(w, stage.padded, patches.shape[-1]).to(dtype)
    y = _Product.apply(patches.flatten(1, 5), w.mT)
    if stage.pools:
        return _pooled(stage, y.view(M, n, *seen.shape[2:4], 1, 1, -1), b)
    return y.relu_().view(M, n, *seen.shape[2:4], -1)


def _taps(
    stage: _Stage,
    h: Float[Tensor, "M n h w c"] | Sequence[Tensor],
    w: Tensor,
    b: Tensor,
    dtype: torch.dtype,
) -> Float[Tensor, "M n _ _ _"]:
    """A later convolution: a stride of s is one of 1 over blocks of s × s units."""
    (tall, wide), h = stage.stride, h if isinstance(h, Tensor) else torch.stack(h)
    w = _grown(w, stage.padded, h.shape[-1] // (tall * wide))
    w = w.unflatten(4, (-1, wide)).unflatten(3, (-1, tall))  # [M o i a tall e wide]
    taps, w = w.shape[3:6:2], w.permute(0, 4, 6, 2, 3, 5, 1).to(dtype)
    Z = _Product.apply(h.flatten(1, 3).to(dtype), w.flatten(4).flatten(1, 3))
    return _pooled(stage, Z.view(*h.shape[:4], *taps, -1), b)


def _pooled(
    stage: _Stage, Z: Float[Tensor, "M n h w a e c"], b: Tensor
) -> Float[Tensor, "M n _ _ c"]:
    y = pooled_taps(Z.flatten(0, 1), stage.window).unflatten(0, Z.shape[:2])
    return (y + _grown(b, stage.padded)[:, None, None, None].to(y.dtype)).relu_()


def _each(
    stage: _Stage,
    h: Tensor | Sequence[Tensor],
    w: Tensor,
    b: Tensor,
    dtype: torch.dtype,
    first: bool,
) -> list[Float[Tensor, "n h w c"]]:
    """A large convolution: members one by one.

    A channel of ones goes through all of these, after those of the layer: its weights are the bias,
    and those of the next channel of ones.
    """
    stride = stage.stride
    if first:
        h, w, stride = _as_blocks(h, w, stride, dtype)
    first_tap = (0, w.shape[4] - 1, 0, w.shape[3] - 1)
    bias = F.pad(torch.cat([b, torch.ones_like(b[:, :1])], 1)[..., None, None, None], first_tap)
    w = torch.cat([_grown(w, stage.channels + 1), bias], 2)
    w = _grown(w, stage.padded, h[0].shape[-1]).to(dtype).permute(0, 1, 3, 4, 2).contiguous()
    out = []
    for one, kernel in zip(h, w.permute(0, 1, 4, 2, 3), strict=True):
        y = F.conv2d(one.permute(0, 3, 1, 2), kernel, stride=stride)
        if stage.pools:
            y = pooled_taps(y.permute(0, 2, 3, 1)[:, :, :, None, None], stage.window).relu_()
        else:
            y = y.relu_().permute(0, 2, 3, 1)
        out.append(y)
    return out


def _as_blocks(
    h: Num[Tensor, "M n h w c"], w: Tensor, stride: tuple[int, int], dtype: torch.dtype
) -> tuple[Tensor, Tensor, tuple[int, int]]:
    """Stride s as stride 1 over blocks of s × s, whose units are channels; one more is all ones."""
    blocks = 1, 1
    if not any(size % step for size, step in zip(w.shape[3:], stride, strict=True)):
        blocks, stride = stride, (1, 1)
    tall, wide = blocks
    h = _whole(h, blocks)
    h = h.unflatten(3, (-1, wide)).unflatten(2, (-1, tall)).transpose(3, 4)  # [M n h w tall wide c]
    w = w.unflatten(4, (-1, wide)).unflatten(3, (-1, tall))  # [M o i a tall e wide]
    w = w.permute(0, 1, 4, 6, 2, 3, 5).flatten(2, 4)
    units = w.shape[2]
    x = torch.zeros(_multiple(units + 1, 2 * FEW), dtype=dtype, device=h.device)
    x[units : units + 1] = 1
    x = x.repeat(*h.shape[:4], 1)
    x[..., :units].unflatten(-1, h.shape[4:]).copy_(h)
    return x, w, stride


def _whole(h: Num[Tensor, "M n h w *_"], blocks: tuple[int, int]) -> Num[Tensor, "M n _h _w *_"]:
    """Without the last rows and columns that fill no block: kernels of whole blocks miss them."""
    rows, columns = (size // side * side for size, side in zip(h.shape[2:4], blocks, strict=True))
    return h[:, :, :rows, :columns]


def _grown(w: Tensor, *sizes: int) -> Tensor:
    """With zeros after what there is, so that the axes after the first have these sizes."""
    more = [0, 0] * (w.ndim - 1 - len(sizes))
    for size, have in zip(reversed(sizes), reversed(w.shape[1 : 1 + len(sizes)]), strict=True):
        more += [0, size - have]
    return F.pad(w, more)


def _multiple(n: int, of: int) -> int:
    return -(-n // of) * of


def _pair(size: int | Sequence[int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else tuple(size)


class _Product(torch.autograd.Function):
    """x @ w, as exact as convolutions are, in which torch allows TF32 unless told otherwise."""

    @staticmethod
    def forward(ctx, x: Tensor, w: Tensor) -> Tensor:
        ctx.save_for_backward(x, w)
        with _as_convolutions():
            return x @ w

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, Tensor]:
        x, w = ctx.saved_tensors
        # A sum over this many rows is for many units of the GPU, each of which takes a part.
        parts = math.gcd(PARTS, x.shape[1])
        x, share = (t.unflatten(1, (parts, -1)).flatten(0, 1) for t in (x, grad))
        with _as_convolutions():
            back = grad @ w.mT if ctx.needs_input_grad[0] else None
            return back, (x.mT @ share).unflatten(0, (-1, parts)).sum(1)


@contextmanager
def _as_convolutions() -> Iterator[None]:
    exact = torch.backends.cuda.matmul
    before, exact.allow_tf32 = exact.allow_tf32, torch.backends.cudnn.allow_tf32
    try:
        yield
    finally:
        exact.allow_tf32 = before
