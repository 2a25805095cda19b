"""Each row of the page's tables on models, pools and answers is so; none is without its test."""

import copy
import tempfile
import warnings
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from own_data_page import assert_holds, rows
from own_models import Answering, Augmented, Net, Rows, Tokens, loader, points, seeded
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from deimos.pool.select_batch import prepare, select_batch

N = 24
X, LABELS = points(N, 4), torch.zeros(N)
STEPS = points(N, 5, 4)
IDS = torch.randint(1, 10, (N, 5), generator=torch.Generator().manual_seed(3))
MASK = (torch.arange(5) < (torch.arange(N) % 4 + 2)[:, None]).long()


class Recurrent(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.rnn, self.out = kind(4, 8, 2, dropout=0.5, batch_first=True), nn.Linear(8, 1)

    def forward(self, x):
        return self.out(self.rnn(x)[0][:, -1])


class Encoder(nn.Module):
    def __init__(self, first=True):
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.3, batch_first=first)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.embed, self.out, self.first = nn.Linear(4, 8), nn.Linear(8, 1), first

    def forward(self, x):
        h = self.encoder(self.embed(x if self.first else x.transpose(0, 1)))
        return self.out(h.mean(1 if self.first else 0))


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.out = nn.Linear(4, 8), nn.Linear(8, 1)

    def forward(self, x):
        h = self.embed(x)
        p = 0.4 if self.training else 0.0
        return self.out(F.scaled_dot_product_attention(h, h, h, dropout_p=p).mean(1))


class DropPath(nn.Module):
    """Whole branches of some points, as timm's layer of that name leaves them out."""

    def forward(self, x):
        if not self.training:
            return x
        return x * x.new_empty(len(x), 1, 1, 1).bernoulli_(0.8) / 0.8


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.block, self.path = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 1), DropPath()
        self.head = nn.Sequential(nn.Dropout(0.3), nn.Linear(4, 3))

    def forward(self, x):
        x = self.stem(x)
        return self.head((x + self.path(self.block(x))).mean((2, 3)))


class HuggingFace(Tokens):
    """Called and answering as their classifiers do."""

    def __init__(self, kind=None):
        super().__init__(c=3)
        self.config = SimpleNamespace(problem_type=kind, num_labels=3)

    def forward(self, input_ids=None, attention_mask=None, labels=None):
        logits = super().forward(input_ids, attention_mask)
        return SimpleNamespace(loss=None, logits=logits)


class Lightning(nn.Module):
    """As a Lightning module is: its steps beside forward, and a trainer of which nothing is."""

    def __init__(self):
        super().__init__()
        self.net, self.trainer = seeded(Net), None

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, index):
        x, y = batch
        return F.mse_loss(self(x), y)


class Fails(Net):
    def forward(self, x, targets=None):
        if self.training and targets is None:
            raise ValueError("no targets")
        return super().forward(x)


def net(between=lambda m, h: m.drop(h), c=1, **layers):
    return seeded(Net, between, c, **layers)


def script(model):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.script(model)


def select(model, pool=X, **given):
    def attempt():
        return select_batch(model(), pool() if callable(pool) else pool, 3, n_masks=6, **given)

    return attempt


def in_place():
    pool = X.clone()
    select_batch(net(lambda m, h: m.drop(h.mul_(2))), pool, 3, n_masks=6)
    select_batch(nn.Sequential(nn.ReLU(inplace=True), net()), pool, 3, n_masks=6)
    assert torch.equal(pool, X)


def normalised():
    model = net(lambda m, h: m.drop(m.norm(h)), norm=nn.BatchNorm1d(32))
    found = [
        prepare(copy.deepcopy(model).train(on), X, n_masks=6).predictions for on in (True, False)
    ]
    assert torch.equal(*found)


def each(*attempts):
    """All of them, one after the other."""
    return [one for some in attempts for one in (some if isinstance(some, list) else [some])]


def dead():
    model = net()
    nn.init.zeros_(model.b.weight)
    return model


class AlwaysOn(nn.Dropout):
    def forward(self, x):
        return F.dropout(x, self.p)


class ByHand(nn.Module):
    def forward(self, x):
        return x * torch.bernoulli(torch.full_like(x, 0.5)) * 2


