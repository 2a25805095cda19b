"""Torch's dropout functions, met where they are called: one mask for all points (§3.2).

A mode of `torch.overrides` sees each call, whoever makes it: a layer, a function of one's own, an
attention, a recurrent layer between its layers. What the call is given tells how long a mask is;
along the axis of the points it is one and the same.

Axes:  n points in a batch · k places of a point on the axis of the points, one as a rule
"""

import sys
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from types import CodeType, FrameType, FunctionType
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

SELU = 1.7580993408473766  # −α' of alpha dropout: what a dropped unit is set to
OURS = "deimos.pool.observing", "deimos.pool.watching"
HIDDEN = (__name__, "torch.overrides", "torch.utils._python_dispatch", *OURS)
Site = tuple[nn.Module | None, tuple[tuple[CodeType, int], ...]]  # a module, and lines in it


def call_site() -> Site:
    """The innermost module that is at work, and the lines from its code to this call."""
    frame: FrameType | None = sys._getframe(1)
    lines = []
    while frame is not None:
        if frame.f_globals.get("__name__") not in HIDDEN:
            lines.append((frame.f_code, frame.f_lasti))
            owner = frame.f_locals.get("self")
            if isinstance(owner, nn.Module):
                return owner, tuple(lines)
        frame = frame.f_back
    return None, tuple(lines)


@dataclass(frozen=True)
class Call:
    """A dropout function at work on `x`, with rate `p`."""

    site: Site
    use: int  # how often the same line was passed before, in this pass
    x: Tensor
    p: float
    on: bool  # as the caller says: training
    shape: tuple[int, ...]  # of a mask for x alone: 1 where neighbours are dropped together
    alpha: bool = False
    times: Tensor | None = None  # of a packed sequence: which step a row of x is of


class DropoutCalls(TorchFunctionMode):
    """Hands every call of a dropout function to `keep`, and the rest to torch.

    `keep` answers with what x is to be multiplied by (0 or 1/(1−p), in alpha dropout 0 or 1), or
    with None where x is to stay as it is.
    """

    def __init__(self):
        super().__init__()
        self.uses: Counter[Site] = Counter()

    def keep(self, call: Call) -> Tensor | None:
        raise NotImplementedError

    def __torch_function__(self, func, types, args=(), kwargs=None):
        handler = HANDLERS.get(getattr(func, "__name__", ""))
        if handler is None:
            return func(*args, **(kwargs or {}))
        return handler(self, func, args, kwargs or {})

    def drop(
        self,
        x: Tensor,
        p: float,
        on: bool,
        shape: tuple[int, ...] | None = None,
        alpha: bool = False,
        inplace: bool = False,
        times: Tensor | None = None,
    ) -> Tensor:
        """Apply the dropout to x."""
        site = call_site()
        use, self.uses[site] = self.uses[site], self.uses[site] + 1
        mask = self.keep(Call(site, use, x, p, on, shape or tuple(x.shape), alpha, times))
        if mask is None:
            return x
        mask = mask.to(x)
        if not alpha:
            return x.mul_(mask) if inplace else x * mask
        a = ((SELU**2 * p + 1) * (1 - p)) ** -0.5 if p < 1 else 0.0
        y = x * (mask * a) + ((mask - 1) * (SELU * a) + SELU * a * p)
        return x.copy_(y) if inplace else y


def _dropout(mode: DropoutCalls, func: Callable, args: tuple, kwargs: dict) -> Any:
    """Any dropout function: `F.dropout`, `torch.dropout_`, `F.alpha_dropout`, …"""
    names = "input", "p", "training", "inplace"
    given = dict(zip(names, args, strict=False)) | kwargs
    name = func.__name__.rstrip("_")
    x, p, on = given["input"], given.get("p", 0.5), given.get("training", given.get("train"))
    if not isinstance(x, Tensor) or not 0 < float(p) <= 1:
        return func(*args, **kwargs)
    whole = 0 if name in ("dropout", "native_dropout", "alpha_dropout") else 2
    if (name, x.dim()) in (("dropout1d", 2), ("dropout3d", 4)):
        whole = 1  # torch takes it for one point: what it calls channels is the first axis
    shape = tuple(x.shape[:whole]) + (1,) * (x.dim() - whole) if whole else tuple(x.shape)
    inplace = bool(given.get("inplace")) or func.__name__.endswith("_")
    y = mode.drop(x, float(p), on is None or bool(on), shape, "alpha" in name, inplace)
    return (y, torch.ones_like(y, dtype=torch.bool)) if name == "native_dropout" else y


