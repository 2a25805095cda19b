"""A batch from a pool of one's own: predictions of all points, and 96 picks.

Sequences of 101 nt with the paper's splicing net, and rows of 32 features on disk with a small net.
Pages of the file that it maps count as memory too: the kernel takes them back when it needs them.
"""

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks.measured import Row, alone
from deimos.models import networks
from deimos.pool.select_batch import select_batch

B, FEATURES = 96, 32


def write_rows(n: int, file: Path) -> None:
    """n rows of normal numbers, a part at a time."""
    rng = np.random.default_rng(0)
    rows = np.lib.format.open_memmap(file, "w+", np.float32, (n, FEATURES))
    for a in range(0, n, 100_000):
        rows[a : a + 100_000] = rng.standard_normal((min(100_000, n - a), FEATURES))


def small_net(width: int = 64) -> nn.Sequential:
    torch.manual_seed(0)
    trunk = nn.Linear(FEATURES, width), nn.ReLU()
    head = nn.Dropout(0.2), nn.Linear(width, width), nn.ReLU(), nn.Dropout(0.2)
    return nn.Sequential(*trunk, *head, nn.Linear(width, 1))


def of_features(n: int, file: Path) -> Callable:
    pool = np.load(file, mmap_mode="r", allow_pickle=False)[:n]
    return partial(select_batch, small_net(), pool, B)


def of_sequences(n: int) -> Callable:
    codes = np.random.default_rng(0).integers(0, 4, (n, 101)).astype(np.uint8)
    network = networks.splicing(torch.Generator().manual_seed(0))
    return partial(select_batch, network, codes, B)


def rows(full: bool) -> Iterator[Row]:
    took, more = alone(of_sequences, 5_000, tiny=(300,))
    what = f"{B} of 5,000 sequences of 101 nt, J = 50, predictions and picks"
    yield Row(what, "", took, megabytes=more)
    n = 1_000_000 if full else 100_000
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "pool.npy")
        write_rows(n, file)
        took, more = alone(of_features, n, file, tiny=(300, file))
    what = f"{B} of {n:,} rows of {FEATURES} features on disk, J = 50, predictions and picks"
    yield Row(what, "", took, megabytes=more)
