"""The networks are the paper's: their sizes, initial weights, and what they do not look at."""

import pytest
import torch
from torch import nn

from deimos.models import networks


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("build", "weights"), [(networks.mnist_7_vs_9, 60_936), (networks.mnist_0_to_9, 73_818)]
)
def test_a_network_has_as_many_weights_as_the_authors(build, weights):
    assert sum(w.numel() for w in build(generator()).parameters()) == weights


@pytest.mark.parametrize("build", [networks.mnist_7_vs_9, networks.mnist_0_to_9])
def test_the_pixels_that_are_cut_off_change_no_output(build):
    network = build(generator())
    digits = torch.randint(0, 256, (3, 28, 28), generator=generator(1), dtype=torch.uint8)
    whole = network.trunk(digits)  # the trunk sees all 28 × 28 pixels here
    seen = network.features(digits)
    torch.testing.assert_close(seen, whole, rtol=1e-5, atol=1e-3)
    altered = digits.clone()
    altered[:, network.seen[0] :] = 255
    altered[:, :, network.seen[1] :] = 255
    assert torch.equal(network.features(altered), seen)


@pytest.mark.parametrize(
    ("build", "shape", "values"),
    [
        (networks.mnist_7_vs_9, (5, 28, 28), 256),
        (networks.mnist_0_to_9, (5, 28, 28), 256),
        (networks.splicing, (5, 101), 4),
        (networks.face_age, (2, 3, 200, 200), 256),
    ],
)
def test_pooling_before_rectifying_changes_no_bit_of_a_feature_or_gradient(build, shape, values):
    x = torch.randint(0, values, shape, generator=generator(1), dtype=torch.uint8)
    ours, papers = build(generator()), build(generator())
    layers = list(papers.trunk)
    pools = [i for i, layer in enumerate(layers) if isinstance(layer, nn.MaxPool2d)]
    assert pools and all(isinstance(layers[i + 1], nn.ReLU) for i in pools)
    for i in pools:
        layers[i], layers[i + 1] = layers[i + 1], layers[i]
    papers.trunk = nn.Sequential(*layers)
    features = [network.features(x) for network in (ours, papers)]
    assert torch.equal(*features) and (features[0] == 0).any()
    for network, found in zip((ours, papers), features, strict=True):
        network.head(found)[0].square().sum().backward()
    for a, b in zip(ours.parameters(), papers.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad) and a.grad.any()


def test_one_pixel_less_would_be_seen():
    network = networks.mnist_7_vs_9(generator())
    digits = torch.full((1, 28, 28), 100, dtype=torch.uint8)
    altered = digits.clone()
    altered[:, network.seen[0] - 1] = 255
    assert not torch.equal(network.features(altered), network.features(digits))


def test_kernels_start_glorot_uniform_and_biases_at_zero():
    network = networks.mnist_0_to_9(generator())
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            area = layer.weight[0, 0].numel()
            limit = (6 / (area * sum(layer.weight.shape[:2]))) ** 0.5
            assert 0.9 * limit < layer.weight.abs().max() <= limit
            assert layer.weight.std().item() == pytest.approx(limit / 3**0.5, rel=0.1)
            assert not layer.bias.any()


def test_the_same_stream_gives_the_same_weights_whatever_torch_drew_before():
    first = networks.mnist_7_vs_9(generator(5))
    torch.rand(7)
    second = networks.mnist_7_vs_9(generator(5))
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("p", [0.0, 1.0, -0.1])
def test_a_dropout_rate_outside_0_and_1_is_refused(p):
    with pytest.raises(ValueError, match="dropout rate"):
        networks.Network(nn.Sequential(nn.Flatten()), (4, 2), p)


@pytest.mark.parametrize(
    ("build", "weights"),
    [(networks.synthetic_1d, 132_353), (networks.splicing, 44_568), (networks.face_age, 700_501)],
)
def test_a_regression_network_has_as_many_weights_as_the_authors(build, weights):
    network = build(generator())
    assert sum(w.numel() for w in network.parameters()) == weights
    assert network.n_outputs == 1 and not network.classifies


@pytest.mark.parametrize(
    ("build", "p", "dropped"),
    [
        (networks.synthetic_1d, 0.20, (256, 256, 256)),
        (networks.splicing, 0.15, (450, 50)),
        (networks.face_age, 0.50, (3_600, 150)),
    ],
)
def test_dropout_stands_where_the_authors_had_it(build, p, dropped):
    network = build(generator())
    assert network.p == p and network.dropout_widths == dropped


@pytest.mark.parametrize(("length", "seen"), [(101, 93), (70, 66), (21, 21)])
def test_the_bases_that_are_cut_off_change_no_output(length, seen):
    network = networks.splicing(generator(), length)
    sequences = torch.randint(0, 4, (5, length), generator=generator(1), dtype=torch.uint8)
    assert network.seen == (seen,)
    assert network.head(network.features(sequences))[0].shape == (5, 1)
    torch.testing.assert_close(network.features(sequences), network.trunk(sequences))
    altered = sequences.clone()
    altered[:, seen:] = 3 - altered[:, seen:]
    assert torch.equal(network.features(altered), network.features(sequences))
    altered[:, seen - 1] = 3 - altered[:, seen - 1]
    assert not torch.equal(network.features(altered), network.features(sequences))


def test_sequences_that_leave_nothing_to_pool_are_refused():
    with pytest.raises(ValueError, match="21 nt or more, got 20"):
        networks.splicing(generator(), 20)


def test_the_rim_of_a_face_that_is_cut_off_changes_no_output():
    network = networks.face_age(generator())
    faces = torch.randint(0, 256, (2, 3, 200, 200), generator=generator(1), dtype=torch.uint8)
    seen = network.features(faces)
    torch.testing.assert_close(seen, network.trunk(faces), rtol=1e-4, atol=1e-2)
    altered = faces.clone()
    altered[:, :, 180:], altered[:, :, :, 180:] = 255, 255
    assert torch.equal(network.features(altered), seen)
    altered[:, :, 179] = 255
    assert not torch.equal(network.features(altered), seen)


def test_a_base_is_one_of_four_channels_in_the_order_a_c_g_t():
    one_hot = networks.splicing(generator()).trunk[0](torch.arange(4, dtype=torch.uint8)[None])
    assert torch.equal(one_hot, torch.eye(4)[None, :, None, :])


def test_the_dense_kernels_of_splicing_start_normal():
    network = networks.splicing(generator())
    dense, convolution = network.dense[0].weight, network.trunk[1].weight
    assert dense.std().item() == pytest.approx(0.05, rel=0.05)
    assert dense.abs().max() > 0.15  # no uniform of that deviation reaches so far
    assert convolution.abs().max() <= (6 / (4 * (4 + 101))) ** 0.5  # Glorot's