def _attention(mode: DropoutCalls, func: Callable, args: tuple, kwargs: dict) -> Tensor:
    """Scaled dot-product attention, its weights written out so that they can be dropped."""
    names = "query", "key", "value", "attn_mask", "dropout_p", "is_causal"
    given = dict(zip(names, args, strict=False)) | kwargs
    p = float(given.get("dropout_p", 0.0))
    if not 0 < p <= 1:
        return func(*args, **kwargs)
    q, k, v, scale = given["query"], given["key"], given["value"], given.get("scale")
    if given.get("enable_gqa"):
        k, v = (x.repeat_interleave(q.shape[-3] // x.shape[-3], -3) for x in (k, v))
    scores = q @ k.mT * (q.shape[-1] ** -0.5 if scale is None else scale)
    seen = given.get("attn_mask")
    if given.get("is_causal"):
        seen = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).tril()
    if seen is not None:
        is_bool = seen.dtype == torch.bool
        scores = scores.masked_fill(~seen, -torch.inf) if is_bool else scores + seen
    weights = scores.softmax(-1).masked_fill((scores == -torch.inf).all(-1, keepdim=True), 0)
    return mode.drop(weights, p, True) @ v


def _multi_head_attention(mode: DropoutCalls, func: Callable, args: tuple, kwargs: dict) -> Any:
    """The function behind `nn.MultiheadAttention`, with the dropout inside it in sight."""
    with mode:
        return unchecked(func)(*args, **kwargs)


@cache
def unchecked(func: FunctionType) -> FunctionType:
    """A function of torch's that does not ask for modes again before it starts."""
    names = {name: lambda *_: False for name in func.__globals__ if "has_torch_function" in name}
    inner = FunctionType(
        func.__code__, func.__globals__ | names, func.__name__, func.__defaults__, func.__closure__
    )
    inner.__kwdefaults__ = func.__kwdefaults__
    return inner


def _recurrent(mode: DropoutCalls, func: Callable, args: tuple, kwargs: dict) -> tuple:
    """`torch.lstm` and its like, layer by layer, with dropout between them."""
    is_lstm = func.__name__ == "lstm"
    packed = isinstance(args[1 if is_lstm else 2], Tensor) and len(args) > 2
    x, sizes = args[0], args[1 : 1 + packed]
    states, weights, bias, n_layers, p, on, both, *first = args[1 + packed :]
    if n_layers == 1 or not 0 < p <= 1:
        return func(*args, **kwargs)
    states, ways, per, ends = states if is_lstm else (states,), 1 + both, len(weights), []
    per, times = per // n_layers, None
    if packed:
        steps = torch.arange(len(sizes[0]))
        times = torch.cat([steps[t].repeat(int(n)) for t, n in enumerate(sizes[0])])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "RNN module weights")
        for layer in range(n_layers):
            own = [state[layer * ways : (layer + 1) * ways] for state in states]
            own = own if is_lstm else own[0]
            part = weights[layer * per : (layer + 1) * per]
            x, *end = func(x, *sizes, own, part, bias, 1, 0.0, False, both, *first)
            ends.append(end)
            if layer < n_layers - 1:
                shape = (len(sizes[0]), x.shape[1]) if packed else None
                x = mode.drop(x, float(p), bool(on), shape, times=times)
    return x, *(torch.cat(end) for end in zip(*ends, strict=True))


HANDLERS: dict[str, Callable] = {
    **{
        name + end: _dropout
        for name in ("dropout", "alpha_dropout", "feature_dropout", "feature_alpha_dropout")
        for end in ("", "_")
    },
    **dict.fromkeys(("dropout1d", "dropout2d", "dropout3d", "native_dropout"), _dropout),
    **dict.fromkeys(("lstm", "gru", "rnn_tanh", "rnn_relu"), _recurrent),
    "scaled_dot_product_attention": _attention,
    "multi_head_attention_forward": _multi_head_attention,
}
