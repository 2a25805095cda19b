"""Fitting networks from scratch, as the authors' Keras did (App. D, E).

Every model of every iteration starts from new random weights; there is no early stopping and the
weights of the last epoch are kept. Weight decay is λ = C/N on the kernels of dense layers only.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Num
from torch import Tensor, nn

from deimos.models.mc_dropout import draw_masks
from deimos.models.networks import Network

KERAS_EPSILON = 1e-7
RATE = 1e-3  # of every optimiser, Keras' default
REMAINDERS = ("kept", "dropped", "merged")
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Fit:
    """Settings of every fit of a run, as `fit` takes them; the paper's are the notebooks'."""

    epochs: int
    minibatch: int
    decay: float  # C, with λ = C/N
    optimiser: str = "adam"
    precision: str = "float32"  # of the products in the trunk
    remainder: str = "kept"  # an epoch's last minibatch, if smaller: or "dropped", "merged"


def adam(weights: Iterable[Tensor]) -> torch.optim.Optimizer:
    """Adam with Keras' constants; `keras_step` puts ε where Keras has it."""
    return torch.optim.Adam(weights, lr=RATE, betas=(0.9, 0.999), fused=True)


def adam_next(weights: Iterable[Tensor]) -> torch.optim.Optimizer:
    """The same with the rate of step t + 1 at step t, as the first steps of the authors' Keras had.

    There a step's number was read before or after it was counted, as chance would have it.
    """
    group = {"params": list(weights), "ahead": 1}
    return torch.optim.Adam([group], lr=RATE, betas=(0.9, 0.999), fused=True)


def rmsprop(weights: Iterable[Tensor]) -> torch.optim.Optimizer:
    """RMSprop with Keras' constants; torch, too, adds ε outside the root."""
    return torch.optim.RMSprop(weights, lr=RATE, alpha=0.9, eps=KERAS_EPSILON)


OPTIMISERS: dict[str, Callable[[Iterable[Tensor]], torch.optim.Optimizer]] = {
    "adam": adam,
    "adam_next": adam_next,
    "rmsprop": rmsprop,
}


def keras_step(optimiser: torch.optim.Optimizer, t: int) -> None:
    """Step t, from 1. Keras' Adam leaves ε uncorrected: w −= lr √(1−β₂ˢ)/(1−β₁ˢ) m/(√v + ε).

    There s is t, or as far `ahead` of it as the parameter group says. torch computes
    m̂/(√v/√(1−β₂ᵗ) + ε'), which is the same when ε' = ε/√(1−β₂ᵗ), but for the rate where s is not
    t.
    """
    for group in optimiser.param_groups:
        if "betas" in group:
            group["eps"] = KERAS_EPSILON / math.sqrt(1 - group["betas"][1] ** t)
        if "ahead" in group:
            s = t + group["ahead"]
            group["lr"] = RATE * correction(*group["betas"], s) / correction(*group["betas"], t)
    optimiser.step()


def correction(first: float, second: float, s: int) -> float:
    """√(1−β₂ˢ)/(1−β₁ˢ), by which Adam corrects its averages for starting from 0."""
    return math.sqrt(1 - second**s) / (1 - first**s)


def loss(
    network: Network,
    x: Num[Tensor, "N *input"],
    y: Tensor,
    masks: Sequence[Tensor],
    weight_decay: float,
    precision: str = "float32",
) -> Tensor:
    """Mean squared error or cross-entropy, plus λ Σ w² over dense kernels (no ½, no biases).

    With `precision` bfloat16 the trunk's products are rounded to 8 bits, its weights are not.
    """
    return head_loss(network, features(network, x, precision), y, masks, weight_decay)


def features(network: Network, x: Tensor, precision: str) -> Float[Tensor, "N d"]:
    """The trunk's output, its products in this precision."""
    half = precision != "float32"
    with torch.autocast(x.device.type, PRECISIONS[precision], enabled=half):
        found = network.features(x)
    return found.float() if half else found


