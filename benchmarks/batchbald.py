"""BatchBALD against other people's, side by side: time, memory, and what the batches tell.

500 points × 10 classes, batches of 10; with --full the paper's 2,000 × 10, batches of 25. Every
implementation runs in a process of its own on the same predictions, with 10,000 configurations.
baal and scikit-activeml take part where they are installed.
"""

import argparse
import os
import resource
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from multiprocessing import get_context

import numpy as np
import pandas as pd
import torch

from deimos import provenance
from deimos.batchbald import batchbald, batchbald_with_information
from deimos.mc_dropout import Beliefs

CONFIGURATIONS = 10_000


def predictions(J: int, S: int, c: int) -> torch.Tensor:
    """Class probabilities whose masks disagree about as much as the paper's MNIST net's do."""
    g = torch.Generator().manual_seed(0)
    agreed = 2 * torch.randn(S, c, generator=g)
    return (agreed + torch.randn(J, S, c, generator=g)).softmax(-1)


def deimos(P: torch.Tensor, b: int) -> list[int]:
    beliefs = Beliefs(torch.arange(P.shape[1]), P)
    return batchbald(beliefs, b, np.random.default_rng(0), CONFIGURATIONS).tolist()


def redux(P: torch.Tensor, b: int, dtype: torch.dtype) -> list[int]:
    from batchbald_redux import batchbald as theirs

    log_p = P.to(dtype).transpose(0, 1).log()
    return theirs.get_batchbald_batch(log_p, b, CONFIGURATIONS, dtype=dtype).indices


def skactiveml(P: torch.Tensor, b: int) -> list[int]:
    from skactiveml.pool import batch_bald

    gains = batch_bald(P.double().numpy(), b, n_MC_samples=CONFIGURATIONS, random_state=0)
    return np.nanargmax(gains, axis=1).tolist()


def baal(P: torch.Tensor, b: int) -> list[int]:
    from baal.active.heuristics import BatchBALD

    heuristic = BatchBALD(num_samples=b, num_draw=CONFIGURATIONS // len(P))
    return heuristic(P.double().permute(1, 2, 0).numpy())[:b].tolist()  # its ranking, not its order


IMPLEMENTATIONS: dict[str, tuple[str, Callable]] = {
    "deimos": ("deimos", deimos),
    "batchbald_redux": ("batchbald_redux", partial(redux, dtype=torch.float64)),
    "batchbald_redux, float32": ("batchbald_redux", partial(redux, dtype=torch.float32)),
    "scikit-activeml": ("skactiveml", skactiveml),
    "baal": ("baal", baal),
}


def measure(name: str, shape: tuple[int, int, int], b: int, threads: int) -> dict:
    """One run in this fresh process, after a small one that loads all there is to load."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    run = IMPLEMENTATIONS[name][1]
    run(predictions(50, 20, 3), 2)
    P = predictions(*shape)
    before = resource.getrusage(resource.RUSAGE_SELF)
    began = time.perf_counter()
    batch = run(P, b)
    seconds = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    extra = (after.ru_maxrss - before.ru_maxrss) / 1024  # kilobytes on Linux
    told = batchbald_with_information(
        Beliefs(torch.tensor(batch), P), b, np.random.default_rng(1), 100_000
    )[1][-1]
    return {"": name, "seconds": seconds, "CPU": cpu, "extra MB": extra, "bits": told.item()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="2,000 points, batches of 25")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    os.environ["TQDM_DISABLE"] = "1"  # the others' progress bars
    shape, b = ((50, 2000, 10), 25) if arguments.full else ((50, 500, 10), 10)

    rows = []
    for name, (package, _) in IMPLEMENTATIONS.items():
        if find_spec(package):
            with get_context("spawn").Pool(1) as fresh:
                rows.append(fresh.apply(measure, (name, shape, b, arguments.threads)))
    table = pd.DataFrame(rows).set_index("")
    table.insert(1, "times deimos", table["seconds"] / table.loc["deimos", "seconds"])
    print(f"BatchBALD, J × S × c = {shape}, b = {b}, {arguments.threads} threads")
    print(" · ".join(provenance.machine().values()))
    print(table.round({"seconds": 2, "times deimos": 1, "CPU": 2, "extra MB": 0, "bits": 3}))


if __name__ == "__main__":
    main()
