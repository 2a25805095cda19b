"""Thirty steps of the authors' own stack, taken again from the same weights on the same points.

`keras_steps.npz` has what TensorFlow 1.15.2 and Keras 2.3.1, those of
github.com/unagpal/Active-Learning-Splicing, gave when they were installed anew: for two dense nets,
6-16-1 and 6-16-3, the points, the weights before the first and after each step on all forty of
them, with L2 of 0.01 on both kernels; and of Adam, by how much the number that a step was given
was ahead of its own, which was chance's.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from deimos.models import training
from deimos.models.fleet_training import RULES, _objective, _Step
from deimos.models.networks import Network
from deimos.models.training import OPTIMISERS, RATE, correction, keras_step

SEEN = np.load(Path(__file__).with_name("keras_steps.npz"))
STEPS, DECAY, CLOSE = 30, 0.01, 1e-6
ADAM = ["adam_regression", "adam_classes"]


def facts(net: str, name: str) -> torch.Tensor:
    return torch.from_numpy(SEEN[f"{net}/{name}"])


def theirs(net: str, t: int) -> list[torch.Tensor]:
    """The weights after step t, in the order of our network's parameters."""
    found = [facts(net, name)[t] for name in ("kernel_1", "bias_1", "kernel_2", "bias_2")]
    return [w.T if w.ndim == 2 else w for w in found]


def at_the_start(net: str) -> tuple[Network, list[torch.Tensor]]:
    """The network before the first step, and masks that drop nothing."""
    trunk = nn.Sequential(nn.Linear(6, 16), nn.ReLU())
    network = Network(trunk, (16, theirs(net, 0)[2].shape[0]), p=0.5)
    with torch.no_grad():
        for w, start in zip(network.parameters(), theirs(net, 0), strict=True):
            w.copy_(start)
    return network, [torch.ones(40, 16)]


def ahead_of(net: str, optimiser: str) -> list[int]:
    """How far ahead each step's number was, as found."""
    return facts(net, "s_minus_t").tolist() if optimiser != "rmsprop" else [0] * STEPS


def one_by_one(net: str, optimiser: str, ahead: list[int] | None):
    """Our weights and loss at each step; `ahead`, if given, says of each step how far it is."""
    network, masks = at_the_start(net)
    stepper = OPTIMISERS[optimiser](network.parameters())
    for t in range(1, STEPS + 1):
        if ahead is not None:
            stepper.param_groups[0]["ahead"] = ahead[t - 1]
        stepper.zero_grad()
        loss = training.loss(network, facts(net, "x"), facts(net, "y"), masks, DECAY)
        loss.backward()
        keras_step(stepper, t)
        yield [w.detach() for w in network.parameters()], loss.item()


def in_step(net: str, optimiser: str, ahead: list[int] | None):
    """The same of two members of a fleet that are fitted in step."""
    network, masks = at_the_start(net)
    weights = {
        name: torch.stack([w.detach(), w.detach()]) for name, w in network.named_parameters()
    }
    objective = _objective(network, facts(net, "x"), facts(net, "y"), DECAY, "float32")
    step = _Step(objective, weights, RULES[optimiser], STEPS, record=False)
    if ahead is not None:
        rates = [RATE * correction(0.9, 0.999, t + ahead[t - 1]) for t in range(1, STEPS + 1)]
        step.rates = torch.tensor(rates)
    chosen = torch.arange(40).expand(2, 40)
    stacked = [mask.expand(2, *mask.shape) for mask in masks]
    for t in range(1, STEPS + 1):
        loss = objective(step.weights(), chosen, *stacked).item() / 2
        step(t, chosen, *stacked)
        ours = step.weights().values()
        assert all(torch.equal(w[0], w[1]) for w in ours)
        yield [w[1].detach() for w in ours], loss


@pytest.mark.parametrize("take", [one_by_one, in_step])
@pytest.mark.parametrize("net", [*ADAM, "rmsprop_regression"])
def test_given_the_numbers_of_the_steps_ours_are_keras_steps(net, take):
    optimiser = net.split("_")[0]
    ahead = None if optimiser == "rmsprop" else ahead_of(net, optimiser)
    losses = facts(net, "loss")
    for t, (ours, loss) in enumerate(take(net, optimiser, ahead), 1):
        for w, v in zip(ours, theirs(net, t), strict=True):
            torch.testing.assert_close(w, v, rtol=0, atol=CLOSE)
        assert loss == pytest.approx(losses[t - 1].item(), rel=1e-5)


@pytest.mark.parametrize("take", [one_by_one, in_step])
@pytest.mark.parametrize("net", ADAM)
def test_adam_next_takes_keras_first_steps_and_adam_does_not(net, take):
    ahead = ahead_of(net, "adam")
    first = ahead.index(0) if 0 in ahead else STEPS
    assert first >= 2
    far = {"adam": 0.0, "adam_next": 0.0}
    for optimiser in far:
        for t, (ours, _) in enumerate(take(net, optimiser, None), 1):
            if t <= first:
                gaps = [(w - v).abs().max() for w, v in zip(ours, theirs(net, t), strict=True)]
                far[optimiser] = max(far[optimiser], max(gaps).item())
    assert far["adam_next"] < CLOSE < 1e-4 < far["adam"]
