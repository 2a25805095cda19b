"""Robust k-Center between proved bounds against the authors' search and against farthest-first.

The fewer points are labelled, the more of the candidates the new centres must cover, and the harder
the programme is. With --full it is asked of embeddings of MNIST, fitted first.
"""

import time
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from benchmarks.measured import Row
from deimos import k_center
from deimos.acquisition.beliefs import Beliefs
from deimos.acquisition.fast_selection import one_thread
from deimos.models import mc_dropout, networks, training
from deimos.tasks import mnist as data

N_CANDIDATES, BATCH_SIZE, WIDTH = 2500, 25, 128


def synthetic(n_labelled: int) -> Tensor:
    """Rectified features of two classes that spread in few directions, as a fitted layer's are."""
    g = torch.Generator().manual_seed(n_labelled)
    z = torch.randn(n_labelled + N_CANDIDATES, 8, generator=g)
    z[:, 0] += 6 * (torch.rand(len(z), generator=g) < 0.5)
    noise = torch.randn(len(z), WIDTH, generator=g) / 4
    return (z @ torch.randn(8, WIDTH, generator=g) / 8**0.5 + noise).relu()


def mnist(n_labelled: int) -> Tensor:
    """Penultimate activations of the paper's 7 vs 9 net after its 300 epochs."""
    task = data.load_7_vs_9("quick")
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


def timed(beliefs: Beliefs, bounds: str) -> tuple[k_center.Solution, float]:
    """A solution, and the seconds that it took."""
    began = time.perf_counter()
    found = k_center.robust_search(beliefs, BATCH_SIZE, bounds=bounds)
    return found, time.perf_counter() - began


@one_thread()
def rows(full: bool) -> Iterator[Row]:
    for n_labelled in (10, 60, 260):
        features = (mnist if full else synthetic)(n_labelled)
        beliefs = Beliefs(torch.arange(n_labelled, len(features)), features=features)
        ours, took = timed(beliefs, "correct")
        theirs, theirs_took = timed(beliefs, "authors")
        note = (
            f"radius {ours.radius:.4g}, proved {ours.lower_bound:.4g}; their search "
            f"{theirs.radius:.4g}, farthest-first {ours.greedy_radius:.4g}"
        )
        note += " (a step met its limit)" if ours.limit_met else ""
        what = f"robust k-Center, {N_CANDIDATES:,} candidates, {n_labelled} labelled, b = 25"
        yield Row(what, "the authors' search", took, theirs_took, note=note)
