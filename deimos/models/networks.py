"""The paper's networks: a deterministic trunk, then dense layers that follow a dropout (App. D).

Dropout stands before every dense layer of the head and nowhere else, so the trunk's output is the
same in every Monte-Carlo pass and is computed once per point; only the head is sampled. Where the
paper pools rectified units, ours rectify pooled ones: the same values and gradients to the last
bit, since a maximum and max(0, ·) commute, with a fraction of the units to rectify.

Axes:  J dropout masks · S points · d features · c outputs (1 in regression)
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float, Num
from torch import Tensor, nn


class Network(nn.Module):
    """A trunk and a dense head; `seen` is the part of the input that any output depends on.

    Valid pooling drops the last rows and columns, so pixels beyond `seen` change nothing: they are
    cut off before the first convolution, which gives the same outputs for less arithmetic.
    """

    def __init__(
        self, trunk: nn.Sequential, widths: Sequence[int], p: float, seen: Sequence[int] = ()
    ):
        if not 0 < p < 1:
            raise ValueError(f"a dropout rate lies between 0 and 1, got {p}")
        super().__init__()
        self.trunk = trunk
        self.dense = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.p = p
        self.seen = tuple(seen)

    @property
    def dropout_widths(self) -> tuple[int, ...]:
        """Number of units that each dropout layer masks, in the order of the head."""
        return tuple(layer.in_features for layer in self.dense)

    @property
    def n_outputs(self) -> int:
        """c: classes in classification, 1 in regression."""
        return self.dense[-1].out_features

    @property
    def classifies(self) -> bool:
        """True if the outputs are logits of class probabilities."""
        return self.n_outputs > 1

    def features(self, x: Num[Tensor, "S *input"]) -> Float[Tensor, "S d"]:
        """The trunk's output, the same in every Monte-Carlo pass."""
        return self.trunk(self.crop(x))

    def crop(self, x: Num[Tensor, "S *input"]) -> Num[Tensor, "S *seen"]:
        """The part of the input that is `seen`."""
        return x[(..., *(slice(size) for size in self.seen))]

    def head(
        self, features: Float[Tensor, "*S d"], masks: Sequence[Tensor] | None = None
    ) -> tuple[Float[Tensor, "*JS c"], Float[Tensor, "... h"]]:
        """Outputs (logits in classification) and the penultimate layer's activations.

        `masks` holds one tensor per dropout layer that broadcasts against its input, with values
        0 or 1/(1−p); None switches dropout off, as for k-Center's embeddings.
        """
        h = features
        for depth, layer in enumerate(self.dense):
            penultimate = h
            h = layer(h if masks is None else h * masks[depth])
            if depth < len(self.dense) - 1:
                h = torch.relu(h)
        return h, penultimate


def initialise(network: Network, generator: torch.Generator, dense_std: float | None = None):
    """Glorot-uniform kernels and zero biases, as in Keras; dense kernels N(0, std²) if given."""
    for layer in network.modules():
        if not isinstance(layer, nn.Conv2d | nn.Linear):
            continue
        if dense_std is not None and isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=dense_std, generator=generator)
        else:
            nn.init.xavier_uniform_(layer.weight, generator=generator)
        nn.init.zeros_(layer.bias)


class Pixels(nn.Module):
    """Images as stored (uint8, one channel or three, 0-255 unscaled) to float, channels first."""

    def forward(self, x: Num[Tensor, "S *image"]) -> Float[Tensor, "S channel h w"]:
        return layout(x).float()


class UnitPixels(Pixels):
    """The same brought to 0 to 1, of images whose pixels may be as large as `brightest`."""

    def __init__(self, brightest: float):
        super().__init__()
        self.brightest = brightest

    def forward(self, x: Num[Tensor, "S *image"]) -> Float[Tensor, "S channel h w"]:
        return super().forward(x) / self.brightest


def layout(x: Num[Tensor, "S *image"]) -> Num[Tensor, "S channel h w"]:
    """Images with their channels, of which there may be one, as an axis."""
    return x.unsqueeze(1) if x.ndim == 3 else x


def mnist_7_vs_9(generator: torch.Generator) -> Network:
    """The net of the 7 vs 9 experiments: 60,936 weights, p = 0.30."""
    return _mnist(generator, channels=35, n_classes=2, p=0.30)


