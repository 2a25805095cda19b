"""A network and settings for points of one's own: those of the paper's task of the same kind.

Sequences get the splicing net, images the digits' or the faces' by their size, with as many weights
as their shape asks for; rows of numbers get the net of Fig. 1, narrower and of as many inputs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from deimos.models import networks
from deimos.models.networks import Network

LARGE_IMAGE = 64  # pixels; beyond, images are for the faces' net


@dataclass(frozen=True)
class Settings:
    """Settings of a fit, and the spread of the values that they were chosen for."""

    name: str
    build: Callable[[torch.Generator], Network]
    epochs: int
    decay: float
    optimiser: str = "adam"
    minibatch: int = 128
    spread: float = 1.0  # sd of the paper's labels: ours are brought to it


def fitting(
    kind: str, shape: tuple[int, ...], n_outputs: int, brightest: float | None = None
) -> Settings:
    """The paper's settings for points of this kind and shape.

    With the largest value of a pixel, `brightest`, the MNIST net gets images from 0 to 1. The paper
    leaves them as stored; `docs/results.md` has what that costs on digits.
    """
    if kind == "sequences":
        build = partial(sequence_net, length=shape[0], n_outputs=n_outputs)
        return Settings("the splicing net", build, 300, 0.025, "rmsprop", spread=0.3)
    if kind == "images" and max(shape[-2:]) > LARGE_IMAGE:
        build = partial(image_net, shape=shape, n_outputs=n_outputs)
        return Settings("the face net", build, 250, 2.0, spread=20.0)
    if kind == "images":
        decay = 0.0005 if n_outputs == 2 else 0.01
        build = partial(image_net, shape=shape, n_outputs=n_outputs, brightest=brightest)
        pixels = "" if brightest is None else f", pixels of at most {brightest:g} brought to 0 to 1"
        return Settings(f"the MNIST net{pixels}", build, 300, decay)
    build = partial(vector_net, width=shape[0], n_outputs=n_outputs)
    return Settings("a net of dense layers", build, 300, 0.035, minibatch=32)


def sequence_net(generator: torch.Generator, length: int, n_outputs: int) -> Network:
    """The splicing net; for classes, with another last layer."""
    network = networks.splicing(generator, length)
    if n_outputs > 1:
        widths = (*network.dropout_widths, n_outputs)
        network = Network(network.trunk, widths, network.p, network.seen)
        networks.initialise(network, generator, dense_std=0.05)
    return network


def image_net(
    generator: torch.Generator,
    shape: tuple[int, ...],
    n_outputs: int,
    brightest: float | None = None,
) -> Network:
    """The layers of the MNIST nets or of the face net, for images of any one size."""
    n_colours = 3 if len(shape) == 3 else 1
    if max(shape[-2:]) > LARGE_IMAGE:
        trunk, hidden, p = networks.faces_trunk(n_colours), 150, 0.50
    else:
        width, p = (35, 0.30) if n_outputs == 2 else (40, 0.25)
        trunk, hidden = networks.digits_trunk(n_colours, width, brightest), 128
    try:
        features = trunk(torch.zeros(1, *shape)).shape[1]
    except RuntimeError as error:
        size = " × ".join(map(str, shape[-2:]))
        raise ValueError(f"images of {size} pixels are too small for the net: enlarge them") from (
            error
        )
    network = Network(trunk, (features, hidden, n_outputs), p)
    networks.initialise(network, generator)
    return network


def vector_net(generator: torch.Generator, width: int, n_outputs: int) -> Network:
    """Dense layers alone, dropout before all but the first, as in Fig. 1."""
    trunk = nn.Sequential(nn.Linear(width, 128), nn.ReLU(inplace=True))
    network = Network(trunk, (128, 128, 64, n_outputs), p=0.20)
    networks.initialise(network, generator)
    return network
