"""A batch from pools of one's own: how long it takes, and how much memory beside the input.

A million rows of 32 features on disk, a small net with dropout, 96 picks; and 5,000 sequences of
101 nt with the paper's splicing net. Each in a fresh process, which reports by how much its peak of
resident memory is above what it was before the call. Pages of the file that it maps count too: the
kernel takes them back when it needs them.
"""

import argparse
import resource
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from deimos import networks, own_pool, provenance

B, FEATURES = 96, 32


def rows_on_disk(n: int, file: Path) -> None:
    """n rows of normal numbers, written a part at a time."""
    rng = np.random.default_rng(0)
    rows = np.lib.format.open_memmap(file, "w+", np.float32, (n, FEATURES))
    for a in range(0, n, 100_000):
        rows[a : a + 100_000] = rng.standard_normal((min(100_000, n - a), FEATURES))


def small_net(width: int = 64) -> nn.Sequential:
    torch.manual_seed(0)
    trunk = nn.Linear(FEATURES, width), nn.ReLU()
    head = nn.Dropout(0.2), nn.Linear(width, width), nn.ReLU(), nn.Dropout(0.2)
    return nn.Sequential(*trunk, *head, nn.Linear(width, 1))


def measured(name: str, model: nn.Module, pool: np.ndarray, threads: int) -> dict:
    torch.set_num_threads(threads)
    own_pool.select_batch(model, pool[:300], 3, noise=0.1)  # what is loaded at first use
    before = peak()
    began = time.perf_counter()
    sample = own_pool.prepare(model, pool)
    predicted = time.perf_counter()
    picked = sample.pick(B)
    took = time.perf_counter() - began
    return {
        "pool": name,
        "points": len(pool),
        "seconds": took,
        "of which predicting": predicted - began,
        "input GiB": pool.nbytes / 2**30,
        "predictions GiB": sample.predictions.nbytes / 2**30,
        "more GiB": (peak() - before) / 2**20,
        "share of pick 96": picked.share()[-1],
    }


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kilobytes on Linux


def of_features(file: Path, threads: int) -> dict:
    pool = np.load(file, mmap_mode="r", allow_pickle=False)
    return measured("features on disk", small_net(), pool, threads)


def of_sequences(n: int, threads: int) -> dict:
    codes = np.random.default_rng(0).integers(0, 4, (n, 101)).astype(np.uint8)
    network = networks.splicing(torch.Generator().manual_seed(0))
    return measured("sequences of 101 nt", network, codes, threads)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    given = parser.parse_args()
    print(" · ".join(provenance.machine().values()), f"· {given.threads} threads")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "pool.npy")
        rows_on_disk(given.rows, file)
        found = []
        for what, of in ((of_sequences, 5_000), (of_features, file)):
            with get_context("spawn").Pool(1) as fresh:
                found.append(fresh.apply(what, (of, given.threads)))
    print(pd.DataFrame(found).to_string(index=False, float_format="{:.3g}".format))


if __name__ == "__main__":
    main()
