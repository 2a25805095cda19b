"""Small models and pools of one's own for the tests, all from one seed."""

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset


def points(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def seeded(build, *given, **more):
    torch.manual_seed(0)
    return build(*given, **more)


class Net(nn.Module):
    """Two dense layers, and between them what `between` makes of the model and the hidden units."""

    def __init__(self, between=lambda m, h: m.drop(h), c=1, **layers):
        super().__init__()
        self.a, self.b, self.between = nn.Linear(4, 32), nn.Linear(32, c), between
        for name, layer in ({"drop": nn.Dropout(0.5)} | layers).items():
            setattr(self, name, layer)

    def forward(self, x):
        return self.b(self.between(self, torch.relu(self.a(x))))


class Answering(Net):
    """`answer` makes of the logits what the model returns."""

    def __init__(self, answer, c=3):
        super().__init__(c=c)
        self.answer = answer

    def forward(self, x):
        return self.answer(super().forward(x))


class Tokens(nn.Module):
    """A model of sequences of tokens, as Hugging Face's are called."""

    def __init__(self, c=1):
        super().__init__()
        self.embed, self.drop, self.out = nn.Embedding(10, 8), nn.Dropout(0.5), nn.Linear(8, c)

    def forward(self, input_ids=None, attention_mask=None, labels=None):
        h = self.drop(torch.relu(self.embed(input_ids)))
        if attention_mask is None:
            return self.out(h.mean(-2))
        weights = attention_mask / attention_mask.sum(1, keepdim=True)
        return self.out((h * weights[:, :, None]).sum(1))


class Rows(Dataset):
    """A data set of the given items."""

    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        return self.items[i]


class Augmented(Rows):
    def __getitem__(self, i):
        return self.items[i] + 0.1 * torch.randn(4)


def loader(x, batch_size=7, **how):
    return DataLoader(TensorDataset(x), batch_size, **how)
