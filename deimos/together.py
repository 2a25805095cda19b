"""Fitting the members of a fleet in step: one network with another axis, for every member (§5).

On a GPU a small net's step is mostly the launching of small kernels. Members of one fleet have as
many labels as each other, so that one step of them all needs no more kernels than one of one. Each
draws from its own random streams what `training.fit`, the slow twin, would draw.

Axes:  M members · N labelled points of each
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, Num
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from deimos.networks import Network
from deimos.training import OPTIMISERS, descend, epoch, loss, trained


@dataclass(frozen=True)
class Start:
    """A member's network, not yet trained, the ids it is trained on, and its random streams."""

    network: Network
    labelled: Int[Tensor, " N"]
    order: torch.Generator
    dropout: torch.Generator


class _Loss(nn.Module):
    """`training.loss` as a module, which is what torch evaluates with other weights."""

    def __init__(self, network: Network):
        super().__init__()
        self.network = network

    def forward(self, *about: object) -> Tensor:
        return loss(self.network, *about)


def fit_together(
    begin: Callable[[int], Start],
    n_members: int,
    x: Num[Tensor, "P *input"],
    y: Num[Tensor, " P"],
    **settings: object,
) -> list[Network | ValueError]:
    """Member i's network, trained on `x` and `y` of its ids; or why it must not be used.

    `begin(i)` gives what member i starts from, anew at each call: where a GPU has no memory for all
    members at once, they are fitted in two halves. All have the same number of ids. `settings` are
    those of `training.fit`, from `epochs` on. Raises CancelledError as soon as `stopped` says that
    nobody waits for the models any more.
    """
    try:
        return _fit([begin(i) for i in range(n_members)], x, y, **settings)
    except torch.OutOfMemoryError:
        if n_members == 1:
            raise
    warnings.warn("out of memory: members are fitted in smaller groups", stacklevel=2)
    half = n_members // 2
    first = fit_together(begin, half, x, y, **settings)
    return first + fit_together(lambda i: begin(half + i), n_members - half, x, y, **settings)


def _fit(
    starts: Sequence[Start],
    x: Tensor,
    y: Tensor,
    *,
    epochs: int,
    minibatch: int,
    decay: float,
    optimiser: str,
    precision: str = "float32",
    stopped: Callable[[], bool] = lambda: False,
) -> list[Network | ValueError]:
    losses = [_Loss(start.network) for start in starts]
    weights, _ = stack_module_state(losses)  # [M ...] each
    weight_decay = decay / len(starts[0].labelled)

    def of_member(own: dict[str, Tensor], *batch: object) -> Tensor:
        return functional_call(losses[0], own, (*batch, weight_decay, precision))

    def objective(chosen: Int[Tensor, "M n"], masks: list[Tensor]) -> Tensor:
        return vmap(of_member)(weights, x[chosen], y[chosen], masks).sum()

    stepper = OPTIMISERS[optimiser](weights.values())
    descend(stepper, objective, lambda: _epoch(starts), epochs, minibatch, stopped, points=1)
    return [_trained(i, start, weights, epochs, decay) for i, start in enumerate(starts)]


def _epoch(starts: Sequence[Start]) -> tuple[Int[Tensor, "M N"], list[Float[Tensor, "M N d"]]]:
    """Every member's ids in the epoch's order, and the masks of each dropout layer."""
    shuffled, masks = [], []
    for start in starts:
        order, drawn = epoch(start.network, len(start.labelled), start.order, start.dropout)
        shuffled.append(start.labelled[order])
        masks.append(drawn)
    return torch.stack(shuffled), [torch.stack(layer) for layer in zip(*masks, strict=True)]


@torch.no_grad()
def _trained(
    i: int, start: Start, weights: dict[str, Tensor], epochs: int, decay: float
) -> Network | ValueError:
    """Member i's network with its weights of all the members'."""
    for own, all_members in zip(start.network.parameters(), weights.values(), strict=True):
        own.copy_(all_members[i])
    try:
        return trained(start.network, epochs, len(start.labelled), decay)
    except ValueError as error:
        return error
