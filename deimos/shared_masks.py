"""Predictions of any model with dropout, all points of a pool under the same J masks (§3.2).

The pool is read once, a batch at a time, and no more of it is held. What stands before the first
dropout, the trunk, runs once a point; behind it, every batch meets each mask in turn. The masks
are drawn when the first batch comes to a dropout layer, and kept.

Axes:  J dropout masks · S points · c outputs (1 in regression)
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.data import DataLoader, RandomSampler

from deimos.fast_selection import one_thread
from deimos.networks import Network
from deimos.progress import progress

WHOLE_CHANNELS = nn.Dropout1d | nn.Dropout2d | nn.Dropout3d
SMALL = 2**20  # weights of a head whose passes are too short for several cores
NUMBERS_AT_ONCE = 2**23  # in a batch that is cut from an array, of at most 1,024 points
Pool = Tensor | np.ndarray | Iterable
Masks = dict[tuple[nn.Module, int], Tensor]  # by layer, and how often it was used before in a pass


@torch.no_grad()
def predict(
    model: nn.Module,
    inputs: Iterable[Tensor],
    trunk: nn.Module | None = None,
    n_masks: int = 50,
    outputs: Callable[[Tensor], Tensor] | None = None,
    seed: int = 0,
    total: int | None = None,
) -> Float[Tensor, "J S c"]:
    """Predictions of all points under J masks, on the CPU; the model is left as it was.

    ValueError names the first point whose predictions are no numbers, and what the model refuses.
    `total` is the number of points, where it is known: room is made for them once.
    """
    weight = next(iter(model.parameters()), torch.zeros(0))
    outputs = outputs or probabilities
    generators = [
        torch.Generator(weight.device).manual_seed(seed * n_masks + j) for j in range(n_masks)
    ]
    kept: list[Masks] = [{} for _ in range(n_masks)]
    found, split, done = torch.empty(n_masks, 0, 0), None, 0
    with evaluating(model, trunk), progress(total=total, unit="point", name="predicting") as bar:
        for x in inputs:
            x = x.to(weight.device)
            if x.is_floating_point() and weight.is_floating_point():
                x = x.to(weight.dtype)
            with refusing(x):
                split = split or in_two(model, trunk, x)
                features, layers, passes = split[0](x), dropout_layers(split[1]), []
                small = sum(w.numel() for w in split[1].parameters()) < SMALL
                with one_thread() if small else nullcontext():
                    for masks, generator in zip(kept, generators, strict=True):
                        with one_mask(layers, generator, masks):
                            passes.append(outputs(split[1](features)).flatten(1))
            block = torch.stack([y.unsqueeze(1) if y.dim() == 1 else y for y in passes]).cpu()
            if block.shape[1] != len(x):
                raise ValueError(f"the model gives {block.shape[1]} rows for {len(x)} points")
            wrong = ~block.isfinite().all(2).all(0)
            if wrong.any():
                first = done + wrong.int().argmax().item()
                raise ValueError(
                    f"row {first} of the pool gives predictions that are NaN or infinite: see that "
                    f"its values, and the model's weights, are finite"
                )
            if not done:
                found = block.new_empty(n_masks, total or 0, block.shape[2])
            if done + len(x) > found.shape[1]:  # no room: as much again
                more = block.new_empty(n_masks, max(done, len(x)), block.shape[2])
                found = torch.cat([found[:, :done], more], 1)
            found[:, done : done + len(x)] = block
            done += len(x)
            bar.update(len(x))
    if not done:
        raise ValueError("the pool is empty")
    return found[:, :done]


def in_two(
    model: nn.Module, trunk: nn.Module | None, x: Tensor
) -> tuple[Callable[[Tensor], Tensor], nn.Module]:
    """What runs once a point, and what runs once a mask: as given, or found where that is certain.

    The layers of an `nn.Sequential` before its first dropout are a trunk, if both parts, one after
    the other, give for the points `x` what the model gives.
    """
    if trunk is not None:
        return trunk, model
    if isinstance(model, Network):
        return model.features, head_with_dropout(model)
    layers = in_order(model)
    first = next(i for i, layer in enumerate(layers) if dropout_layers(layer))
    trunk, head = nn.Sequential(*layers[:first]), nn.Sequential(*layers[first:])
    few = x[:8]
    if first and torch.allclose(head(trunk(few)), model(few), rtol=1e-4, equal_nan=True):
        return trunk, head
    return nn.Identity(), model


def in_order(model: nn.Module) -> list[nn.Module]:
    """The layers of nested `nn.Sequential`s one after the other; any other module is one layer."""
    if type(model) is not nn.Sequential or model._forward_hooks or model._forward_pre_hooks:
        return [model]
    return [layer for part in model for layer in in_order(part)]


def head_with_dropout(network: Network) -> nn.Sequential:
    """The head of one of the paper's networks, with its dropout as layers."""
    parts = [(nn.Dropout(network.p).eval(), dense, nn.ReLU()) for dense in network.dense]
    return nn.Sequential(*[layer for part in parts for layer in part][:-1])


