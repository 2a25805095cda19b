"""Whatever a model is made of, its points meet the same masks, or it is refused in one sentence."""

import copy
import random
import subprocess
import sys
import warnings
from collections import namedtuple
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from own_models import Net, points, seeded
from torch import nn

from deimos.pool.select_batch import prepare, select_batch
from deimos.pool.shared_masks import predict

N, J = 24, 8


def with_layer(p=0.5):
    return seeded(Net, lambda m, h: m.drop(h), drop=nn.Dropout(p))


def assert_shared(model, x, at_once=9, **given):
    """Copies of a point agree, however the pool is cut and turned, and something varies."""
    whole = prepare(model, x, n_masks=J, **given).predictions
    cut = prepare(model, x, n_masks=J, at_once=at_once, **given).predictions
    torch.testing.assert_close(cut, whole, rtol=1e-4, atol=1e-5)
    copies = prepare(model, x[:1].repeat(9, *[1] * (x.dim() - 1)), n_masks=J, **given).predictions
    torch.testing.assert_close(copies, copies[:, :1].expand_as(copies), rtol=1e-4, atol=1e-5)
    assert whole.std(0).mean() > 1e-4
    return whole


def assert_whole(model, x, J=150):
    """All of the variance is there that the model is trained with, as torch draws it."""
    ours, model = predict(model, [x], n_masks=J), copy.deepcopy(model).train()
    with torch.no_grad():
        theirs = torch.stack([model(x) for _ in range(J)])
    ratio = ours.var(0).mean() / theirs.var(0).mean()
    assert ratio.item() == pytest.approx(1, abs=0.4)


# Kind 2: everything in torch that drops


class InBranch(nn.Module):
    """Dropped in training alone: in evaluation nothing is called."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 32), nn.Linear(32, 1)

    def forward(self, x):
        h = torch.relu(self.a(x))
        if self.training:
            h = F.dropout(h, 0.5)
        return self.b(h)


class OnWeights(nn.Module):
    """DropConnect: weights are dropped, which have no axis of points."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 32), nn.Linear(32, 1)

    def forward(self, x):
        weight = F.dropout(self.b.weight, 0.5, self.training)
        return F.linear(torch.relu(self.a(x)), weight, self.b.bias)


FUNCTIONS = {
    "F.dropout": lambda m, h: F.dropout(h, 0.5, m.training),
    "F.dropout, on always": lambda m, h: F.dropout(h, 0.5),
    "F.dropout in place": lambda m, h: F.dropout(h, 0.5, m.training, inplace=True),
    "torch.dropout": lambda m, h: torch.dropout(h, 0.5, m.training),
    "torch.dropout_": lambda m, h: torch.dropout_(h, 0.5, m.training),
    "torch.native_dropout": lambda m, h: torch.native_dropout(h, 0.5, m.training)[0],
    "torch.ops.aten.dropout": lambda m, h: torch.ops.aten.dropout(h, 0.5, True),
    "rate in training alone": lambda m, h: F.dropout(h, 0.5 if m.training else 0.0, True),
    "F.alpha_dropout": lambda m, h: F.alpha_dropout(h, 0.3, m.training),
    "F.dropout1d": lambda m, h: F.dropout1d(h.unsqueeze(2), 0.5, m.training).squeeze(2),
    "F.dropout2d": lambda m, h: F.dropout2d(h[:, :, None, None], 0.5, m.training).flatten(1),
    "F.dropout3d": lambda m, h: F.dropout3d(h[:, :, None, None, None], 0.5, m.training).flatten(1),
    "F.feature_alpha_dropout": lambda m, h: F.feature_alpha_dropout(
        h[:, :, None], 0.3, m.training
    ).flatten(1),
    "torch.feature_dropout": lambda m, h: torch.feature_dropout(
        h[:, :, None], 0.5, m.training
    ).flatten(1),
}


class AlwaysOn(nn.Dropout):
    """As people write it for Monte-Carlo dropout: on in training and in use."""

    def forward(self, x):
        return F.dropout(x, self.p, training=True)


