"""Training does what Keras did, step by step, and the same bits come out every time."""

import re
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from deimos.experiment import loop
from deimos.models import networks, training
from deimos.models.mc_dropout import draw_masks
from deimos.models.networks import Network
from deimos.models.training import Fit
from deimos.record.provenance import PACKAGE, science_modules
from deimos.tasks.mnist import load_7_vs_9

SMALLEST = dict(
    batch_size=1, n_initial=2, n_acquired=1, n_candidates=5, fit=Fit(1, minibatch=2, decay=0.1),
    n_masks=2, n_passes=1,
)  # fmt: skip
INF, NAN = float("inf"), float("nan")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def regression_net(seed: int = 0) -> Network:
    network = Network(nn.Sequential(nn.Flatten(), nn.Linear(3, 7), nn.ReLU()), (7, 5, 1), p=0.2)
    networks.initialise(network, generator(seed))
    return network.double()


def data(n: int = 10) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(n, 3, generator=generator(1), dtype=torch.float64)
    return x, x.sum(1).sin()


def keras_adam(w, g, m, v, t):
    m.mul_(0.9).add_(0.1 * g)
    v.mul_(0.999).add_(0.001 * g**2)
    w.sub_(1e-3 * (1 - 0.999**t) ** 0.5 / (1 - 0.9**t) * m / (v.sqrt() + 1e-7))


def keras_adam_next(w, g, m, v, t):
    m.mul_(0.9).add_(0.1 * g)
    v.mul_(0.999).add_(0.001 * g**2)
    w.sub_(1e-3 * (1 - 0.999 ** (t + 1)) ** 0.5 / (1 - 0.9 ** (t + 1)) * m / (v.sqrt() + 1e-7))


def keras_rmsprop(w, g, m, v, t):
    v.mul_(0.9).add_(0.1 * g**2)
    w.sub_(1e-3 * g / (v.sqrt() + 1e-7))


@pytest.mark.parametrize(
    ("optimiser", "update", "remainder", "parts"),
    [
        ("adam", keras_adam, "kept", [(0, 4), (4, 8), (8, 10)]),
        ("adam", keras_adam, "dropped", [(0, 4), (4, 8)]),
        ("adam", keras_adam, "merged", [(0, 4), (4, 10)]),
        ("adam_next", keras_adam_next, "kept", [(0, 4), (4, 8), (8, 10)]),
        ("rmsprop", keras_rmsprop, "kept", [(0, 4), (4, 8), (8, 10)]),
    ],
)
def test_fit_takes_the_steps_that_keras_would(optimiser, update, remainder, parts):
    x, y = data(10)
    fitted = training.fit(
        regression_net(), x, y, epochs=4, minibatch=4, decay=0.3, optimiser=optimiser,
        order=generator(2), dropout=generator(3), remainder=remainder,
    )  # fmt: skip
    twin, order, dropout, t = regression_net(), generator(2), generator(3), 0
    state = {w: (torch.zeros_like(w), torch.zeros_like(w)) for w in twin.parameters()}
    for _ in range(4):
        shuffled = torch.randperm(10, generator=order)
        masks = draw_masks(twin, (10,), dropout)
        for part in (slice(*ends) for ends in parts):
            t += 1
            chosen, (first, second) = shuffled[part], (mask[part] for mask in masks)
            h = twin.trunk(x[chosen]) * first
            h = torch.relu(twin.dense[0](h)) * second
            kernels = [twin.trunk[1].weight, twin.dense[0].weight, twin.dense[1].weight]
            penalty = 0.3 / 10 * sum((k**2).sum() for k in kernels)
            error = (twin.dense[1](h).squeeze(1) - y[chosen]).square().mean() + penalty
            gradients = torch.autograd.grad(error, list(twin.parameters()))
            with torch.no_grad():
                for (w, (m, v)), g in zip(state.items(), gradients, strict=True):
                    update(w, g, m, v, t)
    for ours, theirs in zip(fitted.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    ("n", "sizes"),
    [
        (3, {"kept": [3], "dropped": [3], "merged": [3]}),
        (4, {"kept": [4], "dropped": [4], "merged": [4]}),
        (5, {"kept": [4, 1], "dropped": [4], "merged": [5]}),
        (8, {"kept": [4, 4], "dropped": [4, 4], "merged": [4, 4]}),
        (11, {"kept": [4, 4, 3], "dropped": [4, 4], "merged": [4, 7]}),
    ],
)
def test_what_is_left_after_whole_minibatches_is_kept_dropped_or_merged(n, sizes):
    assert set(sizes) == set(training.REMAINDERS)
    for remainder, expected in sizes.items():
        assert training.minibatches(n, 4, remainder) == expected
    with pytest.raises(ValueError, match="kept, dropped, merged, not 'drop'"):
        training.minibatches(n, 4, "drop")