def dropout_layers(model: nn.Module) -> list[nn.Module]:
    """The layers of the model that drop something, each once."""
    kinds = nn.Dropout | WHOLE_CHANNELS
    return [layer for layer in model.modules() if isinstance(layer, kinds) and layer.p > 0]


@contextmanager
def one_mask(layers: list[nn.Module], generator: torch.Generator, masks: Masks) -> Iterator[None]:
    """For one pass through the model, each layer multiplies all points by the same inverted mask.

    Masks that are not in `masks` yet are drawn and put there: a layer that is used twice in a pass
    has two.
    """
    uses: Counter[nn.Module] = Counter()

    def multiply(layer: nn.Module, inputs: tuple, x: Tensor) -> Tensor:
        use = layer, uses[layer]
        uses[layer] += 1
        if use not in masks:
            shape = x.shape[1:2] if isinstance(layer, WHOLE_CHANNELS) else x.shape[1:]
            keep = torch.empty(shape, device=x.device).bernoulli_(1 - layer.p, generator=generator)
            masks[use] = keep.reshape(*shape, *[1] * (x.dim() - 1 - len(shape))) / (1 - layer.p)
        return x * masks[use]

    hooks = [layer.register_forward_hook(multiply) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def evaluating(*modules: nn.Module | None) -> Iterator[None]:
    """Batch normalisation as in use, and no dropout but by masks; then all as it was before."""
    parts = [part for module in modules if module is not None for part in module.modules()]
    before = [(part, part.training) for part in parts]
    for part in parts:
        part.training = False
    try:
        yield
    finally:
        for part, training in before:
            part.training = training


@contextmanager
def refusing(x: Tensor) -> Iterator[None]:
    """What the model says of inputs that it cannot take, in one sentence."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        why = str(error).splitlines()[0]
        raise ValueError(
            f"the model does not take the pool's points, {x.dtype} of shape {tuple(x.shape[1:])} "
            f"each ({why}): give it what it was trained on"
        ) from error


def probabilities(answers: Tensor) -> Tensor:
    """Logits of two or more classes to probabilities; anything else as it is."""
    if answers.dim() == 1:
        return answers.unsqueeze(1)
    return answers.softmax(-1) if answers.dim() == 2 and answers.shape[1] > 1 else answers


def batches(
    pool: Pool, at_once: int | None = None, rows: Int[np.ndarray, " n"] | None = None
) -> Iterator[Tensor]:
    """The pool's inputs, `at_once` points at a time, or in the batches that it comes in.

    Of `rows`, in ascending order, alone if they are given. Of an array on disk no more than a batch
    is read.
    """
    if hasattr(pool, "to_numpy"):  # a pandas table
        pool = pool.to_numpy()
    if isinstance(pool, Tensor | np.ndarray):
        n = len(pool) if rows is None else len(rows)
        numbers = math.prod(pool.shape[1:])
        at_once = at_once or min(1024, max(1, NUMBERS_AT_ONCE // max(1, numbers)))
        for a, b in pairwise([*range(0, n, at_once), n]):
            yield tensor(pool[a:b] if rows is None else pool[rows[a:b]])
        return
    start = 0
    for batch in pool:
        if isinstance(batch, dict):
            batch = next(iter(batch.values()))
        x = tensor(batch[0] if isinstance(batch, list | tuple) else batch)
        here = slice(None)
        if rows is not None:
            here = torch.from_numpy(rows[(start <= rows) & (rows < start + len(x))] - start)
        start += len(x)
        if len(x[here]):
            yield x[here]


def tensor(x: object) -> Tensor:
    """Points as a tensor of their own; ValueError if they are no numbers."""
    if isinstance(x, Tensor):
        return x
    if not isinstance(x, np.ndarray) or x.dtype.kind not in "biuf":
        kind = getattr(x, "dtype", type(x).__name__)
        raise ValueError(f"the pool's points are of type {kind}, wanted numbers in an array")
    return torch.from_numpy(np.array(x))


def length(pool: Pool) -> int | None:
    """How many points a pool has, if it can be told without reading it.

    ValueError if it comes in another order every time, since a position then means nothing.
    """
    if isinstance(pool, DataLoader):
        if isinstance(pool.sampler, RandomSampler):
            raise ValueError(
                "the pool's DataLoader shuffles, so that positions mean nothing: shuffle=False"
            )
        return len(pool.dataset) if hasattr(pool.dataset, "__len__") else None
    if isinstance(pool, list | tuple):
        return None
    return len(pool) if hasattr(pool, "__len__") else None