LAYERS = {
    "a layer that is always on": AlwaysOn(0.5),
    "Dropout": nn.Dropout(0.5),
    "Dropout in place": nn.Dropout(0.5, inplace=True),
    "Dropout1d": nn.Sequential(nn.Unflatten(1, (32, 1)), nn.Dropout1d(0.5), nn.Flatten()),
    "Dropout2d": nn.Sequential(nn.Unflatten(1, (32, 1, 1)), nn.Dropout2d(0.5), nn.Flatten()),
    "Dropout3d": nn.Sequential(nn.Unflatten(1, (32, 1, 1, 1)), nn.Dropout3d(0.5), nn.Flatten()),
    "AlphaDropout": nn.AlphaDropout(0.3),
    "FeatureAlphaDropout": nn.Sequential(
        nn.Unflatten(1, (32, 1)), nn.FeatureAlphaDropout(0.3), nn.Flatten()
    ),
}
DENSE = {
    **{name: seeded(Net, between) for name, between in FUNCTIONS.items()},
    **{name: seeded(Net, lambda m, h: m.drop(h), drop=layer) for name, layer in LAYERS.items()},
    "if self.training": seeded(InBranch),
    "weights": seeded(OnWeights),
}


@pytest.mark.parametrize("name", DENSE)
def test_every_dropout_of_torch_has_masks_that_all_points_share(name):
    model, x = DENSE[name], points(N, 4)
    model.train()
    assert_shared(model, x)
    assert_whole(model, x)
    assert model.training


def test_masks_are_those_of_a_network_with_layers_to_the_last_bit():
    layers, functions = with_layer(), seeded(Net, FUNCTIONS["F.dropout"])
    functions.load_state_dict(layers.state_dict())
    x = points(N, 4)
    assert torch.equal(predict(layers, [x], n_masks=J), predict(functions, [x], n_masks=J))


@pytest.mark.parametrize("p", [0.2, 0.6])
@pytest.mark.parametrize("kind", ["alpha_dropout", "feature_alpha_dropout"])
def test_alpha_dropout_keeps_mean_and_variance_as_torch_does(p, kind):
    class Bare(nn.Module):
        def forward(self, x):
            return getattr(F, kind)(x, p, training=True)

    x = points(3, 400, 5)
    ours = predict(Bare(), [x], n_masks=300, outputs=lambda y: y)
    theirs = torch.stack([getattr(F, kind)(x, p, training=True) for _ in range(300)]).flatten(2)
    assert set(ours[:, 0, 0].unique().numpy().round(4)) == set(
        theirs[:, 0, 0].unique().numpy().round(4)
    )
    assert ours.mean().item() == pytest.approx(theirs.mean().item(), abs=0.02)


class Recurrent(nn.Module):
    def __init__(self, kind, **how):
        super().__init__()
        self.rnn = kind(4, 12, num_layers=3, dropout=0.5, **how)
        both = 2 if how.get("bidirectional") else 1
        self.out = nn.Linear(how.get("proj_size", 12) * both, 1)
        self.first = how.get("batch_first", False)

    def forward(self, x):
        y, _ = self.rnn(x if self.first else x.transpose(0, 1))
        return self.out(y.mean(1 if self.first else 0))


class Packed(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(4, 12, 2, dropout=0.5, batch_first=True)
        self.out = nn.Linear(12, 1)

    def forward(self, x):
        lengths = 2 + (x[:, 0, 0] > 0).long() * 3
        packed = nn.utils.rnn.pack_padded_sequence(
            x, lengths.cpu(), batch_first=True, enforce_sorted=False
        )
        return self.out(self.rnn(packed)[1][-1])


RECURRENT = {
    "LSTM": seeded(Recurrent, nn.LSTM, batch_first=True),
    "LSTM, sequence first": seeded(Recurrent, nn.LSTM),
    "LSTM, both ways": seeded(Recurrent, nn.LSTM, batch_first=True, bidirectional=True),
    "LSTM, projected": seeded(Recurrent, nn.LSTM, batch_first=True, proj_size=5),
    "GRU": seeded(Recurrent, nn.GRU, batch_first=True),
    "RNN": seeded(Recurrent, nn.RNN),
    "RNN, relu": seeded(Recurrent, nn.RNN, nonlinearity="relu", batch_first=True),
    "GRU, packed": seeded(Packed),
}


@pytest.mark.parametrize("name", RECURRENT)
def test_dropout_between_recurrent_layers_is_shared_and_whole(name):
    model, x = RECURRENT[name], points(N, 5, 4)
    assert_shared(model, x)
    assert_whole(model, x)


@pytest.mark.parametrize("name", RECURRENT)
def test_layer_by_layer_is_what_torch_does_in_one(name):
    from deimos.pool.observing import Observed

    model, x = RECURRENT[name].eval(), points(N, 5, 4)
    with torch.no_grad():
        one = model(x)
        with Observed() as seen:
            torch.testing.assert_close(model(x), one)
    assert len(seen.calls) in (1, 2)


class Attending(nn.Module):
    def __init__(self, batch_first=True, weights=True):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, dropout=0.4, batch_first=batch_first)
        self.embed, self.out = nn.Linear(4, 8), nn.Linear(8, 1)
        self.first, self.weights = batch_first, weights

    def forward(self, x):
        h = self.embed(x if self.first else x.transpose(0, 1))
        y, _ = self.attention(h, h, h, need_weights=self.weights)
        return self.out(y.mean(1 if self.first else 0))


