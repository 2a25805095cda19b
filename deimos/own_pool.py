"""The next batch to label from a pool of your own, with a model of your own that has dropout.

Nothing of the paper's experiments is needed: any `nn.Module` with dropout layers will do. Each pass
through the pool holds one mask per dropout layer and uses it for every point, as the covariance
between points needs (§3.2); what stands before the first dropout can be run once, as `trunk`.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from tqdm import tqdm

from deimos.expected_improvement import select_with_gains
from deimos.fast_selection import check_predictions
from deimos.mc_dropout import mean_variance

SHARES = (0.15, 0.005)  # of σ̄², in regression τ⁻¹ and in classification τ_s⁻¹: amid App. E's ranges
WHOLE_CHANNELS = nn.Dropout1d | nn.Dropout2d | nn.Dropout3d
Pool = Tensor | np.ndarray | Iterable


@dataclass(frozen=True)
class Selection:
    """Positions in the pool, best first, and what each adds to those before it."""

    positions: tuple[int, ...]
    expected_improvement: tuple[float, ...]  # variance removed, summed over the sample

    def share(self) -> tuple[float, ...]:
        """Each pick's expected improvement in units of the first one's: when to stop asking."""
        return tuple(gain / self.expected_improvement[0] for gain in self.expected_improvement)


def select_batch(
    model: nn.Module,
    pool: Pool,
    batch_size: int,
    *,
    labelled: Iterable[int] = (),
    trunk: nn.Module | None = None,
    n_masks: int = 50,
    noise: float | None = None,
    outputs: Callable[[Tensor], Tensor] | None = None,
    at_once: int = 1024,
    seed: int = 0,
) -> Selection:
    """The `batch_size` points of the pool whose labels would shrink the model's covariance most.

    `pool` is an array or a tensor, a row a point, or an iterable of batches such as a DataLoader
    gives: batches, or pairs and dicts of which the first part is the input; its order must be the
    same in every pass. The points at the positions `labelled` count in the covariance and are not
    picked. `model` takes inputs, or what `trunk` makes of them: the trunk is without dropout and
    runs once a point. `outputs` turns what the model returns into predictions [S c]; by default
    logits of two or more classes become probabilities and anything else stays. `noise` is τ⁻¹, by
    default a share of the mean dropout variance (App. E). The model is left as it was.

    Raises ValueError if the model has no dropout, or the pool too few points to pick from.
    """
    layers = dropout_layers(model)
    if not layers:
        raise ValueError(
            f"{type(model).__name__} has no dropout layer that is switched on: add nn.Dropout "
            f"before its dense layers and train with it, else it has no covariance to shrink"
        )
    predictions = masked_predictions(model, layers, pool, trunk, n_masks, outputs, at_once, seed)
    S, c = predictions.shape[1:]
    asked = set(labelled)
    if asked and not 0 <= min(asked) <= max(asked) < S:
        raise ValueError(f"labelled positions lie within 0 and {S - 1}, the pool has {S} points")
    candidates = torch.tensor([i for i in range(S) if i not in asked], dtype=torch.long)
    if not 1 <= batch_size <= len(candidates):
        raise ValueError(f"a batch of {batch_size} cannot be picked from {len(candidates)} points")
    check_predictions(predictions)
    if noise is None:
        noise = SHARES[c > 1] * mean_variance(predictions)
    picked, gains = select_with_gains(predictions, candidates, batch_size, float(noise))
    return Selection(tuple(picked.tolist()), tuple(gains.tolist()))


def dropout_layers(model: nn.Module) -> list[nn.Module]:
    """The layers of the model that drop something, each once."""
    kinds = nn.Dropout | WHOLE_CHANNELS
    return [layer for layer in model.modules() if isinstance(layer, kinds) and layer.p > 0]


@torch.no_grad()
def masked_predictions(
    model: nn.Module,
    layers: list[nn.Module],
    pool: Pool,
    trunk: nn.Module | None,
    n_masks: int,
    outputs: Callable[[Tensor], Tensor] | None,
    at_once: int,
    seed: int,
) -> Float[Tensor, "J S c"]:
    """Predictions of all points in J passes; in each, a dropout layer has one mask for them all."""
    device = next((w.device for w in model.parameters()), torch.device("cpu"))
    outputs = outputs or probabilities
    modules = [part for part in (model, trunk) if part is not None]
    training = [(layer, layer.training) for part in modules for layer in part.modules()]
    for part in modules:
        part.eval()  # batch normalisation as in use; dropout comes from the masks alone
    try:
        if trunk is not None:
            pool = torch.cat([trunk(x.to(device)).cpu() for x in batches(pool, at_once)])
        passes = []
        for j in tqdm(range(n_masks), unit="mask", desc="predicting", mininterval=1.0):
            with one_mask(layers, torch.Generator(device).manual_seed(seed * n_masks + j)):
                answers = [outputs(model(x.to(device))).cpu() for x in batches(pool, at_once)]
            passes.append(torch.cat(answers).reshape(sum(map(len, answers)), -1))
    finally:
        for layer, mode in training:
            layer.training = mode
    return torch.stack(passes)


@contextmanager
def one_mask(layers: list[nn.Module], generator: torch.Generator) -> Iterator[None]:
    """While this lasts, each layer multiplies every point by one and the same inverted mask."""
    masks: dict[nn.Module, Tensor] = {}

    def multiply(layer: nn.Module, inputs: tuple, x: Tensor) -> Tensor:
        if layer not in masks:
            shape = x.shape[1:2] if isinstance(layer, WHOLE_CHANNELS) else x.shape[1:]
            keep = torch.empty(shape, device=x.device).bernoulli_(1 - layer.p, generator=generator)
            masks[layer] = keep.reshape(*shape, *[1] * (x.dim() - 1 - len(shape))) / (1 - layer.p)
        return x * masks[layer]

    hooks = [layer.register_forward_hook(multiply) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def probabilities(answers: Tensor) -> Tensor:
    """Logits of two or more classes to probabilities; anything else as it is."""
    return answers.softmax(-1) if answers.dim() == 2 and answers.shape[1] > 1 else answers


def batches(pool: Pool, at_once: int) -> Iterator[Tensor]:
    """The pool's inputs, `at_once` points at a time, or in the batches that it comes in."""
    if isinstance(pool, np.ndarray):
        pool = torch.from_numpy(pool)
    for batch in pool.split(at_once) if isinstance(pool, Tensor) else pool:
        if isinstance(batch, dict):
            batch = next(iter(batch.values()))
        yield batch[0] if isinstance(batch, list | tuple) else batch
