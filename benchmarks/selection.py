"""`select` against Algorithm 1 as printed, dense and vectorised, side by side in one run.

    python benchmarks/selection.py            S = 1,000 and 5,000, a minute or two
    python benchmarks/selection.py --large    `select` alone on whole pools, with peak memory
"""

import argparse
import resource
import time
from statistics import median

import torch

from deimos.expected_improvement import covariance, greedy_batch, select, variance_removed

ROUNDS = 3


def predictions(J: int, S: int, c: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    p = torch.randn(J, S, c, generator=generator, dtype=torch.float64)
    return p if c == 1 else (2 * p).softmax(-1)


def seconds(function) -> tuple[float, torch.Tensor]:
    began = time.perf_counter()
    batch = function()
    return time.perf_counter() - began, batch


def compare(S: int, b: int, c: int, J: int = 50) -> None:
    p, candidates = predictions(J, S, c), torch.arange(S)
    noise = 0.1 * p.var(0).mean().item()
    fast, slow = [], []
    for _ in range(ROUNDS):
        t, batch = seconds(lambda: select(p, candidates, b, noise))
        fast.append(t)
        t, dense = seconds(lambda: greedy_batch(covariance(p, noise), candidates, b))
        slow.append(t)
    V = covariance(p, noise)
    agree = variance_removed(V, batch[:5]) / variance_removed(V, dense[:5]) - 1
    ratios = sorted(s / f for s, f in zip(slow, fast, strict=True))
    same = int((batch == dense).sum())
    print(
        f"S={S:>6,} b={b:>3} c={c:>2}: select {median(fast):8.3f} s, dense {median(slow):8.3f} s, "
        f"ratio {median(ratios):6.0f} ({ratios[0]:.0f}-{ratios[-1]:.0f}); "
        f"{same} of {b} picks the same, trace of five {agree:+.0e}",
        flush=True,
    )


def alone(S: int, b: int, c: int, J: int = 50) -> None:
    p, candidates = predictions(J, S, c), torch.arange(S)
    noise = 0.1 * p.var(0).mean().item()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    t, _ = seconds(lambda: select(p, candidates, b, noise))
    more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20
    print(f"S={S:>9,} b={b:>3} c={c:>2}: select {t:7.2f} s, {more:.2f} GiB above its input's peak")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--large", action="store_true")
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    if parser.parse_args().large:
        alone(2_000, 25, 10)
        alone(60_000, 25, 10)
        alone(1_000_000, 200, 1)
    else:
        compare(1_000, 25, 1)
        compare(5_000, 200, 1)
        compare(500, 25, 10)
