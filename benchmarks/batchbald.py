"""BatchBALD against other people's: time, memory, and how much the batches tell.

Every implementation is given the same predictions and 10,000 configurations. baal and
scikit-activeml take part where they are installed.
"""

from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec

import numpy as np
import torch
from torch import Tensor

from benchmarks.measured import Row, alone, fresh
from deimos.acquisition.batchbald import batchbald, batchbald_with_information
from deimos.acquisition.beliefs import Beliefs

CONFIGURATIONS, J = 10_000, 50
TINY = 20, 3, 2


def predictions(S: int, c: int) -> Tensor:
    """Class probabilities whose J masks disagree about as much as the paper's MNIST net's do."""
    g = torch.Generator().manual_seed(0)
    agreed = 2 * torch.randn(S, c, generator=g)
    return (agreed + torch.randn(J, S, c, generator=g)).softmax(-1)


def ours(S: int, c: int, b: int) -> Callable[[], list[int]]:
    beliefs = Beliefs(torch.arange(S), predictions(S, c))
    return lambda: batchbald(beliefs, b, np.random.default_rng(0), CONFIGURATIONS).tolist()


def redux(S: int, c: int, b: int, dtype: torch.dtype = torch.float64) -> Callable[[], list[int]]:
    from batchbald_redux import batchbald as theirs

    log_p = predictions(S, c).to(dtype).transpose(0, 1).log()
    return lambda: theirs.get_batchbald_batch(log_p, b, CONFIGURATIONS, dtype=dtype).indices


def skactiveml(S: int, c: int, b: int) -> Callable[[], list[int]]:
    from skactiveml.pool import batch_bald

    p = predictions(S, c).double().numpy()
    pick = partial(batch_bald, p, b, n_MC_samples=CONFIGURATIONS, random_state=0)
    return lambda: np.nanargmax(pick(), axis=1).tolist()


def baal(S: int, c: int, b: int) -> Callable[[], list[int]]:
    from baal.active.heuristics import BatchBALD

    p = predictions(S, c).double().permute(1, 2, 0).numpy()
    heuristic = BatchBALD(num_samples=b, num_draw=CONFIGURATIONS // J)  # so many from every mask
    return lambda: heuristic(p)[:b].tolist()  # its ranking, not its order


OTHERS: dict[str, tuple[str, Callable]] = {
    "batchbald_redux": ("batchbald_redux", redux),
    "batchbald_redux, float32": ("batchbald_redux", partial(redux, dtype=torch.float32)),
    "scikit-activeml": ("skactiveml", skactiveml),
    "baal": ("baal", baal),
}


def told(prepare: Callable, size: tuple[int, int, int]) -> float:
    """Bits that the batch tells, by 100,000 configurations."""
    S, c, b = size
    beliefs = Beliefs(torch.tensor(prepare(*size)()), predictions(S, c))
    return batchbald_with_information(beliefs, b, np.random.default_rng(1), 100_000)[1][-1].item()


def rows(full: bool) -> Iterator[Row]:
    size = S, c, b = (2_000, 10, 25) if full else (500, 10, 10)
    what = f"BatchBALD, {S:,} points, c = {c}, J = {J}, b = {b}"
    mine = alone(ours, *size, tiny=TINY)
    for name, (package, prepare) in OTHERS.items():
        if find_spec(package):
            theirs = alone(prepare, *size, tiny=TINY)
            yield Row(what, name, mine[0], theirs[0], mine[1], theirs[1])
    with fresh() as call:
        bits = [call(told, prepare, size) for prepare in (ours, redux)]
    yield Row(
        what,
        "",
        mine[0],
        megabytes=mine[1],
        note="{:.3f} bits, batchbald_redux {:.3f}".format(*bits),
    )
