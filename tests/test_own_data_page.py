"""What the page on own data shows runs, one block after the other."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import deimos

PAGE = Path(__file__).parents[1] / "docs/own-data.md"


def net(dropout, seed):
    torch.manual_seed(seed)
    layers = nn.Linear(4, 16), nn.ReLU(), *dropout, nn.Linear(16, 1)
    return nn.Sequential(*layers)


LAPLACE = "from laplace import Laplace"


def test_every_block_of_code_runs_and_picks():
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    assert sum(LAPLACE in block for block in blocks) == 1
    blocks = [block for block in blocks if LAPLACE not in block]
    pool = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
    names = {"model": net([nn.Dropout(0.3)], 0), "fitted": net([], 0), "pool": pool}
    names |= {f"model_{i}": net([], i) for i in range(1, 6)}
    names |= {"predictions": torch.randn(20, 40, 1), "candidates": torch.arange(40)}
    sizes = []
    for block in blocks:
        exec(block, names)
        if "picked = " in block:
            sizes.append(len(set(names["picked"].positions)))
    assert sizes == [8, 3, 8] and len(set(names["batch"].tolist())) == 8
    assert names["SharedMasks"] and names["BaalHeuristic"] and names["PoolStrategy"]


def test_the_block_on_a_laplace_posterior_runs_and_picks():
    pytest.importorskip("laplace", reason="laplace-torch is not installed: see the extra `test`")
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    (block,) = [block for block in blocks if LAPLACE in block]
    pool = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
    train = DataLoader(TensorDataset(pool[:12], pool[:12, :1]), batch_size=6)
    names = {"fitted": net([], 0), "pool": pool, "train": train, "deimos": deimos, "torch": torch}
    exec(block, names)
    assert len(set(names["picked"].positions)) == 8
