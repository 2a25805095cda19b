"""A model at work on a few points with nothing dropped, and whether two answers are the same."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from deimos.pool.batch_points import PoolPoints
from deimos.pool.dropout_calls import Call, DropoutCalls, call_site

# Units in the last place by which the same numbers may differ from pass to pass
WATCHED_ROUNDING = 32
MET = ("attention", "rnn", "lstm", "gru")  # random in torch's own eyes, even with nothing dropped
Run = Callable[[PoolPoints], Any]


class Observed(DropoutCalls):
    """Notes the calls and drops nothing."""

    def __init__(self):
        super().__init__()
        self.calls: list[Call] = []

    def keep(self, call: Call) -> None:
        self.calls.append(Call(**(call.__dict__ | {"x": call.x.clone()})))


class RandomCalls(TorchDispatchMode):
    """Notes what draws random numbers, and in which module."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: nothing is compiled here, and asking the compiler would load it, for seconds."""
        return False

    def __init__(self):
        super().__init__()
        self.calls: list[tuple[nn.Module | None, str]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._overloadpacket.__name__
        if torch.Tag.nondeterministic_seeded in func.tags and not any(m in name for m in MET):
            self.calls.append((call_site()[0], name))
        return func(*args, **(kwargs or {}))


def observe(
    run: Run, modules: list[nn.Module], training: set[nn.Module], points: PoolPoints
) -> tuple[Any, list[Call], list[tuple[nn.Module | None, str]]]:
    """The answer with nothing dropped, the calls, and what else is random."""
    with as_before(modules, training), RandomCalls() as random, Observed() as seen:
        answer = run(points)
    return answer, seen.calls, random.calls


@contextmanager
def as_before(modules: list[nn.Module], training: set[nn.Module] = frozenset()) -> Iterator[None]:
    """Evaluation, but for the modules in `training`; modes, buffers and states then as before.

    So are the weights of an embedding with a `max_norm`, which it brings to it in place.
    """
    parts = list({part: None for module in modules for part in module.modules()})
    modes = [part.training for part in parts]
    buffers = [
        (place, key, tensor, tensor.clone())
        for part in parts
        for place in (part._buffers, part._parameters)
        if place is part._buffers or getattr(part, "max_norm", None) is not None
        for key, tensor in place.items()
        if tensor is not None
    ]
    kept = [
        (part, key, value)
        for part in parts
        for key, value in part.__dict__.items()
        if value is None or isinstance(value, Tensor)
    ]
    for part in parts:
        part.training = part in training
    try:
        yield
    finally:
        for part, mode in zip(parts, modes, strict=True):
            part.training = mode
        for part, key, value in kept:
            part.__dict__[key] = value
        with torch.no_grad():
            for place, key, tensor, value in buffers:
                place[key] = tensor.copy_(value)


def numpy_state() -> tuple:
    """State of numpy's own random numbers, which torch does not see drawn."""
    _, keys, place, *_ = np.random.get_state()
    return keys.tobytes(), place


def same(answer: Any, other: Any) -> bool:
    """True if two answers, of whatever kind, agree but for rounding."""
    one, two = tensors(answer), tensors(other)
    return len(one) == len(two) and all(map(agree, one, two))


def agree(x: Tensor, y: Tensor) -> bool:
    """True if two tensors agree but for rounding."""
    if x.shape != y.shape or x.dtype != y.dtype:
        return False
    if not x.is_floating_point() or not x.numel():
        return torch.equal(x, y)
    eps = torch.finfo(x.dtype).eps
    x, y = x.double().nan_to_num(), y.double().nan_to_num()
    return bool((x - y).abs().max() <= WATCHED_ROUNDING * eps * x.abs().max())


def tensors(answer: Any) -> list[Tensor]:
    """Those in an answer: a tensor, or nested tuples, lists, dicts and objects with attributes."""
    if isinstance(answer, Tensor):
        return [answer]
    if hasattr(answer, "values") and callable(answer.values):
        return [t for part in answer.values() for t in tensors(part)]
    if isinstance(answer, list | tuple):
        return [t for part in answer for t in tensors(part)]
    return [t for t in getattr(answer, "__dict__", {}).values() if isinstance(t, Tensor)]


def cloned(answer: Any) -> list[Tensor]:
    """The tensors of an answer, apart from what becomes of it."""
    return [tensor.clone() for tensor in tensors(answer)]


def culprit(run: Run, modules: list[nn.Module], points: PoolPoints, drawn: list) -> str:
    """The layer that gives two answers to one input, by name, with its call if that is torch's."""
    for part, call in drawn:
        return f"{named(part, modules)} ({call})"
    part = changing(run, modules, set(), points)
    return named(part, modules) if part is not None else "something in it"


def changing(
    run: Run, modules: list[nn.Module], training: set[nn.Module], points: PoolPoints
) -> nn.Module | None:
    """The innermost module that gives two answers to one input."""
    passes: list[list[tuple[nn.Module, list[Tensor], list[Tensor]]]] = []
    for _ in range(2):
        passes.append([])
        hooks = [
            part.register_forward_hook(
                lambda part, x, y: passes[-1].append((part, cloned(x), cloned(y)))
            )
            for module in modules
            for part in module.modules()
            if not isinstance(part, torch.jit.ScriptModule)
        ]
        try:
            observe(run, modules, training, points)
        finally:
            for hook in hooks:
                hook.remove()
    for (part, x, y), (_, again, other) in zip(*passes, strict=False):  # inner layers first
        if same(x, again) and not same(y, other):
            return part
    return None


def failing(error: BaseException, among: set[nn.Module]) -> nn.Module | None:
    """The innermost of these modules that was at work when the error came."""
    step, found = error.__traceback__, None
    while step is not None:
        owner = step.tb_frame.f_locals.get("self")
        found = owner if isinstance(owner, nn.Module) and owner in among else found
        step = step.tb_next
    return found


def in_few_words(error: BaseException) -> str:
    """An error in a few words."""
    return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')[:80]}"


def named(part: nn.Module | None, modules: list[nn.Module]) -> str:
    """A module by its place in the model and its kind."""
    places = [(place, m) for module in modules for place, m in module.named_modules()]
    place = next((place for place, m in places if m is part and place), "")
    return f"`{place}` ({type(part).__name__})" if place else type(part).__name__
