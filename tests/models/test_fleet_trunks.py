"""The trunks of all members at once are what each member's trunk is by itself."""

from collections import OrderedDict
from functools import partial

import pytest
import tiny
import torch
from torch import Tensor, nn

from deimos.label_next import networks as own
from deimos.models import fleet_trunks, networks
from deimos.models.fleet_trunks import LARGE
from deimos.models.networks import Network, Pixels

M, N = 2, 3
GREY, COLOUR = (12, 12), (3, 12, 12)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Scaled(Pixels):
    """Images whose values end at 1."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) / 256


class Standardised(nn.Conv2d):
    """A convolution with other weights than it has."""

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.weight - self.weight.mean(), self.bias)


def network(*layers: nn.Module, head: type = Pixels) -> Network:
    return Network(nn.Sequential(head(), *layers, nn.Flatten()), (1, 1), p=0.5)


def convolutions(*kinds: tuple, window: int = 1, head: type = Pixels):
    """A network of convolutions (channels in and out, kernel, stride), the last one pooled."""

    def build(generator: torch.Generator) -> Network:
        layers = [layer for kind in kinds for layer in (nn.Conv2d(*kind), nn.ReLU())]
        layers.insert(-1, nn.MaxPool2d(window))
        made = network(*layers, head=head)
        networks.initialise(made, generator)
        return made

    return build


def rectified_first(generator: torch.Generator) -> Network:
    """Units are rectified before they are pooled, in windows said in every way."""
    made = network(
        nn.Conv2d(3, 5, 3), nn.ReLU(), nn.MaxPool2d((2, 1), stride=[2, 1]),
        nn.Conv2d(5, 6, (2, 3)), nn.ReLU(inplace=True), nn.MaxPool2d([2, 3]),
    )  # fmt: skip
    networks.initialise(made, generator)
    return made


def named(build, shape: tuple, values: int, large: float, forms: str, name: str):
    return pytest.param(build, shape, values, large, forms, id=name)


trunks = pytest.mark.parametrize(
    ("build", "shape", "values", "large", "forms"),
    [
        named(networks.mnist_7_vs_9, (28, 28), 256, LARGE, "patches taps", "7 vs 9"),
        named(networks.mnist_0_to_9, (28, 28), 256, LARGE, "patches taps", "0-9"),
        named(networks.splicing, (101,), 4, LARGE, "patches taps", "101 nt"),
        named(partial(networks.splicing, length=70), (70,), 4, LARGE, "patches taps", "70 nt"),
        named(networks.face_age, (3, 200, 200), 256, LARGE, "each each each each", "faces"),
        named(
            partial(own.image_net, shape=(3, 40, 40), n_outputs=2), (3, 40, 40), 256, LARGE,
            "patches taps", "40 × 40 in colour",
        ),
        named(rectified_first, COLOUR, 256, LARGE, "patches taps", "rectified first"),
        named(rectified_first, COLOUR, 256, 0, "each each", "rectified first, large"),
        named(convolutions((1, 5, 3)), GREY, 256, LARGE, "patches", "one small"),
        named(convolutions((1, 5, 3, (2, 3))), GREY, 256, 0, "each", "no stride divides"),
        named(convolutions((3, 5, 2, 2), window=2), COLOUR, 256, 0, "each", "blocks"),
        named(convolutions((1, 5, (4, 3), (2, 3))), (13, 14), 256, 0, "each", "blocks cut off"),
        named(
            convolutions((3, 5, 4), (5, 6, (2, 3)), (6, 7, 2), window=2), COLOUR, 256, LARGE,
            "patches taps taps", "three small",
        ),
        named(
            convolutions((1, 5, 4), (5, 9, (2, 3), (1, 3)), (9, 7, 2)), GREY, 256, LARGE,
            "patches taps taps", "three small, one with a stride",
        ),
        named(
            convolutions((3, 5, 3), (5, 6, 3, 2), (6, 7, 2), window=2), COLOUR, 256, 4_000,
            "each each taps", "large ones and a small one",
        ),
        named(convolutions((1, 5, 3), head=Scaled), GREY, 256, LARGE, "patches", "scaled"),
    ],
)  # fmt: skip


def members(build, shape: tuple, values: int) -> tuple[list[Network], Tensor]:
    """Networks with biases, which start at 0, and N points of each."""
    found = [build(generator(i)) for i in range(M)]
    for i, one in enumerate(found):
        for name, weight in one.named_parameters():
            if name.endswith("bias"):
                nn.init.normal_(weight, generator=generator(M + i))
    x = torch.randint(0, values, (M, N, *shape), generator=generator(0), dtype=torch.uint8)
    return found, x


def stacked(nets: list[Network]) -> dict[str, Tensor]:
    names = [name for name, _ in nets[0].named_parameters() if name.startswith("trunk")]
    return {
        name: torch.stack([net.get_parameter(name).detach() for net in nets]).requires_grad_()
        for name in names
    }


def at_once(nets: list[Network], x: Tensor, weights: dict, precision: str = "float32") -> Tensor:
    return fleet_trunks.all_trunks(nets[0], x[0, 0], precision)(weights, x)


def one_by_one(nets: list[Network], x: Tensor) -> Tensor:
    return torch.stack([net.features(points) for net, points in zip(nets, x, strict=True)])


def in_doubles(nets: list[Network], monkeypatch) -> list[Network]:
    """Their heads, too, give doubles from here on."""
    for head in (Pixels, networks._OneHot):
        plain = head.forward
        doubled = lambda self, x, plain=plain: plain(self, x).double()  # noqa: E731
        monkeypatch.setattr(head, "forward", doubled)
    return [net.double() for net in nets]


def assert_close(ours: Tensor, theirs: Tensor) -> None:
    assert ours.shape == theirs.shape and theirs.any()
    assert (ours - theirs).abs().max() <= 1e-12 * theirs.abs().max()


@trunks
def test_features_and_gradients_are_those_of_each_member_by_itself(
    build, shape, values, large, forms, monkeypatch
):
    monkeypatch.setattr(fleet_trunks, "LARGE", large)
    nets, x = members(build, shape, values)
    nets = in_doubles(nets, monkeypatch)
    weights = stacked(nets)
    ours, theirs = at_once(nets, x, weights), one_by_one(nets, x)
    assert_close(ours, theirs)
    share = torch.randn(ours.shape, generator=generator(1), dtype=ours.dtype)
    (theirs * share).sum().backward()
    gradients = torch.autograd.grad((ours * share).sum(), list(weights.values()))
    for name, gradient in zip(weights, gradients, strict=True):
        assert_close(gradient, torch.stack([net.get_parameter(name).grad for net in nets]))


@trunks
def test_in_bfloat16_features_are_off_by_its_rounding(
    build, shape, values, large, forms, monkeypatch
):
    monkeypatch.setattr(fleet_trunks, "LARGE", large)
    nets, x = members(build, shape, values)
    ours, theirs = at_once(nets, x, stacked(nets), "bfloat16"), one_by_one(nets, x)
    assert ours.dtype == nets[0].trunk[1].weight.dtype == torch.float32
    assert 1e-4 < (ours - theirs).norm() / theirs.norm() < 0.02


@trunks
def test_convolutions_have_the_form_of_their_size(build, shape, values, large, forms, monkeypatch):
    called = []
    for form in ("patches", "taps", "each"):
        plain = getattr(fleet_trunks, f"_{form}")
        noted = lambda *a, form=form, plain=plain, **k: called.append(form) or plain(*a, **k)  # noqa: E731
        monkeypatch.setattr(fleet_trunks, f"_{form}", noted)
    monkeypatch.setattr(fleet_trunks, "LARGE", large)
    nets, x = members(build, shape, values)
    at_once(nets, x, stacked(nets))
    assert " ".join(called) == forms


SHARED = nn.Conv2d(4, 4, 1)
OTHERS = {
    "no rectifier": [nn.Conv2d(1, 4, 3)],
    "no rectifier between": [nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.ReLU()],
    "a rectifier before": [nn.ReLU(), nn.Conv2d(1, 4, 3)],
    "no convolution": [nn.MaxPool2d(2), nn.ReLU()],
    "padding": [nn.Conv2d(1, 4, 3, padding=1), nn.ReLU()],
    "padding in a word": [nn.Conv2d(1, 4, 3, padding="same"), nn.ReLU()],
    "dilation": [nn.Conv2d(1, 4, 3, dilation=2), nn.ReLU()],
    "groups": [nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3, groups=2), nn.ReLU()],
    "no bias": [nn.Conv2d(1, 4, 3, bias=False), nn.ReLU()],
    "a convolution of one's own": [Standardised(1, 4, 3), nn.ReLU()],
    "shared weights": [nn.Conv2d(1, 4, 3), nn.ReLU(), SHARED, nn.ReLU(), SHARED, nn.ReLU()],
    "another rectifier": [nn.Conv2d(1, 4, 3), nn.LeakyReLU()],
    "another norm": [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU()],
    "a norm of the features": [nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.BatchNorm1d(400)],
    "dropout": [nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Dropout()],
    "two poolings": [nn.Conv2d(1, 4, 3), nn.MaxPool2d(2), nn.MaxPool2d(2), nn.ReLU()],
    "means": [nn.Conv2d(1, 4, 3), nn.AvgPool2d(2), nn.ReLU()],
    "windows that overlap": [nn.Conv2d(1, 4, 3), nn.MaxPool2d(3, stride=2), nn.ReLU()],
    "windows beyond the edge": [nn.Conv2d(1, 4, 2), nn.MaxPool2d(3, padding=1), nn.ReLU()],
    "windows with gaps": [nn.Conv2d(1, 4, 2), nn.MaxPool2d(2, dilation=2), nn.ReLU()],
    "windows cut off": [nn.Conv2d(1, 4, 3), nn.MaxPool2d(4, ceil_mode=True), nn.ReLU()],
    "a stride that does not divide": [
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3, stride=2), nn.ReLU()
    ],
    "a stride after pooling": [
        nn.Conv2d(1, 4, 3), nn.MaxPool2d(2), nn.ReLU(), nn.Conv2d(4, 4, 2, stride=2), nn.ReLU()
    ],
    "a stride in the third": [
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(),
        nn.Conv2d(4, 4, 2, stride=2), nn.ReLU(),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_a_trunk_of_another_kind_is_left_to_itself(name):
    other = network(*OTHERS[name])
    x = torch.ones(2, *GREY, dtype=torch.uint8)
    assert other.features(x).shape[0] == 2  # it is a trunk
    before = {name: value.clone() for name, value in other.state_dict().items()}
    drawn = torch.get_rng_state()
    assert fleet_trunks.all_trunks(other, x[0], "float32") is None
    for name, value in other.state_dict().items():
        assert torch.equal(value, before[name])
    assert torch.equal(torch.get_rng_state(), drawn)


@pytest.mark.parametrize(
    ("build", "taken"),
    [
        # 1,800 and 73,728 multiplications a point
        (convolutions((1, 2, 3), (2, 64, 3)), {100_000: True, 10_000: False, 1_000: True}),
        # 28,800 and 6,400, and small ones with strides take blocks that only patches give
        (convolutions((1, 32, 3), (32, 2, 2, 2)), {100_000: True, 10_000: False, 1_000: True}),
    ],
    ids=["large after small", "a stride after large"],
)
def test_not_every_small_convolution_goes_with_a_large_one(build, taken, monkeypatch):
    for large, wanted in taken.items():
        monkeypatch.setattr(fleet_trunks, "LARGE", large)
        found = fleet_trunks.all_trunks(build(generator(0)), torch.ones(GREY), "float32")
        assert (found is not None) == wanted


@pytest.mark.parametrize(
    "trunk",
    [
        nn.Sequential(),
        nn.Sequential(nn.Flatten()),
        nn.Sequential(nn.BatchNorm1d(2), nn.ReLU(), nn.Flatten()),
        nn.Sequential(nn.Unflatten(1, (1, 2)), nn.Conv1d(1, 3, 2), nn.ReLU(), nn.Flatten()),
        nn.Sequential(
            OrderedDict(
                image=nn.Unflatten(1, (1, 1, 2)), first=nn.Conv2d(1, 3, 1), relu=nn.ReLU(),
                flat=nn.Flatten(),
            )
        ),
        tiny.build(generator(0)).trunk,
    ],
    ids=["empty", "flat", "a norm", "1-D", "names", "dense layers"],
)  # fmt: skip
def test_a_trunk_of_vectors_is_left_to_itself(trunk):
    other = Network(trunk, (16, 8, 2), p=0.3)
    other.features(torch.ones(2, 2))
    assert fleet_trunks.all_trunks(other, torch.ones(2), "float32") is None
