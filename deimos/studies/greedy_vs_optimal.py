"""Compare Algorithm 1 with the best of all batches, by simulation (App. A).

Axes:  J normal samples a point · S points, all of them candidates · b batch size · I instances
"""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from deimos.acquisition.exhaustive import optimal_batch, optimal_batches
from deimos.acquisition.fast_selection import one_thread
from deimos.expected_improvement import covariance, greedy_batch, variance_removed
from deimos.progress import progress

# The covariance printed in App. A, where greed removes 16.9 and the best pair of points 19.6.
EXAMPLE = torch.tensor([[9.0, 3, 2], [3, 2, 3], [2, 3, 9]], dtype=torch.float64).view(3, 1, 3, 1)
AT_ONCE = 50  # instances searched side by side; bounds memory


@one_thread()
def simulate(
    n_points: int, n_samples: int, n_instances: int, rng: np.random.Generator
) -> Float[Tensor, "I S 1 S 1"]:
    """Covariances of i.i.d. standard normal predictions, with τ⁻¹ a tenth of the mean variance."""
    predictions = torch.from_numpy(rng.standard_normal((n_instances, n_samples, n_points, 1)))
    return torch.stack([covariance(p, noise=p.var(0).mean().item() / 10) for p in predictions])


def greedy_ratios(V: Float[Tensor, "I S 1 S 1"], batch_size: int) -> list[float]:
    """The trace that greed removes over the most that any batch could, for each covariance.

    Rounding may lift a ratio of one above it by 1e-14; such a ratio is one.
    """
    candidates = torch.arange(V.shape[1])

    def ratios(V: Tensor) -> list[float]:
        _, optimal = optimal_batches(V, candidates, batch_size)
        greedy = [variance_removed(v, greedy_batch(v, candidates, batch_size)) for v in V]
        return [min(1.0, g / o) for g, o in zip(greedy, optimal.tolist(), strict=True)]

    # A core a chunk: torch's own threads only get in each other's way on arrays this small.
    with ThreadPoolExecutor(
        torch.get_num_threads(), initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        chunks = V.split(AT_ONCE)
        name = f"batch size {batch_size}"
        bar = progress(pool.map(ratios, chunks), name=name, total=len(chunks), unit="chunk")
        return [ratio for chunk in bar for ratio in chunk]


def lowest_ratios(
    n_points: int, n_samples: int, n_instances: int, batch_size: int, seeds: Iterable[int]
) -> list[float]:
    """The lowest of `n_instances` ratios, once for every seed."""
    found = []
    for seed in seeds:
        rng = np.random.default_rng([seed, batch_size, n_samples])
        found.append(
            min(greedy_ratios(simulate(n_points, n_samples, n_instances, rng), batch_size))
        )
    return found


def example() -> dict[str, list[float]]:
    """`EXAMPLE` as the paper tells it: greed's first point (from 1), the two that tie, the traces.

    `example_tie` is the second pick's expected improvement at point 1 less that at point 3.
    """
    candidates = torch.arange(3)
    first = greedy_batch(EXAMPLE, candidates, 1)
    left = candidates[candidates != first]
    pairs = [variance_removed(EXAMPLE, torch.cat([first, i[None]])) for i in left]
    greedy = variance_removed(EXAMPLE, greedy_batch(EXAMPLE, candidates, 2))
    _, optimal = optimal_batch(EXAMPLE, candidates, 2)
    return {
        "example_first": [float(first + 1)],
        "example_tie": [pairs[0] - pairs[1]],
        "example_greedy": [greedy],
        "example_optimal": [optimal],
        "example_ratio": [greedy / optimal],
    }