MODELS = {
    "`nn.Sequential` with dropout layers": select(
        lambda: nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 1))
    ),
    "dropout as a function, `F.dropout(x, 0.5)`": each(
        select(lambda: net(lambda m, h: F.dropout(h, 0.5))),
        select(lambda: net(lambda m, h: F.dropout(h, 0.5, m.training))),
    ),
    "dropout of one's own by `F.dropout`, always on": select(lambda: net(drop=AlwaysOn(0.5))),
    "dropout in training alone, `if self.training`": select(
        lambda: net(lambda m, h: F.dropout(h, 0.5) if m.training else h)
    ),
    "alpha and feature dropout, dropout of weights": each(
        select(lambda: net(drop=nn.AlphaDropout(0.3))),
        select(lambda: net(lambda m, h: F.dropout1d(h[:, :, None], 0.5, m.training)[:, :, 0])),
        select(lambda: net(lambda m, h: h @ F.dropout(torch.eye(32), 0.5, m.training))),
    ),
    "`nn.LSTM`, `nn.GRU` or `nn.RNN` with `dropout=`": each(
        *(select(lambda kind=kind: seeded(Recurrent, kind), STEPS)
          for kind in (nn.LSTM, nn.GRU, nn.RNN))
    ),
    "a Transformer encoder, points first or second": each(
        select(lambda: seeded(Encoder), STEPS), select(lambda: seeded(Encoder, False), STEPS)
    ),
    "`F.scaled_dot_product_attention` with `dropout_p`": select(lambda: seeded(Attention), STEPS),
    "a CNN with drop path, as timm has them": select(
        lambda: seeded(Residual), 4 * points(N, 1, 8, 8)
    ),
    "noise of one's own, in training alone": select(
        lambda: net(lambda m, h: m.drop(h + torch.randn_like(h) if m.training else h))
    ),
    "a model that fails in training without targets": select(lambda: seeded(Fails)),
    "a Hugging Face model that returns an object with logits": select(
        lambda: seeded(HuggingFace), [{"input_ids": IDS, "attention_mask": MASK, "labels": LABELS}]
    ),
    "a Lightning module": select(Lightning),
    "a model made by `torch.compile`": select(lambda: torch.compile(net(), backend="eager")),
    "a model in half precision": each(
        select(lambda: net(c=3).half()), select(lambda: net().bfloat16())
    ),
    "batch normalisation in training mode": normalised,
    "a model that works in place on its input": in_place,
    "an ensemble in a list": select(lambda: [nn.Linear(4, 1) for _ in range(5)]),
    "no dropout": select(lambda: nn.Linear(4, 1)),
    "TorchScript": select(lambda: script(nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 1)))),
    "noise or masks of one's own, also in use": select(lambda: net(own=ByHand(), between=(
        lambda m, h: m.drop(m.own(h))
    ))),
    "an answer that depends on other points of the batch": select(
        lambda: net(lambda m, h: m.drop(h - h.mean(0)))
    ),
    "the same answer under every mask": select(dead),
    "lazy layers that were never called": select(
        lambda: nn.Sequential(nn.LazyLinear(8), nn.Dropout(0.5), nn.Linear(8, 1))
    ),
}  # fmt: skip


def shapes(*pools, model=Net, **given):
    return each(*(select(lambda: seeded(model), pool, **given) for pool in pools))


def on_disk():
    array = np.memmap(tempfile.TemporaryFile(), np.float32, "w+", shape=(N, 4))
    array[:] = X.numpy()
    return array


def padded(items):
    length = max(len(item) for item in items)
    return torch.stack([F.pad(item, (0, length - len(item))) for item in items])


class Shuffled:
    def __iter__(self):
        return iter(DataLoader(X, 5, shuffle=True))