class Encoding(nn.Module):
    def __init__(self, batch_first=True, layers=2):
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.3, batch_first=batch_first)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.embed, self.out, self.first = nn.Linear(4, 8), nn.Linear(8, 1), batch_first

    def forward(self, x):
        h = self.encoder(self.embed(x if self.first else x.transpose(0, 1)))
        return self.out(h.mean(1 if self.first else 0))


class OwnAttention(nn.Module):
    """As language models are written: a rate for the function, 0 in evaluation."""

    def __init__(self, **how):
        super().__init__()
        self.qkv, self.out, self.how = nn.Linear(4, 24), nn.Linear(8, 1), how

    def forward(self, x):
        q, k, v = self.qkv(x).view(len(x), -1, 3, 2, 4).permute(2, 0, 3, 1, 4)
        p = 0.4 if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=p, **self.how)
        return self.out(y.transpose(1, 2).flatten(2).mean(1))


class Flat(nn.Module):
    """Steps of all points on one axis, those of a point side by side or apart."""

    def __init__(self, step_first):
        super().__init__()
        self.a, self.drop, self.b = nn.Linear(4, 16), nn.Dropout(0.5), nn.Linear(16, 1)
        self.step_first = step_first

    def forward(self, x):
        n, steps = x.shape[:2]
        h = x.transpose(0, 1) if self.step_first else x
        h = self.b(self.drop(torch.relu(self.a(h.reshape(n * steps, 4)))))
        return (
            h.view(steps, n).mean(0).unsqueeze(1) if self.step_first else h.view(n, steps, 1)[:, 0]
        )


SEQUENCES = {
    "MultiheadAttention": seeded(Attending),
    "MultiheadAttention, no weights": seeded(Attending, weights=False),
    "MultiheadAttention, sequence first": seeded(Attending, batch_first=False),
    "TransformerEncoder": seeded(Encoding),
    "TransformerEncoder, sequence first": seeded(Encoding, batch_first=False),
    "attention function": seeded(OwnAttention),
    "attention function, causal": seeded(OwnAttention, is_causal=True),
    "attention function, scaled": seeded(OwnAttention, scale=0.7),
    "steps side by side": seeded(Flat, step_first=False),
    "steps apart": seeded(Flat, step_first=True),
}


@pytest.mark.parametrize("name", SEQUENCES)
def test_models_of_sequences_share_masks_along_whatever_axis_the_points_are(name):
    model, x = SEQUENCES[name], points(N, 5, 4)
    assert_shared(model, x)
    assert_whole(model, x)


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"is_causal": True},
        {"scale": 0.3},
        {"attn_mask": points(5, 5)},
        {"attn_mask": torch.rand(5, 5, generator=torch.Generator().manual_seed(1)) > 0.6},
        {"enable_gqa": True},
    ],
    ids=str,
)
def test_attention_written_out_is_torchs_own(how):
    from deimos.pool.observing import Observed

    q, k, v = points(2, 4, 5, 8), points(2, 4, 5, 8, seed=2), points(2, 4, 5, 8, seed=3)
    if how.get("enable_gqa"):
        k, v = k[:, :2], v[:, :2]
    theirs = F.scaled_dot_product_attention(q, k, v, **how)
    with Observed() as seen:
        ours = F.scaled_dot_product_attention(q, k, v, dropout_p=0.5, **how)
    torch.testing.assert_close(ours, theirs)
    assert [call.x.shape for call in seen.calls] == [(2, 4, 5, 5)]


