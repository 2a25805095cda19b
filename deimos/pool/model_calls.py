"""Calls of a model: points brought to where its weights are, its errors in one sentence."""

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from deimos.pool.batch_points import PoolPoints, mapped, of_points


def bare(model: Any) -> Any:
    """The model inside torch.compile's wrapper, or that of several GPUs."""
    for kind, inner in (("OptimizedModule", "_orig_mod"), ("DataParallel", "module"),
                        ("DistributedDataParallel", "module")):  # fmt: skip
        if type(model).__name__ == kind:
            return bare(getattr(model, inner))
    return model


def check_has_weights(model: nn.Module) -> None:
    """ValueError for lazy layers: a first call would draw their weights at random."""
    lazy = [name for name, weight in model.named_parameters() if is_lazy(weight)]
    if lazy:
        raise ValueError(
            f"{type(model).__name__} has layers without weights yet ({lazy[0]!r} is lazy): train "
            f"it, or load its weights, first"
        )


def brought_to(model: nn.Module, points: PoolPoints) -> PoolPoints:
    """The points where the model's weights are; numbers with a point in the weights' precision.

    ValueError if most of the points that differ are one and the same in that precision.
    """
    weight = next((w for w in model.parameters() if w.is_floating_point()), None)
    if weight is None:
        return points

    def brought(x: Tensor) -> Tensor:
        y = x.to(weight.device, weight.dtype if x.is_floating_point() else None)
        if x.dtype == torch.float64 and y.dtype == torch.float32 and len(x) > 1:
            differ, still = ((t[1:] != t[:-1]).flatten(1).any(1) for t in (x, y))
            if still.sum() < differ.sum() / 2:
                raise ValueError(
                    f"most of the pool's points differ too little for {type(model).__name__}, "
                    f"whose precision is single: take each feature's smallest number away from it, "
                    f"as in training"
                )
        return y

    return mapped(brought, points)


@contextmanager
def explain_model_errors(points: PoolPoints, name: str = "the model") -> Iterator[None]:
    """Turn the model's error on inputs that it cannot take into one sentence."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (
        RuntimeError,
        TypeError,
        LookupError,
        AssertionError,
        AttributeError,
        ValueError,
    ) as error:
        if isinstance(error, ValueError) and is_own(error):
            raise
        why = next(iter(str(error).splitlines()), type(error).__name__)
        shapes = " and ".join(f"{x.dtype} of shape {tuple(x.shape[1:])}" for x in of_points(points))
        raise ValueError(
            f"{name} does not take the pool's points, {shapes} each ({why}): give it what it was "
            f"trained on, in batches: an array of all points, or a DataLoader"
        ) from error


def is_own(error: BaseException) -> bool:
    """True of an error that was raised here, and not in the model."""
    step = error.__traceback__
    while step.tb_next is not None:
        step = step.tb_next
    return step.tb_frame.f_globals.get("__name__", "").startswith("deimos.")


@contextmanager
def randomness_as_before() -> Iterator[None]:
    """The caller's random numbers, of torch, numpy and Python, go on as if nothing had run."""
    mine = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            yield
    finally:
        random.setstate(mine[0])
        np.random.set_state(mine[1])


@contextmanager
def uncompiled() -> Iterator[None]:
    """Compiled layers run as they are written, so that their dropout can be seen."""
    if "torch._dynamo" not in sys.modules:
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield
