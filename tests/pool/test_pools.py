"""A position is a row of the pool, whatever the pool is; what may mean another row is refused."""

import numpy as np
import pandas as pd
import pytest
import torch
from own_models import Augmented, Net, Rows, Tokens, loader, points, seeded
from torch import nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from deimos.acquisition.checks import whole_number
from deimos.pool.select_batch import prepare, select_batch

N, J = 24, 6
X = points(N, 4)
LENGTHS = torch.arange(N) % 4 + 2
TOKENS = torch.randint(0, 10, (N, 5), generator=torch.Generator().manual_seed(3))
MASK = (torch.arange(5) < LENGTHS[:, None]).long()


class Stream(IterableDataset):
    def __init__(self, order=lambda: range(N)):
        self.order = order

    def __iter__(self):
        return iter(X[list(self.order())])


class Anew:
    """An iterable of batches with a length, as a progress bar around a DataLoader is."""

    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        return iter(self.batches)

    def __len__(self):
        return len(self.batches)


def found_in(pool, model=None, **given):
    return prepare(model or seeded(Net), pool, n_masks=J, **given).predictions


def refusal(pool, says, model=None, **given):
    with pytest.raises(ValueError, match=says) as refused:
        select_batch(model or seeded(Net), pool, 3, n_masks=J, **given)
    assert "\n" not in str(refused.value)


# Kind 4: positions


SAME = {
    "tensor": lambda: X,
    "with gradients": lambda: X.clone().requires_grad_(),
    "numpy": lambda: X.numpy(),
    "numpy, backwards in memory": lambda: X.flip(0).numpy()[::-1],
    "big-endian": lambda: X.numpy().astype(">f4"),
    "pandas": lambda: pd.DataFrame(X.numpy(), index=range(100, 100 + N)),
    "data set": lambda: TensorDataset(X, torch.zeros(N)),
    "points one by one": lambda: Rows(list(X)),
    "loader": lambda: loader(X),
    "loader, nothing dropped": lambda: loader(X, 6, drop_last=True),
    "loader of a subset": lambda: DataLoader(Subset(TensorDataset(X.repeat(2, 1)), range(N)), 5),
    "loader of batches": lambda: DataLoader(Rows(X.split(5)), batch_size=None),
    "stream": lambda: DataLoader(Stream(), 5),
    "list": lambda: list(X.split(5)),
    "split": lambda: X.split(5),
    "generator": lambda: (x for x in X.split(5)),
    "batches and labels": lambda: zip(X.split(5), X.split(5), strict=True),
    "an iterable with a length": lambda: Anew(X.split(5)),
    "dicts of the input and a label": lambda: [{"x": X, "label": torch.zeros(N)}],
    "dicts with an id": lambda: DataLoader(
        Rows([{"index": torch.full((4,), float(i)), "x": x} for i, x in enumerate(X)]), 5
    ),
    "dicts whose first value is a label": lambda: [{"labels": torch.zeros(N), "values": X}],
}


@pytest.mark.parametrize("name", SAME)
def test_a_pool_is_the_same_points_in_whatever_it_comes(name):
    torch.testing.assert_close(found_in(SAME[name]()), found_in(X))


ANOTHER_ORDER = {
    "shuffle": lambda: loader(X, shuffle=True),
    "random": lambda: loader(X, sampler=RandomSampler(X)),
    "weighted": lambda: loader(X, sampler=WeightedRandomSampler(torch.ones(N), N)),
    "a random subset": lambda: loader(X, sampler=SubsetRandomSampler(range(10, 20))),
    "a list of positions": lambda: loader(X, sampler=list(range(N - 1, -1, -1))),
    "batches at random": lambda: DataLoader(
        TensorDataset(X), batch_sampler=BatchSampler(RandomSampler(X), 5, False)
    ),
}


@pytest.mark.parametrize("name", ANOTHER_ORDER)
def test_a_loader_in_another_order_is_refused(name):
    refusal(
        ANOTHER_ORDER[name](), "shuffles or has a sampler of its own, .*torch.utils.data.Subset"
    )


def by_size(items):
    return torch.stack([x for (x,) in sorted(items, key=lambda item: -item[0].sum())])


def without_some(items):
    return torch.stack([x for (x,) in items if x[0] > -1])


@pytest.mark.parametrize(
    ("pool", "says"),
    [
        (lambda: loader(X, drop_last=True), "drops its last batch: drop_last=False"),
        (lambda: loader(X, 6, sampler=SequentialSampler(range(12))), "gives 12 of the 24 points"),
        (lambda: loader(X, num_workers=2, in_order=False), "in no fixed order: in_order=True"),
        (lambda: loader(X, collate_fn=by_size), "does not keep the order of the points"),
        (lambda: loader(X, collate_fn=without_some), "one row a point"),
        (lambda: Anew(loader(X, shuffle=True)), "other points when it is read again"),
        (
            lambda: DataLoader(Stream(lambda: torch.randperm(N).tolist()), 5),
            "other points when it is read",
        ),
        (lambda: DataLoader(Stream(), 5, num_workers=2), "give points twice or leave some out"),
        (lambda: Augmented(list(X)), r"\(Augmented\) gives another point .* random augmentation"),
        (lambda: DataLoader(Augmented(list(X)), 5), "switch its random augmentation off"),
        (lambda: {X[:12], X[12:]}, "the pool is a set, wanted .* that has an order"),
    ],
)
def test_points_that_come_otherwise_the_next_time_or_not_at_all_are_refused(pool, says):
    refusal(pool(), says)


def test_a_collate_may_pad_and_take_labels_out_of_the_points():
    items = [{"input_ids": x[:n], "label": 1} for x, n in zip(TOKENS, LENGTHS, strict=True)]

    def pad(batch):
        ids = [item["input_ids"] for item in batch if item.pop("label")]
        mask = [torch.ones(len(x)) for x in ids]
        padded = (nn.utils.rnn.pad_sequence(x, batch_first=True) for x in (ids, mask))
        return dict(zip(("input_ids", "attention_mask"), padded, strict=True))

    given = DataLoader(Rows([dict(item) for item in items]), 5, collate_fn=lambda b: pad(
        [dict(item) for item in b]
    ))  # fmt: skip
    found = found_in(given, seeded(Tokens))
    alone = found_in([pad([dict(item)]) for item in items], seeded(Tokens))
    assert found.shape == alone.shape and found.std(0).min() > 0
    rest = [item.get("label") for item in given.dataset]
    assert rest == [1] * N


MASKED = torch.zeros(N, dtype=torch.bool).index_fill(0, torch.tensor([3, 14]), True)
LABELLED = {
    "a list": [3, 14],
    "a set": {3, 14},
    "a tensor": torch.tensor([3, 14]),
    "np.where": np.where(MASKED.numpy()),
    "an index": pd.Index([3, 14]),
    "the keys of labels": {3: "cat", 14: "dog"},
    "numpy's unsigned": np.array([3, 14], np.uint64),
    "a mask in a list": MASKED.tolist(),
    "a mask in a tensor": MASKED,
    "a mask in numpy": MASKED.numpy(),
    "a mask in a column": MASKED.numpy()[:, None],
    "a mask in pandas": pd.Series(MASKED.tolist()),
}


@pytest.mark.parametrize("name", LABELLED)
def test_labelled_points_are_positions_or_a_mask(name):
    found = prepare(seeded(Net), X, labelled=LABELLED[name], n_masks=J)
    assert set(range(N)) - set(found.candidates.tolist()) == {3, 14}


@pytest.mark.parametrize(
    ("labelled", "says"),
    [
        (MASKED.int(), "24 numbers, all 0 or 1: a mask is of bools, positions come once"),
        (MASKED.float(), "wanted whole numbers, the positions of labelled points, or a mask"),
        (MASKED[:-1], "or a mask of 24 bools"),
        ([1.7], "wanted whole numbers"),
        ([-1], "labelled positions lie within 0 and 23"),
        (3, "labelled is 3, wanted positions or a mask"),
        ("3", "wanted whole numbers"),
    ],
)
def test_what_may_be_neither_positions_nor_a_mask_is_refused(labelled, says):
    refusal(X, says, labelled=labelled)


# Kind 5: which part of a batch


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = seeded(Net)

    def forward(self, a, b):
        return self.net(a - b)


class Padded(Net):
    def forward(self, x, lengths=None):
        return super().forward(x if lengths is None else x / lengths[:, None])


ZEROS = torch.zeros(N)


def test_a_model_is_given_as_many_parts_as_it_asks_for():
    wanted = found_in(X, seeded(Net))
    for pool in (
        [(2 * X, X, ZEROS)],
        DataLoader(TensorDataset(2 * X, X, ZEROS), 5),
        [{"b": X, "y": ZEROS, "a": 2 * X}],
    ):
        torch.testing.assert_close(found_in(pool, Two()), wanted)
    named = DataLoader(TensorDataset(torch.arange(N), X), 5)
    torch.testing.assert_close(found_in(named, part=1), wanted)
    lengths = [{"x": X * LENGTHS[:, None], "lengths": LENGTHS}]
    torch.testing.assert_close(found_in(lengths, seeded(Padded)), wanted)
    without = [(X, LENGTHS)]
    torch.testing.assert_close(found_in(without, seeded(Padded), part=0), wanted)


BERT = TensorDataset(TOKENS, MASK, torch.zeros(N, dtype=torch.long))


@pytest.mark.parametrize(
    ("pool", "model", "says"),
    [
        (lambda: [{"mask": X, "values": X}], Net, "dicts of 'mask', 'values'.*with part="),
        (lambda: DataLoader(TensorDataset(torch.arange(N), X), 5), Net, "like a row's number"),
        (lambda: DataLoader(BERT, 5), Tokens, "may be the 'attention_mask' .* part=0"),
        (lambda: [(X, torch.full((N,), 3))], Padded, "may be the 'lengths' that forward"),
        (
            lambda: [{"x": X, "attention_mask": MASK}],
            Net,
            "have 'attention_mask', and forward of Net takes x: .* part='x'",
        ),
        (lambda: {"x": X}, Net, "is a dict of 'x', which is one batch: give it in a list"),
        (lambda: (TOKENS, MASK), Tokens, "tuple of 2 arrays, which may be the parts of one batch"),
        (lambda: (X, ZEROS), Net, "arrays of several kinds"),
        (lambda: [x[:n] for x, n in zip(TOKENS, LENGTHS, strict=True)], Tokens,
         "one axis, which may be points or batches"),
        (lambda: Rows([x[:n] for x, n in zip(TOKENS, LENGTHS, strict=True)]), Tokens,
         "make no batch .*: give a DataLoader whose collate_fn"),
        (lambda: enumerate(X.split(5)), Net, "of type int, wanted numbers"),
        (lambda: None, Net, "the pool is a NoneType, wanted an array of points"),
        (lambda: "pool.csv", Net, "the pool is a str, wanted an array of points"),
        (lambda: np.ma.masked_greater(X.numpy(), 1), Net, "masked array with gaps"),
        (lambda: X.to_sparse(), Net, "sparse or nested tensor: give a dense one"),
        (lambda: pd.DataFrame({"a": ["x"] * N}), Net, "of type (object|str)"),
        (lambda: X.to(torch.complex64), Net, "complex numbers"),
        (lambda: X[0, 0], Net, "a single number"),
        (lambda: iter(()), Net, "the pool is empty"),
    ],
)  # fmt: skip
def test_what_may_be_several_things_is_refused_with_the_choices(pool, model, says):
    refusal(pool(), says, seeded(model))


def test_the_row_that_gives_no_number_is_named_by_its_place_in_the_pool():
    holes = X.index_fill(0, torch.arange(12, N), torch.nan)
    refusal(holes, "row 12 of the pool gives predictions that are NaN")
    refusal(X, "row 12 of the target gives predictions that are NaN", target=holes)
    picked = prepare(seeded(Net), X, n_masks=J, sample=8).rows
    one = picked[picked >= 3][0].item()
    refusal(X.index_fill(0, torch.tensor(one), torch.nan), f"row {one} of the pool", sample=8)


# Kind 7: numbers


@pytest.mark.parametrize("b", [np.int64(3), 3.0, torch.tensor(3), np.array(3)])
def test_a_batch_size_is_a_whole_number_of_any_type(b):
    assert select_batch(seeded(Net), X, b, n_masks=J) == select_batch(seeded(Net), X, 3, n_masks=J)


@pytest.mark.parametrize("b", [6.5, True, np.True_, "5", None, torch.nan, [5], torch.tensor(3.0)])
def test_a_number_that_is_not_whole_is_refused(b):
    with pytest.raises(ValueError, match="the batch size is .*, wanted a whole number"):
        whole_number(b, "the batch size")
    assert whole_number(np.float32(3), "the batch size") == 3


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"batch_size": 0.1 * 65}, "the batch size is 6.5, wanted a whole number"),
        ({"batch_size": 0}, "a batch of 0 cannot be picked"),
        ({"batch_size": N + 1}, "a batch of 25 cannot be picked"),
        ({"n_masks": 1}, "n_masks is 1, wanted 2 or more"),
        ({"at_once": 0}, "at_once is 0, wanted 1 or more"),
        ({"seed": 2**70}, "the seed is .*, wanted a whole number below"),
        ({"noise": -1.0}, "noise=-1.0"),
        ({"noise": torch.nan}, "noise=nan"),
        ({"weights": np.ones((12, 2))}, r"weights have shape .12, 2., wanted a number a point"),
        ({"pool": X.double() + 1e9}, "differ too little for Net, whose precision is single"),
    ],
    ids=str,
)
def test_numbers_that_are_none_of_their_kind_are_refused(given, says):
    given = {"model": seeded(Net), "pool": X, "batch_size": 3} | given
    with pytest.raises(ValueError, match=says) as refused:
        select_batch(**given)
    assert "\n" not in str(refused.value)