def mnist_0_to_9(generator: torch.Generator) -> Network:
    """The net of the 0-9 experiments: 73,818 weights, p = 0.25."""
    return _mnist(generator, channels=40, n_classes=10, p=0.25)


def _mnist(generator: torch.Generator, channels: int, n_classes: int, p: float) -> Network:
    network = Network(digits_trunk(1, channels), (9 * channels, 128, n_classes), p, seen=(23, 23))
    initialise(network, generator)
    return network


def digits_trunk(n_colours: int, channels: int, brightest: float | None = None) -> nn.Sequential:
    """The convolutions of the MNIST nets; pixels as stored, or brought to 0 to 1."""
    return nn.Sequential(
        Pixels() if brightest is None else UnitPixels(brightest),
        nn.Conv2d(n_colours, channels, 4),  # 28 → 25, of which 20 are seen
        nn.ReLU(inplace=True),
        nn.Conv2d(channels, channels, 4, stride=2),  # 25 → 11, of which 9 are seen
        nn.MaxPool2d(3),  # 11 → 3
        nn.ReLU(inplace=True),
        nn.Flatten(),
    )


class _OneHot(nn.Module):
    """Sequences as stored (uint8 codes of A, C, G, T) to a channel for each base.

    They become images of height 1: torch convolves these channels-last, twice as fast as in 1-D.
    """

    def forward(self, x: Num[Tensor, "S length"]) -> Float[Tensor, "S 4 1 length"]:
        return nn.functional.one_hot(x.long(), 4).transpose(1, 2).unsqueeze(2).float()


def synthetic_1d(generator: torch.Generator) -> Network:
    """The net of Fig. 1: 132,353 weights, p = 0.20, and no dropout before the first layer."""
    trunk = nn.Sequential(nn.Linear(1, 256), nn.ReLU(inplace=True))
    network = Network(trunk, (256, 256, 256, 1), p=0.20)
    initialise(network, generator)
    return network


def splicing(generator: torch.Generator, length: int = 101) -> Network:
    """The net of the splicing experiment: 44,568 weights at the library's 101 nt, p = 0.15."""
    pooled = ((length - 3) // 3 - 3) // 3  # a kernel of 4 costs 3 positions
    if pooled < 1:
        raise ValueError(f"the net needs sequences of 21 nt or more, got {length}")
    trunk = nn.Sequential(
        _OneHot(),
        nn.Conv2d(4, 101, (1, 4)),  # 101 → 98, of which 90 are seen
        nn.MaxPool2d((1, 3)),  # 98 → 32, of which 30 are seen
        nn.ReLU(inplace=True),
        nn.Conv2d(101, 50, (1, 4)),  # 32 → 29, of which 27 are seen
        nn.MaxPool2d((1, 3)),  # 29 → 9
        nn.ReLU(inplace=True),
        nn.Flatten(),
    )
    network = Network(trunk, (50 * pooled, 50, 1), p=0.15, seen=(9 * pooled + 12,))
    initialise(network, generator, dense_std=0.05)
    return network


def face_age(generator: torch.Generator) -> Network:
    """The net of the face-age experiments: 700,501 weights, p = 0.50."""
    network = Network(faces_trunk(3), (6 * 6 * 100, 150, 1), p=0.50, seen=(180, 180))
    initialise(network, generator)
    return network


def faces_trunk(n_colours: int) -> nn.Sequential:
    """The convolutions of the face net."""
    return nn.Sequential(
        Pixels(),
        nn.Conv2d(n_colours, 50, 4, stride=2),  # 200 → 99, of which 89 are seen
        nn.ReLU(inplace=True),
        nn.Conv2d(50, 50, 3, stride=2),  # 99 → 49, of which 44 are seen
        nn.MaxPool2d(2),  # 49 → 24, of which 22 are seen
        nn.ReLU(inplace=True),
        nn.Conv2d(50, 100, 3),  # 24 → 22, of which 20 are seen
        nn.ReLU(inplace=True),
        nn.Conv2d(100, 100, 3),  # 22 → 20, of which 18 are seen
        nn.MaxPool2d(3),  # 20 → 6
        nn.ReLU(inplace=True),
        nn.Flatten(),
    )
