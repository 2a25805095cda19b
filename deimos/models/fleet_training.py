"""Fitting the members of a fleet in step: one network with another axis, for every member (§5).

On a GPU a small net's step is mostly the launching of small kernels. Members of one fleet have as
many labels as each other, so that one step of them all needs no more kernels than one of one; and
these are recorded once and then launched as a whole, as a CUDA graph. Each member draws from its
own random streams what `training.fit`, the slow twin, would draw.

Axes:  M members · N labelled points of each · n points of a minibatch
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, Num
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from deimos.models import training
from deimos.models.fleet_trunks import Weights, all_trunks
from deimos.models.networks import Network
from deimos.models.training import (
    KERAS_EPSILON,
    RATE,
    Fit,
    check_finite,
    descend,
    epoch,
    minibatches,
)

Objective = Callable[..., Float[Tensor, ""]]  # of weights, chosen points and masks


@dataclass(frozen=True)
class FitStart:
    """A member's network, not yet trained, the ids it is trained on, and its random streams."""

    network: Network
    labelled: Int[Tensor, " N"]
    order: torch.Generator
    dropout: torch.Generator


def fit_fleet(
    begin: Callable[[int], FitStart],
    n_members: int,
    x: Num[Tensor, "P *input"],
    y: Num[Tensor, " P"],
    how: Fit,
    stopped: Callable[[], bool] = lambda: False,
) -> list[Network | ValueError]:
    """Member i's network, trained on `x` and `y` of its ids; or why it must not be used.

    `begin(i)` gives what member i starts from, anew at each call: where a GPU has no memory for all
    members at once, they are fitted in two halves. All have the same number of ids. Raises
    CancelledError as soon as `stopped` says that nobody waits for the models any more.
    """
    try:
        return _fit([begin(i) for i in range(n_members)], x, y, how, stopped)
    except torch.OutOfMemoryError:
        if n_members == 1:
            raise
    warnings.warn("out of memory: members are fitted in smaller groups", stacklevel=2)
    half = n_members // 2
    first = fit_fleet(begin, half, x, y, how, stopped)
    return first + fit_fleet(lambda i: begin(half + i), n_members - half, x, y, how, stopped)


def _fit(
    starts: Sequence[FitStart],
    x: Tensor,
    y: Tensor,
    how: Fit,
    stopped: Callable[[], bool],
) -> list[Network | ValueError]:
    n_labelled = len(starts[0].labelled)
    objective = _objective(starts[0].network, x, y, how.decay / n_labelled, how.precision)
    weights, _ = stack_module_state([start.network for start in starts])
    sizes = minibatches(n_labelled, how.minibatch, how.remainder)
    n_steps = how.epochs * len(sizes)
    step = _Step(objective, weights, RULES[how.optimiser], n_steps, record=x.is_cuda)
    descend(step, lambda: _epoch(starts), how.epochs, sizes, stopped, points=1)
    weights = step.weights()
    return [_finished_member(i, start, weights, how) for i, start in enumerate(starts)]


def _objective(
    network: Network, x: Tensor, y: Tensor, weight_decay: float, precision: str
) -> Objective:
    """The sum of all members' losses: each is `training.loss`, with the member's own weights."""
    trunks = all_trunks(network, x[0], precision) if x.is_cuda else None
    module = _WithWeights(network)

    def call(function: Callable) -> Callable:
        def of_member(own: Weights, *about: object) -> Tensor:
            own = {f"network.{name}": weight for name, weight in own.items()}
            return functional_call(module, own, (function, *about))

        return vmap(of_member)

    features = call(lambda network, x: training.features(network, x, precision))
    losses = call(lambda *about: training.head_loss(*about, weight_decay))

    def objective(weights: Weights, chosen: Int[Tensor, "M n"], *masks: Tensor) -> Tensor:
        found = (trunks or features)(weights, x[chosen])
        return losses(weights, found, y[chosen], masks).sum()

    return objective


class _WithWeights(nn.Module):
    """Evaluate a function of a network with other weights."""

    def __init__(self, network: Network):
        super().__init__()
        self.network = network

    def forward(self, function: Callable, *about: object) -> Tensor:
        return function(self.network, *about)