def head_loss(
    network: Network, features: Tensor, y: Tensor, masks: Sequence[Tensor], weight_decay: float
) -> Tensor:
    """`loss`, where the trunk's output is known."""
    output, _ = network.head(features, masks)
    fit = F.cross_entropy(output, y) if network.classifies else F.mse_loss(output.squeeze(-1), y)
    kernels = [layer.weight for layer in network.modules() if isinstance(layer, nn.Linear)]
    return fit + weight_decay * sum(kernel.square().sum() for kernel in kernels)


def fit(
    network: Network,
    x: Num[Tensor, "N *input"],
    y: Num[Tensor, " N"],
    *,
    epochs: int,
    minibatch: int,
    decay: float,
    optimiser: str,
    order: torch.Generator,
    dropout: torch.Generator,
    precision: str = "float32",
    remainder: str = "kept",
    stopped: Callable[[], bool] = lambda: False,
) -> Network:
    """Train `network` in place and return it; λ = `decay`/N.

    `order` shuffles the labelled points anew each epoch, `dropout` draws the masks, `precision` is
    that of `loss`, `remainder` that of `minibatches`. Raises ValueError where the weights stop
    being finite: a diverged model must not acquire anything; and CancelledError as soon as
    `stopped` says that nobody waits for the model any more.
    """
    network.to(memory_format=torch.channels_last)  # of the orders that torch offers, the fastest
    weight_decay, stepper = decay / len(x), OPTIMISERS[optimiser](network.parameters())

    def step(t: int, chosen: Tensor, *masks: Tensor) -> None:
        stepper.zero_grad()
        loss(network, x[chosen], y[chosen], masks, weight_decay, precision).backward()
        keras_step(stepper, t)

    sizes = minibatches(len(x), minibatch, remainder)
    descend(step, lambda: epoch(network, len(x), order, dropout), epochs, sizes, stopped)
    return check_finite(network, epochs, len(x), decay)


def minibatches(n_labelled: int, minibatch: int, remainder: str) -> list[int]:
    """Sizes of an epoch's minibatches.

    Where fewer than `minibatch` points are left for the last, they are `kept` as a smaller one, as
    in Keras, `dropped`, or `merged` with the one before; alone they are kept.
    """
    if remainder not in REMAINDERS:
        raise ValueError(f"a remainder is {', '.join(REMAINDERS)}, not {remainder!r}")
    whole, left = divmod(n_labelled, minibatch)
    sizes = whole * [minibatch]
    if left and (remainder == "kept" or not sizes):
        sizes.append(left)
    elif remainder == "merged":
        sizes[-1] += left
    return sizes


def descend(
    step: Callable[..., None],
    draw: Callable[[], tuple[Tensor, list[Tensor]]],
    epochs: int,
    sizes: list[int],
    stopped: Callable[[], bool],
    points: int = 0,
) -> None:
    """`step(t, points, *masks)` for every minibatch of every epoch; t counts them from 1.

    `draw` gives an epoch's points in order, and the masks of each dropout layer; axis `points` of
    them all is cut into minibatches of these `sizes`.
    """
    t = 0
    for _ in range(epochs):
        order, drawn = draw()
        used = (part.narrow(points, 0, sum(sizes)) for part in (order, *drawn))
        of_epoch = (part.split(sizes, dim=points) for part in used)
        for chosen, *masks in zip(*of_epoch, strict=True):
            if stopped():
                raise CancelledError(f"stopped after {t} steps")
            t += 1
            step(t, chosen, *masks)


def epoch(
    network: Network, n_labelled: int, order: torch.Generator, dropout: torch.Generator
) -> tuple[Int[Tensor, " N"], list[Float[Tensor, "N d"]]]:
    """Draw one epoch: an order of the labelled points, and their masks in that order."""
    shuffled = torch.randperm(n_labelled, generator=order, device=order.device)
    return shuffled, draw_masks(network, (n_labelled,), dropout)


def check_finite(network: Network, epochs: int, n_labelled: int, decay: float) -> Network:
    """The network with its weights as they are; ValueError where they are not finite."""
    if not all(torch.isfinite(w).all() for w in network.parameters()):
        raise ValueError(
            f"training diverged: weights not finite after {epochs} epochs on {n_labelled} points, "
            f"with {decay=}: see that the data are finite and the decay is small"
        )
    return network.requires_grad_(False)