SHORT = [row[:n] for row, n in zip(IDS, MASK.sum(1), strict=True)]
POOLS = {
    "a tensor, a numpy array, one on disk, a pandas table": shapes(
        X, X.numpy(), on_disk, pd.DataFrame(X.numpy())
    ),
    "a `Dataset`, or anything with a length and items": shapes(
        TensorDataset(X, LABELS), Rows([{"x": x, "label": 0} for x in X])
    ),
    "a `DataLoader` in order, with any `collate_fn` that pads": each(
        shapes(loader(X)), shapes(DataLoader(Rows(SHORT), 5, collate_fn=padded), model=Tokens)
    ),
    "batches in a list or a generator": shapes(
        list(X.split(5)), X.split(5), lambda: (x for x in X.split(5))
    ),
    "tuples of the input and a label": shapes(DataLoader(TensorDataset(X, LABELS), 5)),
    "dicts with `forward`'s names, and labels": shapes(
        [{"labels": LABELS, "attention_mask": MASK, "input_ids": IDS}], model=Tokens
    ),
    "batches padded to their longest": shapes([IDS, IDS[:, :3]], model=Tokens),
    "whole numbers, as tokens are": shapes(IDS, IDS.numpy().astype(np.uint16), model=Tokens),
    "`labelled` as positions, or as a mask of bools": each(
        shapes(X, labelled=[3, 14]), shapes(X, labelled=np.arange(N) < 5)
    ),
    "a `DataLoader` that shuffles, or any sampler": shapes(loader(X, shuffle=True)),
    "`drop_last` that drops some": shapes(loader(X, drop_last=True)),
    "a `collate_fn` that sorts the points": shapes(
        DataLoader(Rows(SHORT), 5, collate_fn=lambda b: padded(sorted(b, key=len))), model=Tokens
    ),
    "a `collate_fn` that leaves points out": shapes(
        DataLoader(Rows(list(X)), 5, collate_fn=lambda b: torch.stack([x for x in b if x[0] > -1]))
    ),
    "an iterable that is shuffled anew": shapes(Shuffled()),
    "random augmentation": shapes(Augmented(list(X))),
    "a dict of arrays": shapes({"x": X}),
    "a tuple of arrays": shapes((IDS, MASK), model=Tokens),
    "a list of sequences of other lengths": shapes(SHORT, model=Tokens),
    "dicts with several parts that may be the input": shapes([{"a": X, "b": X}]),
    "row numbers before the input": shapes([(torch.arange(N), X)]),
    "a mask that `forward` would take under another name": shapes(
        [{"input_ids": IDS, "padding_mask": MASK}], model=Tokens
    ),
    "ids and a mask as a tuple, for a model that can take both": shapes(
        [(IDS, MASK)], model=Tokens
    ),
    "sparse, nested, masked or complex arrays": shapes(
        X.to_sparse(),
        torch.nested.nested_tensor([X[:2], X]),
        np.ma.masked_greater(X.numpy(), 1),
        X.to(torch.complex64),
    ),
    "NaN in a row": shapes(X.index_fill(0, torch.tensor(7), torch.nan)),
    "numbers that differ too little for the model's precision": shapes(X.double() + 1e9),
    "`labelled` as a mask of 0 and 1": shapes(X, labelled=(np.arange(N) < 5).astype(int)),
    "a batch of 6.5 points": lambda: select_batch(seeded(Net), X, 0.1 * 65),
}


def answers(*answer, c=3, **given):
    return each(*(select(lambda a=a: seeded(Answering, a, c), **given) for a in answer))


ANSWERS = {
    "one number a point": answers(lambda y: y, lambda y: y[:, 0], c=1),
    "several numbers a point": answers(lambda y: y),
    "probabilities that sum to 1": answers(lambda y: y.softmax(1)),
    "log-probabilities": answers(lambda y: y.log_softmax(1)),
    "an object or a dict with `logits`": answers(
        lambda y: SimpleNamespace(logits=y, loss=None), lambda y: {"logits": y, "loss": y.sum()}
    ),
    "a tuple of one": answers(lambda y: (y,)),
    "a tuple of several": answers(lambda y: (y, y)),
    "an object or a dict without `logits`": answers(lambda y: SimpleNamespace(mean=y, sd=y)),
    "probabilities of labels that do not exclude each other": answers(lambda y: y.sigmoid()),
    "class numbers": answers(lambda y: y.argmax(1)),
    "an array for each point": answers(lambda y: y[:, None].expand(-1, 5, -1)),
    "logits that the model's configuration says are of labels or targets": each(
        *(select(lambda kind=kind: seeded(HuggingFace, kind), IDS)
          for kind in ("multi_label_classification", "regression"))
    ),
    "logits from some of an ensemble, probabilities from others": select(
        lambda: [nn.Linear(4, 3), nn.Sequential(nn.Linear(4, 3), nn.Softmax(1))], 3 * X
    ),
}  # fmt: skip


@pytest.mark.parametrize("row", rows("models"))
def test_a_row_on_models_holds(row):
    assert_holds(rows("models")[row], MODELS[row])


@pytest.mark.parametrize("row", rows("pools"))
def test_a_row_on_pools_holds(row):
    assert_holds(rows("pools")[row], POOLS[row])


@pytest.mark.parametrize("row", rows("answers"))
def test_a_row_on_answers_holds(row):
    assert_holds(rows("answers")[row], ANSWERS[row])


@pytest.mark.parametrize(
    ("heading", "tests"), [("models", MODELS), ("pools", POOLS), ("answers", ANSWERS)]
)
def test_no_row_is_without_its_test_nor_a_test_without_its_row(heading, tests):
    assert set(rows(heading)) == set(tests)
