"""`select` against the same greedy batch from the dense covariance matrix, side by side.

    python benchmarks/selection.py            S = 1,000 and 5,000, a few minutes
    python benchmarks/selection.py --large    `select` alone on whole pools, with peak memory

The dense batch is made in three ways: candidate by candidate as the paper's code does (timed on a
hundred of them), by `greedy_batch`, and, where there is one output, in two passes over the matrix
a pick, in place. `select` is timed three times and its median taken, the others once.
"""

import argparse
import resource
import time
from collections.abc import Callable
from multiprocessing import get_context
from statistics import median

import pandas as pd
import torch
from torch import Tensor

from deimos import provenance
from deimos.expected_improvement import covariance, expected_improvement, greedy_batch, select

J = 50


def predictions(S: int, c: int) -> Tensor:
    """Normal numbers, or class probabilities whose masks agree at most points; made in place."""
    generator = torch.Generator().manual_seed(0)
    p = torch.empty(J, S, c, dtype=torch.float64).normal_(generator=generator)
    if c == 1:
        return p
    p.add_(torch.empty(S, c).normal_(std=4, generator=generator)).exp_()
    return p.div_(p.sum(-1, keepdim=True))


def in_place(V: Tensor, b: int) -> list[int]:
    """Algorithm 1 on S × S numbers, destroying them."""
    batch = []
    for _ in range(b):
        gains = torch.linalg.vector_norm(V, dim=1) ** 2 / V.diagonal()
        gains[batch] = -torch.inf
        n = gains.argmax().item()
        batch.append(n)
        V_n = V[:, n].clone()
        V.addcmul_(V_n[:, None], V_n / V_n[n], value=-1)
    return batch


def seconds(run: Callable) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def compare(S: int, b: int, c: int) -> dict:
    p, candidates = predictions(S, c), torch.arange(S)
    noise = 0.1 * p.var(0).mean().item()
    fast = median(seconds(lambda: select(p, candidates, b, noise)) for _ in range(3))
    V = covariance(p, noise)
    some = candidates[:100].split(1)
    a_candidate = seconds(lambda: [expected_improvement(V, n) for n in some]) / len(some)
    dense = {
        "one by one": a_candidate * (S * b - b * (b - 1) / 2),
        "greedy_batch": seconds(lambda: greedy_batch(V, candidates, b)),
    }
    if c == 1:
        dense["in place"] = seconds(lambda: in_place(V.view(S, S), b))
    ratios = {f"{name} / select": took / fast for name, took in dense.items()}
    return {"S": S, "b": b, "c": c, "select": fast, **dense, **ratios}


def alone(S: int, b: int, c: int, threads: int) -> dict:
    """`select` in this fresh process, and by how much its peak is above what its input takes."""
    torch.set_num_threads(threads)
    select(predictions(100, c), torch.arange(100), 2, 0.01)
    p, candidates = predictions(S, c), torch.arange(S)
    noise = 0.1 * p[:, :1000].var(0).mean().item()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    took = seconds(lambda: select(p, candidates, b, noise))
    more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before  # kilobytes on Linux
    return {"S": S, "b": b, "c": c, "select": took, "input GiB": p.nbytes / 2**30} | {
        "more GiB": more / 2**20
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--large", action="store_true", help="`select` alone, on whole pools")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(" · ".join(provenance.machine().values()), f"· {arguments.threads} threads · seconds")
    if arguments.large:
        rows = []
        for shape in ((2_000, 25, 10), (60_000, 25, 10), (1_000_000, 200, 1)):
            with get_context("spawn").Pool(1) as fresh:
                rows.append(fresh.apply(alone, (*shape, arguments.threads)))
    else:
        rows = [compare(*shape) for shape in ((500, 25, 10), (1_000, 25, 1), (5_000, 200, 1))]
    print(pd.DataFrame(rows).to_string(index=False, float_format="{:.3g}".format, na_rep=""))


if __name__ == "__main__":
    main()