@dataclass(frozen=True)
class Rule:
    """An optimiser as Keras has it: w −= rate(t) m/(√v + ε), of the gradient's two averages."""

    first: float  # β₁, of m
    second: float  # β₂, of v
    corrected: bool  # for starting from 0: rate(t) = 10⁻³ √(1−β₂ˢ)/(1−β₁ˢ)
    ahead: int = 0  # s − t

    def rates(self, n_steps: int) -> Float[Tensor, " t"]:
        """The rates of steps 1 to n_steps."""
        t = torch.arange(1, n_steps + 1, dtype=torch.float64)
        s = t + self.ahead
        correction = (1 - self.second**s).sqrt() / (1 - self.first**s) if self.corrected else t**0
        return RATE * correction


RULES = {
    "adam": Rule(0.9, 0.999, True),
    "adam_next": Rule(0.9, 0.999, True, ahead=1),
    "rmsprop": Rule(0.0, 0.9, False),
}


class _Step:
    """A step of all members; on a GPU recorded when a size of minibatch comes the second time.

    The first one loads what has to be loaded: nothing may be while a step is recorded. All weights
    are one vector, so that the optimiser has a few long operations.
    """

    def __init__(
        self, objective: Objective, weights: Weights, rule: Rule, n_steps: int, record: bool
    ):
        self.objective, self.rule, self.record = objective, rule, record
        self.shapes = {name: weight.shape for name, weight in weights.items()}
        with torch.no_grad():
            self.flat = torch.cat([weight.flatten() for weight in weights.values()])
        self.flat.requires_grad_()
        self.first, self.second = torch.zeros(2, *self.flat.shape).to(self.flat)
        self.rates = rule.rates(n_steps).to(self.flat)
        self.rate = self.rates[0].clone()
        self.recorded: dict[int, tuple[torch.cuda.CUDAGraph, list[Tensor]] | None] = {}

    def weights(self) -> Weights:
        """Views of the vector, by name."""
        parts = self.flat.split([shape.numel() for shape in self.shapes.values()])
        return {
            name: part.view(shape)
            for (name, shape), part in zip(self.shapes.items(), parts, strict=True)
        }

    def __call__(self, t: int, chosen: Int[Tensor, "M n"], *masks: Float[Tensor, "M n _"]) -> None:
        self.rate.copy_(self.rates[t - 1])
        size = chosen.shape[1]
        if not self.record or size not in self.recorded:
            self.take(chosen, *masks)
            self.recorded[size] = None
            return
        if self.recorded[size] is None:
            self.recorded[size] = self.recording(chosen, *masks)
        graph, inputs = self.recorded[size]
        for into, what in zip(inputs, (chosen, *masks), strict=True):
            into.copy_(what)
        graph.replay()

    def recording(self, *about: Tensor) -> tuple[torch.cuda.CUDAGraph, list[Tensor]]:
        """Capture one step without taking it; return the graph and its input buffers."""
        graph, inputs = torch.cuda.CUDAGraph(), [one.clone() for one in about]
        earlier = [known[0].pool() for known in self.recorded.values() if known is not None]
        with torch.cuda.graph(graph, pool=earlier[0] if earlier else None):
            self.take(*inputs)
        return graph, inputs

    def take(self, *about: Tensor) -> None:
        (gradient,) = torch.autograd.grad(self.objective(self.weights(), *about), self.flat)
        with torch.no_grad():
            m = self.first.lerp_(gradient, 1 - self.rule.first)
            v = self.second.mul_(self.rule.second)
            v.addcmul_(gradient, gradient, value=1 - self.rule.second)
            self.flat.addcdiv_(self.rate * m, v.sqrt().add_(KERAS_EPSILON), value=-1)


def _epoch(starts: Sequence[FitStart]) -> tuple[Int[Tensor, "M N"], list[Float[Tensor, "M N d"]]]:
    """Every member's ids in the epoch's order, and the masks of each dropout layer.

    Members with the same streams, as all methods of a repeat have, share what is drawn.
    """
    drawn, shuffled, masks = {}, [], []
    for start in starts:
        streams = start.order.initial_seed(), start.dropout.initial_seed()
        if streams not in drawn:
            about = len(start.labelled), start.order, start.dropout
            drawn[streams] = epoch(start.network, *about)
        order, layers = drawn[streams]
        shuffled.append(start.labelled[order])
        masks.append(layers)
    return torch.stack(shuffled), [torch.stack(layer) for layer in zip(*masks, strict=True)]


@torch.no_grad()
def _finished_member(i: int, start: FitStart, weights: Weights, how: Fit) -> Network | ValueError:
    """Member i's network with its weights of all the members'."""
    for own, all_members in zip(start.network.parameters(), weights.values(), strict=True):
        own.copy_(all_members[i])
    try:
        return check_finite(start.network, how.epochs, len(start.labelled), how.decay)
    except ValueError as error:
        return error
