"""Robust k-Center against farthest-first: how much smaller the radius, how sure, how long it took.

    python benchmarks/k_center.py          2,500 candidates, batches of 25, about a minute
    python benchmarks/k_center.py --mnist  the same on embeddings of 7 vs 9, fitted first

The fewer points are labelled, the more of the candidates the new centres must cover, and the harder
the programme is. "limit" says that a step was given up after 20 s.
"""

import argparse
import time

import numpy as np
import torch

from deimos import data, k_center, mc_dropout, networks, training
from deimos.mc_dropout import Beliefs

N_CANDIDATES, BATCH_SIZE, WIDTH = 2500, 25, 128
COLUMNS = "{:>9} {:9} {:>9} {:>9} {:>9} {:>7} {:>9} {:>9}  {}"


def synthetic(n_labelled: int) -> torch.Tensor:
    """Rectified features of two classes that spread in few directions, as a fitted layer's are."""
    g = torch.Generator().manual_seed(n_labelled)
    z = torch.randn(n_labelled + N_CANDIDATES, 8, generator=g)
    z[:, 0] += 6 * (torch.rand(len(z), generator=g) < 0.5)
    noise = torch.randn(len(z), WIDTH, generator=g) / 4
    return (z @ torch.randn(8, WIDTH, generator=g) / 8**0.5 + noise).relu()


def mnist(n_labelled: int) -> torch.Tensor:
    """Penultimate activations of the paper's 7 vs 9 net after its 300 epochs."""
    task = data.mnist_7_vs_9("quick")
    order = np.random.default_rng(n_labelled).permutation(len(task.train_ids))
    ids = task.train_ids[order[: n_labelled + N_CANDIDATES]]
    weights, minibatches, dropout = (
        torch.Generator().manual_seed(n_labelled + i) for i in range(3)
    )
    network = training.fit(
        networks.mnist_7_vs_9(weights),
        task.x[ids[:n_labelled]],
        task.y[ids[:n_labelled]],
        epochs=300,
        minibatch=128,
        decay=0.0005,
        optimiser="adam",
        order=minibatches,
        dropout=dropout,
    )
    return mc_dropout.embeddings(network, mc_dropout.trunk_features(network, task.x[ids]))


def compare(n_labelled: int, features: torch.Tensor) -> None:
    seen = Beliefs(torch.arange(n_labelled, len(features)), features=features)
    for name, batch_size, bounds in (
        ("robust", BATCH_SIZE, "correct"),
        ("authors'", BATCH_SIZE, "authors"),
        ("one point", 1, "correct"),
    ):
        wall, cpu = time.perf_counter(), time.process_time()
        s = k_center.solve(seen, batch_size, bounds=bounds)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        numbers = (f"{x:.4g}" for x in (s.greedy_radius, s.radius, s.lower_bound))
        gain = f"{1 - s.radius / s.greedy_radius:.1%}"
        times = (f"{wall:.1f} s", f"{cpu:.1f} s")
        limit = "limit" if s.limit_met else ""
        print(COLUMNS.format(n_labelled, name, *numbers, gain, *times, limit), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--mnist", action="store_true", help="real embeddings")
    embeddings = mnist if parser.parse_args().mnist else synthetic
    torch.set_num_threads(1)
    titles = ("labelled", "search", "greedy", "radius", "proved", "gain", "wall", "processor", "")
    print(COLUMNS.format(*titles))
    for n_labelled in (10, 60, 260):
        compare(n_labelled, embeddings(n_labelled))