def test_the_classification_loss_is_cross_entropy_plus_decay_on_dense_kernels():
    network = networks.mnist_7_vs_9(generator())
    x = torch.randint(0, 256, (6, 28, 28), generator=generator(1), dtype=torch.uint8)
    y = torch.tensor([0, 1, 0, 1, 1, 0])
    masks = draw_masks(network, (6,), generator(2))
    output, _ = network.head(network.features(x), masks)
    kernels = [layer.weight for layer in network.dense]
    wanted = F.nll_loss(output.log_softmax(1), y) + 0.01 * sum((k**2).sum() for k in kernels)
    torch.testing.assert_close(training.loss(network, x, y, masks, 0.01), wanted)


def test_a_fit_repeats_to_the_last_bit():
    x = torch.randint(0, 256, (20, 28, 28), generator=generator(1), dtype=torch.uint8)
    y = torch.arange(20) % 2

    def fit():
        return training.fit(
            networks.mnist_7_vs_9(generator()), x, y, epochs=3, minibatch=8, decay=5e-4,
            optimiser="adam", order=generator(2), dropout=generator(3),
        )  # fmt: skip

    for a, b in zip(fit().parameters(), fit().parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("x_is", "y_is", "decay"),
    [(1, INF, 0.1), (1, NAN, 0.1), (NAN, 1, 0.1), (1e200, 1, 0.1), (1, 1, INF), (1, 1, NAN)],
)
@pytest.mark.parametrize("optimiser", ["adam", "rmsprop"])
def test_a_diverged_model_is_refused(x_is, y_is, decay, optimiser):
    x, y = data(8)
    with pytest.raises(ValueError, match="diverged: .* after 2 epochs on 8 points, with decay="):
        training.fit(
            regression_net(), x * x_is, y * y_is, epochs=2, minibatch=8, decay=decay,
            optimiser=optimiser, order=generator(), dropout=generator(),
        )  # fmt: skip


def test_a_class_without_a_label_is_learned_to_be_rare_and_nothing_breaks():
    x = torch.randint(0, 256, (12, 28, 28), generator=generator(1), dtype=torch.uint8)
    network = training.fit(
        networks.mnist_7_vs_9(generator()), x, torch.zeros(12, dtype=torch.long), epochs=20,
        minibatch=8, decay=5e-4, optimiser="adam", order=generator(2), dropout=generator(3),
    )  # fmt: skip
    output, _ = network.head(network.features(x))
    assert output.isfinite().all() and (output.argmax(1) == 0).all()


def fitted(x: torch.Tensor, y: torch.Tensor, precision: str, seed: int = 0, epochs: int = 3):
    return training.fit(
        networks.mnist_7_vs_9(generator(seed)), x, y, epochs=epochs, minibatch=8, decay=5e-4,
        optimiser="adam", order=generator(2), dropout=generator(3), precision=precision,
    )  # fmt: skip


def test_half_precision_rounds_the_trunks_products_and_nothing_that_is_kept():
    x = torch.randint(0, 256, (20, 28, 28), generator=generator(1), dtype=torch.uint8)
    whole, half, again = (
        list(fitted(x, torch.arange(20) % 2, precision).parameters())
        for precision in ("float32", "bfloat16", "bfloat16")
    )
    for a, b, c in zip(whole, half, again, strict=True):
        assert b.dtype == torch.float32 and torch.equal(b, c)
        assert not torch.equal(a, b) and not torch.equal(b, b.bfloat16().float())


def test_scores_in_half_precision_are_those_of_single_precision_within_noise():
    digits = load_7_vs_9("quick")
    x, y = digits.x[digits.train_ids][:60], digits.y[digits.train_ids][:60]
    scores = {"float32": [], "bfloat16": []}
    for seed, (precision, found) in product(range(4), scores.items()):
        network = fitted(x[:40], y[:40], precision, seed, epochs=20)
        answers, _ = network.head(network.features(x[40:]))
        found.append((answers.argmax(1) == y[40:]).float().mean())
    single, half = (torch.stack(found) for found in scores.values())
    assert single.mean() > 0.9 and (single - half).mean().abs() < 0.03


def test_the_environment_decides_no_setting(monkeypatch):
    monkeypatch.setenv("DEIMOS_PRECISION", "bfloat16")
    assert loop.Schedule(**SMALLEST).fit.precision == "float32"


def test_no_module_of_the_science_reads_a_setting_from_the_environment():
    allowed = {"DEIMOS_DATA", "DEIMOS_OFFLINE"}  # where data are, and where they come from
    for module in science_modules():
        text = (PACKAGE / f"{module}.py").read_text()
        assert {*re.findall(r"DEIMOS_[A-Z]+", text)} <= allowed, module