def test_a_compiled_model_is_the_model():
    model, x = with_layer(), points(N, 4)
    compiled = torch.compile(model, backend="eager")
    assert torch.equal(predict(compiled, [x], n_masks=J), predict(model, [x], n_masks=J))
    inside = nn.Sequential(torch.compile(model, backend="eager"))
    assert torch.equal(predict(inside, [x], n_masks=J), predict(model, [x], n_masks=J))


def test_dropout_that_is_never_on_is_left_off():
    never = seeded(
        Net, lambda m, h: m.drop(F.dropout(h, 0.9, training=False)), drop=nn.Dropout(0.2)
    )
    layers = with_layer(0.2)
    never.load_state_dict(layers.state_dict())
    x = points(N, 4)
    assert torch.equal(predict(never, [x], n_masks=J), predict(layers, [x], n_masks=J))


def test_batch_normalisation_written_as_a_function_stays_in_use():
    class Normed(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.drop = nn.Linear(4, 32), nn.Linear(32, 1), nn.Dropout(0.5)
            self.register_buffer("mean", torch.zeros(32))
            self.register_buffer("var", torch.ones(32))

        def forward(self, x):
            h = F.batch_norm(self.a(x), self.mean, self.var, training=self.training)
            return self.b(self.drop(h))

    model = seeded(Normed).train()
    before = model.mean.clone(), model.var.clone()
    assert_shared(model, points(N, 4))
    assert torch.equal(model.mean, before[0]) and torch.equal(model.var, before[1])


# What is random in training, but is no dropout of torch's, is said


class DropPath(nn.Module):
    def forward(self, x):
        if not self.training:
            return x
        keep = x.new_empty(len(x), *[1] * (x.dim() - 1)).bernoulli_(0.8)
        return x * keep / 0.8


class Residual(nn.Module):
    """A small CNN with drop path, as timm has them."""

    def __init__(self, p=0.3):
        super().__init__()
        self.stem, self.block, self.path = (
            nn.Conv2d(1, 8, 3),
            nn.Conv2d(8, 8, 3, padding=1),
            DropPath(),
        )
        self.norm, self.head = nn.BatchNorm2d(8), nn.Sequential(nn.Dropout(p), nn.Linear(8, 3))

    def forward(self, x):
        x = self.norm(self.stem(x))
        return self.head((x + self.path(torch.relu(self.block(x)))).mean((2, 3)))


def test_drop_path_is_left_out_and_named():
    images = points(N, 1, 8, 8)
    with pytest.warns(UserWarning, match=r"`path` \(DropPath\).*random in training.*left out"):
        assert_shared(seeded(Residual), images)
    with pytest.raises(
        ValueError, match=r"no dropout layer or function .*random in its training is"
    ):
        select_batch(seeded(Residual, p=0.0), images, 3)


STREAM = np.random.default_rng(0)


def noisy(draw):
    """Random in training alone, by what torch does not see."""
    return lambda m, h: m.drop(h * draw(h) if m.training else h)


@pytest.mark.parametrize(
    ("draw", "says"),
    [
        (  # a coin, which may fall alike in all passes that are compared
            lambda h: float(np.random.rand() > 0.5),
            "random numbers of numpy's|Net .not by torch.|something that is random in training",
        ),
        (lambda h: torch.from_numpy(STREAM.random(h.shape)).to(h), "Net .not by torch."),
        (lambda h: random.random(), "Net .not by torch."),
        (lambda h: F.rrelu(h, training=True), "Net .rrelu_with_noise."),
        (lambda h: 1 + torch.randn_like(h), "Net .randn_like."),
    ],
)
def test_what_is_random_in_training_alone_is_named_whoever_draws_it(draw, says):
    with pytest.warns(UserWarning, match=f"({says}) of Net: random in training.*left out"):
        found = prepare(seeded(Net, noisy(draw)), points(N, 4), n_masks=J).predictions
    torch.testing.assert_close(found, prepare(with_layer(), points(N, 4), n_masks=J).predictions)


class WantsTargets(nn.Module):
    """Trained by calls with targets; dropped in training alone, here and in a part."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.drop = nn.Linear(4, 32), nn.Linear(32, 1), nn.Dropout(0.1)
        self.part = InPart()

    def forward(self, x, targets=None):
        if self.training and targets is None:
            raise ValueError("no targets")
        return self.b(self.drop(self.part(torch.relu(self.a(x)))))


class InPart(nn.Module):
    def forward(self, x):
        return F.dropout(x, 0.5) if self.training else x


def test_a_model_that_fails_in_training_is_seen_part_by_part_and_said():
    with pytest.warns(UserWarning, match=r"WantsTargets \(ValueError: no targets\).*left out"):
        found = predict(seeded(WantsTargets), [points(N, 4)], n_masks=150)
    whole = seeded(Net, lambda m, h: m.drop(F.dropout(h, 0.5)), drop=nn.Dropout(0.1))
    wanted = predict(whole, [points(N, 4)], n_masks=150)
    assert (found.var(0).mean() / wanted.var(0).mean()).item() == pytest.approx(1, abs=0.3)


def test_compiled_and_lazy_parts_are_refused_or_left_out_by_name():
    dropping = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Dropout(0.5))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        script = torch.jit.script(dropping)
    with pytest.raises(ValueError, match=r"no dropout .*random in its training is .*Script"):
        select_batch(script, points(N, 4), 3)
    with pytest.warns(UserWarning, match=r"`0` \(RecursiveScriptModule\).*random in training"):
        select_batch(nn.Sequential(script, nn.Dropout(0.1), nn.Linear(32, 1)), points(N, 4), 3)
    lazy = nn.Sequential(nn.LazyLinear(8), nn.Dropout(0.5), nn.Linear(8, 1))
    with pytest.raises(ValueError, match="layers without weights yet .*'0.weight' is lazy"):
        select_batch(lazy, points(N, 4), 3)


def test_models_without_anything_else_random_are_not_warned_of():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for model in (with_layer(), seeded(InBranch), seeded(Encoding)):
            shape = (N, 5, 4) if isinstance(model, Encoding) else (N, 4)
            prepare(model, points(*shape), n_masks=4)


# Kind 1: what is random and no dropout


class Noise(nn.Module):
    def forward(self, x):
        return x + 0.3 * torch.randn_like(x)


def by_place(m, h):
    """The same at every call, but another for every place in a batch."""
    g = torch.Generator().manual_seed(0)
    return m.drop(h + 0.5 * torch.randn(h.shape, generator=g))


def with_state(m, h):
    m.memory = h.mean() if getattr(m, "memory", None) is None else m.memory + 1
    return m.drop(h) + m.memory


DROP = nn.Dropout()
RANDOM = {
    "a noise layer": (
        seeded(Net, lambda m, h: m.noise(m.drop(h)), drop=DROP, noise=Noise()),
        r"`noise` \(Noise\) \(randn_like\) is random",
    ),
    "torch.rand": (
        seeded(Net, lambda m, h: m.drop(h) * (torch.rand(h.shape) > 0.5), drop=DROP),
        r"Net \(rand\) is random",
    ),
    "numpy": (
        seeded(Net, lambda m, h: m.drop(h) + float(np.random.rand()), drop=DROP),
        "Net is random or keeps a state",
    ),
    "Python": (seeded(Net, lambda m, h: m.drop(h) + random.random(), drop=DROP), "Net is random"),
    "masks of one's own": (
        seeded(Net, lambda m, h: h * torch.bernoulli(torch.full_like(h, 0.5))),
        r"Net \(bernoulli\) is random",
    ),
    "by place": (seeded(Net, by_place, drop=DROP), "at another place of another batch"),
    "a state": (seeded(Net, with_state, drop=DROP), "keeps a state"),
}


@pytest.mark.parametrize("name", RANDOM)
def test_what_is_random_beside_dropout_is_named(name):
    model, says = RANDOM[name]
    with pytest.raises(ValueError, match=says) as refusal:
        select_batch(model, points(N, 4), 3)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(32, track_running_stats=False), None])
def test_a_model_that_mixes_the_points_of_a_batch_is_refused(layer):
    def mix(m, h):
        return m.drop(m.norm(h) if layer else h - h.mean(0))

    model = seeded(Net, mix, drop=nn.Dropout(0.1), **({"norm": layer} if layer else {}))
    with pytest.raises(ValueError, match="depend on the other points of a batch"):
        select_batch(model, points(N, 4), 3, at_once=5)


# Kind 3: batches of other lengths


class Steps(nn.Module):
    """Dropout at each step of a loop, and once after it."""

    def __init__(self):
        super().__init__()
        self.cell, self.drop, self.last = nn.GRUCell(4, 8), nn.Dropout(0.3), nn.Dropout(0.3)
        self.out = nn.Linear(8, 1)

    def forward(self, x):
        h = x.new_zeros(len(x), 8)
        for t in range(x.shape[1]):
            h = self.drop(self.cell(x[:, t], h))
        return self.out(self.last(h))


def test_masks_are_as_long_as_the_longest_batch_and_the_same_for_all():
    long, short = points(6, 9, 4), points(5, 6, 4)
    model = seeded(Steps)
    both = prepare(model, [long, short], n_masks=J).predictions
    torch.testing.assert_close(both[:, :6], predict(model, [long], n_masks=J))
    again = prepare(model, [long, short, short], n_masks=J).predictions
    torch.testing.assert_close(again[:, 6:11], again[:, 11:])
    grown = prepare(model, [short, long, short], n_masks=J).predictions
    torch.testing.assert_close(grown[:, :5], grown[:, 11:])


def test_a_batch_in_which_the_model_drops_something_else_is_refused():
    class Forked(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.drop = nn.Linear(4, 1), nn.Linear(4, 1), nn.Dropout(0.5)

        def forward(self, x):
            return self.a(self.drop(x)) if x.shape[1] == 5 else self.b(F.dropout(x, 0.5, False))

    class Pooled(Forked):
        def forward(self, x):
            return super().forward(x).mean(1)

    with pytest.raises(ValueError, match="drops something else in one batch than in another"):
        prepare(seeded(Pooled), [points(6, 5, 4), points(6, 3, 4)], n_masks=J)


# Kind 5: what a model returns


Output = namedtuple("Output", "logits loss")
ANSWERS = {
    "a tensor": lambda y: y,
    "an object": lambda y: SimpleNamespace(logits=y, loss=None),
    "a named tuple": lambda y: Output(y, None),
    "a dict of logits": lambda y: {"loss": torch.zeros(()), "logits": y},
    "a dict of one": lambda y: {"scores": y},
    "a tuple of one": lambda y: (y,),
    "log_softmax": lambda y: y.log_softmax(-1),
    "softmax": lambda y: y.softmax(-1),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_logits_and_probabilities_in_any_wrapping_are_the_same_beliefs(name):
    class Wrapped(Net):
        def forward(self, x):
            return ANSWERS[name](super().forward(x))

    made = {"c": 4, "drop": nn.Dropout(0.5)}
    plain, wrapped = (seeded(kind, lambda m, h: m.drop(h), **made) for kind in (Net, Wrapped))
    x = points(N, 4)
    expected = prepare(plain, x, n_masks=J).predictions
    torch.testing.assert_close(prepare(wrapped, x, n_masks=J).predictions, expected)
    torch.testing.assert_close(expected.sum(-1), torch.ones(J, N))


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda y: (y, y), "returns a tuple of 2 parts: give outputs="),
        (lambda y: {"mean": y, "sd": y}, "dict of 'mean', 'sd': give outputs="),
        (lambda y: torch.distributions.Normal(y, 1.0), "returns a Normal: give outputs="),
        (lambda y: y.sigmoid(), "within 0 and 1 and do not sum to 1"),
        (lambda y: y.argmax(-1), "type torch.int64, wanted real numbers"),
        (lambda y: y > 0, "type torch.bool, wanted real numbers"),
        (lambda y: y.to(torch.complex64), "type torch.complex64, wanted real numbers"),
        (
            lambda y: y.unsqueeze(1).expand(-1, 5, -1),
            r"shape \(5, 4\) for each point: say outputs=",
        ),
        (lambda y: y.unsqueeze(2), r"shape \(4, 1\) for each point"),
        (lambda y: y.mean(), "gives one number for"),
        (lambda y: y.T, "gives 4 rows for"),
        (lambda y: [*y.unbind(1)], "a list of 4 parts: give outputs="),
        (lambda y: None, "returns a NoneType"),
        (lambda y: y * torch.nan, "row 0 of the pool gives predictions that are NaN"),
    ],
)
def test_answers_that_may_mean_several_things_are_refused_in_one_sentence(answer, says):
    class Wrapped(Net):
        def forward(self, x):
            return answer(super().forward(x))

    model = seeded(Wrapped, lambda m, h: m.drop(h), c=4, drop=nn.Dropout(0.5))
    with pytest.raises(ValueError, match=says) as refusal:
        select_batch(model, points(N, 4), 3)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("kind", ["regression", "multi_label_classification"])
def test_numbers_that_the_models_own_configuration_says_are_no_logits_are_asked_about(kind):
    model = seeded(Net, lambda m, h: m.drop(h), c=3, drop=nn.Dropout(0.5))
    model.config = SimpleNamespace(problem_type=kind, num_labels=3)
    for given in (model, [model, model]):
        with pytest.raises(ValueError, match=f"config.problem_type is '{kind}'.*say outputs="):
            select_batch(given, points(N, 4), 3)
    assert prepare(model, points(N, 4), outputs="values", n_masks=J).predictions.min() < 0


def test_an_ensemble_does_not_mix_logits_and_probabilities():
    logits = [seeded(nn.Linear, 4, 3), nn.Linear(4, 3)]
    ended = [nn.Sequential(one, nn.Softmax(1)) for one in logits]
    x = 3 * points(N, 4)
    with pytest.raises(ValueError, match="some of the samples are probabilities .* others are not"):
        prepare([logits[0], ended[1]], x)
    torch.testing.assert_close(prepare(ended, x).predictions, prepare(logits, x).predictions)


def test_a_model_that_squeezes_takes_a_last_batch_of_one():
    class Squeezed(Net):
        def forward(self, x):
            return super().forward(x).squeeze()

    x = points(N, 4)
    found = prepare(seeded(Squeezed), x, at_once=N - 1, n_masks=J).predictions
    torch.testing.assert_close(found, prepare(seeded(Net), x, n_masks=J).predictions)


def test_outputs_says_what_several_numbers_are():
    model, x = seeded(Net, lambda m, h: m.drop(h), c=3, drop=nn.Dropout(0.5)), points(N, 4)
    values = prepare(model, x, n_masks=J, outputs="values").predictions
    logits = prepare(model, x, n_masks=J, outputs="logits").predictions
    assert torch.equal(prepare(model, x, n_masks=J).predictions, logits)
    torch.testing.assert_close(values.softmax(-1), logits)
    assert torch.equal(prepare(model, x, n_masks=J, outputs=lambda y: y).predictions, values)
    for wrong, says in (
        ("probabilities", "do not lie within"),
        ("classes", "got outputs='classes'"),
    ):
        with pytest.raises(ValueError, match=says):
            prepare(model, x, outputs=wrong)


@pytest.mark.parametrize("squeeze", [True, False])
def test_one_number_a_point_is_a_value_with_or_without_an_axis(squeeze):
    class Wrapped(Net):
        def forward(self, x):
            y = super().forward(x)
            return y.squeeze(1) if squeeze else y[:, :, None]

    model = seeded(Wrapped, lambda m, h: m.drop(h), drop=nn.Dropout(0.5))
    found = prepare(model, points(N, 4), n_masks=J).predictions
    torch.testing.assert_close(found, prepare(with_layer(), points(N, 4), n_masks=J).predictions)


# Kinds 6 and 7: nothing of the caller's is changed; numbers of every kind


IN_PLACE = {
    "div_": lambda x: x.div_(2.0),
    "a part": lambda x: x.index_fill_(1, torch.tensor([0]), 0.0),
    "past autograd": lambda x: x.data.mul_(0.5),
    "relu": lambda x: F.relu(x, inplace=True),
}


@pytest.mark.parametrize("kind", IN_PLACE)
def test_a_model_that_works_in_place_destroys_nothing(kind):
    class Changing(Net):
        def forward(self, x):
            return super().forward(IN_PLACE[kind](x))

    class Copying(Net):
        def forward(self, x):
            return super().forward(IN_PLACE[kind](x.clone()))

    one, other = (
        seeded(m, lambda m, h: m.drop(h), drop=nn.Dropout(0.5)) for m in (Changing, Copying)
    )
    pool = points(N, 4)
    for given in (pool, list(pool.split(5)), pool.numpy()):
        found = prepare(one, given, n_masks=J, at_once=5).predictions
        torch.testing.assert_close(found, prepare(other, pool, n_masks=J).predictions)
        assert torch.equal(pool, points(N, 4))
    models = [one, Changing(lambda m, h: h)]
    prepare(models, pool), prepare(None, pool, predict=lambda x: torch.stack([x.mul_(2), x * 3]))
    assert torch.equal(pool, points(N, 4))


def test_an_in_place_layer_after_the_trunk_is_no_trouble():
    def build(inplace):
        layers = nn.Linear(4, 32), nn.Dropout(0.5, inplace), nn.ReLU(inplace), nn.Linear(32, 1)
        return seeded(lambda: nn.Sequential(nn.ELU(inplace=inplace), *layers))

    torch.manual_seed(0)
    one = nn.Sequential(nn.ELU(inplace=True), nn.Linear(4, 32), nn.Dropout(0.5, True),
                        nn.ReLU(True), nn.Linear(32, 1))  # fmt: skip
    other = nn.Sequential(nn.ELU(), nn.Linear(4, 32), nn.Dropout(0.5), nn.ReLU(), nn.Linear(32, 1))
    other.load_state_dict(one.state_dict())
    pool = points(N, 4)
    found = prepare(one, pool, n_masks=J).predictions
    assert torch.equal(found, prepare(other, pool, n_masks=J).predictions)
    assert torch.equal(pool, points(N, 4))


def test_the_callers_random_numbers_go_on_as_if_nothing_had_run():
    """In a process of its own: the type checker of the tests draws numbers of Python's."""
    code = (
        "import random, numpy as np, torch, torch.nn.functional as F\n"
        "from torch import nn\n"
        "from deimos import prepare, select_batch\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__(); self.a, self.b = nn.Linear(4, 32), nn.Linear(32, 1)\n"
        "    def forward(self, x): return self.b(F.dropout(self.a(x).relu(), 0.3))\n"
        "data = torch.utils.data.TensorDataset(torch.randn(40, 4))\n"
        "pool = torch.utils.data.DataLoader(data, batch_size=7)\n"
        "model = Net()\n"
        "def state():\n"
        "    numpy = np.random.get_state()[1].tolist()\n"
        "    return torch.get_rng_state().tolist(), numpy, random.getstate()\n"
        "before = state()\n"
        "prepare(model, pool, n_masks=4); select_batch(model, pool, 3, n_masks=4)\n"
        "names = ('torch', 'numpy', 'Python')\n"
        "print([n for n, a, b in zip(names, before, state()) if a != b])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_weights_that_a_pass_changes_in_place_are_as_before():
    model = nn.Sequential(seeded(nn.Embedding, 9, 8, max_norm=0.1), nn.Dropout(), nn.Linear(8, 1))
    before = model[0].weight.clone()
    select_batch(model, torch.arange(9), 3)
    assert torch.equal(model[0].weight, before) and isinstance(model[0].weight, nn.Parameter)


def test_caches_and_statistics_of_the_model_are_as_before():
    model = seeded(Net, lambda m, h: m.drop(m.norm(h)), drop=nn.Dropout(), norm=nn.BatchNorm1d(32))
    model.cache, before = None, copy.deepcopy(model.state_dict())
    inner = model.between

    def remember(m, h):
        m.cache = h
        return inner(m, h)

    model.between = remember
    model.norm.eval()
    select_batch(model, points(N, 4), 3)
    assert model.cache is None and model.training and not model.norm.training
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("pool", [torch.float32, torch.float64, torch.float16])
def test_models_and_pools_of_any_precision_are_taken(kind, pool):
    x = points(60, 4)
    model = seeded(Net, lambda m, h: m.drop(h), c=3, drop=nn.Dropout(0.5))
    wanted = prepare(model, x, n_masks=J).predictions
    found = prepare(model.to(kind), x.to(pool), n_masks=J)
    rough = {torch.float16: 2e-3, torch.bfloat16: 2e-2}.get(kind, 1e-3)
    assert (found.predictions - wanted).abs().max() < rough
    assert torch.isfinite(torch.tensor(found.pick(5).expected_improvement)).all()


def test_layers_of_recurrent_and_attending_models_work_in_half_precision():
    for model in (Encoding(), OwnAttention()):
        found = prepare(model.to(torch.bfloat16), points(N, 5, 4), n_masks=J).predictions
        assert found.dtype == torch.float32 and found.std(0).min() > 0


def test_a_model_that_says_the_same_under_every_mask_is_refused():
    dead = with_layer()
    with torch.no_grad():
        dead.b.weight.zero_()
    ignored = seeded(Net, lambda m, h: (m.drop(h.clone()), h)[1], drop=nn.Dropout(0.5))
    tiny = seeded(Net, lambda m, h: 1e5 + 1e-9 * m.drop(h), drop=nn.Dropout(0.5))
    for model in (dead, ignored, tiny):
        with pytest.raises(ValueError, match="nothing varies"):
            select_batch(model, points(N, 4), 3)
