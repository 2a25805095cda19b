"""The greedy batch in mask space against the same batch from the dense covariance, and growth.

The dense batch is made in three ways: candidate by candidate as the paper's code does (timed on a
hundred of them), by `greedy_batch` (in the short form timed on twenty picks: all cost the same),
and in two passes over the matrix a pick, in place. BAIT-F of bmdal_reg is eq. 6 for one output,
given the dropout predictions as features.
"""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from torch import Tensor

from benchmarks.measured import Row, alone, fresh, measure
from deimos.acquisition.checks import rounding
from deimos.acquisition.fast_selection import one_thread
from deimos.expected_improvement import covariance, expected_improvement, greedy_batch, select

TINY = 100, 2, 2, 10


def predictions(S: int, c: int, J: int) -> tuple[Tensor, float]:
    """Normal numbers, or class probabilities whose masks agree at most points; and a nugget."""
    generator = torch.Generator().manual_seed(0)
    p = torch.empty(J, S, c, dtype=torch.float64).normal_(generator=generator)
    if c > 1:
        p.add_(torch.empty(S, c).normal_(std=4, generator=generator)).exp_()
        p.div_(p.sum(-1, keepdim=True))
    return p, 0.1 * p[:, :1000].var(0).mean().item()


def ours(S: int, b: int, c: int, J: int, nugget: str = "noise") -> Callable:
    p, size = predictions(S, c, J)
    return partial(select, p, torch.arange(S), b, **{nugget: size})


def one_by_one(S: int, b: int, c: int, J: int) -> Callable:
    V, some = covariance(*predictions(S, c, J)), torch.arange(min(S, 100)).split(1)
    floor = rounding(V)
    return one_thread()(lambda: [expected_improvement(V, n, floor=floor) for n in some])


def dense(S: int, b: int, c: int, J: int) -> Callable:
    V = covariance(*predictions(S, c, J))
    return partial(greedy_batch, V, torch.arange(S), b)


def in_place(S: int, b: int, c: int, J: int) -> Callable:
    """Algorithm 1 on S × S numbers, destroying them."""
    V = covariance(*predictions(S, 1, J)).view(S, S)

    def pick() -> None:
        batch = []
        for _ in range(b):
            gains = torch.linalg.vector_norm(V, dim=1) ** 2 / V.diagonal()
            gains[batch] = -torch.inf
            n = gains.argmax().item()
            batch.append(n)
            V_n = V[:, n].clone()
            V.addcmul_(V_n[:, None], V_n / V_n[n], value=-1)

    return pick


def bait(S: int, b: int, c: int, J: int) -> Callable:
    np.Inf = np.inf  # it was written for numpy 1
    from bmdal_reg.bmdal import selection
    from bmdal_reg.bmdal.feature_data import TensorFeatureData
    from bmdal_reg.bmdal.feature_maps import IdentityFeatureMap

    p, nugget = predictions(S, 1, J)
    x = ((p[:, :, 0] - p[:, :, 0].mean(0)) / (J - 1) ** 0.5).T * 1e3  # its constants want it large
    pool, none = (
        selection.Features(IdentityFeatureMap(J), TensorFeatureData(part)) for part in (x, x[:0])
    )
    return lambda: selection.BaitFeatureSpaceSelectionMethod(
        pool, none, sel_with_train=False, noise_sigma=1e3 * nugget**0.5, verbosity=0
    ).select(b)


def rows(full: bool) -> Iterator[Row]:
    sizes = [(300, 25, 10, 50), (1_000, 25, 1, 50), (5_000, 200, 1, 50)]
    if full:
        sizes += [(10_000, 200, 1, 50), (2_000, 25, 10, 50)]
    for S, b, c, J in sizes:
        what = f"select, S = {S:,}, b = {b}, c = {c}, J = {J}"
        mine = alone(ours, S, b, c, J, tiny=TINY, rounds=3)
        a_candidate = alone(one_by_one, S, b, c, J, tiny=TINY)
        loop = a_candidate[0] / 100 * (S * b - b * (b - 1) / 2), a_candidate[1]
        picks = b if full else min(b, 20)
        took, more = alone(dense, S, picks, c, J, tiny=TINY)
        contenders = {
            "candidate by candidate (100 timed)": loop,
            f"dense, vectorised ({picks} picks timed)": (took * b / picks, more),
        }
        if c == 1:
            contenders["dense, in place"] = alone(in_place, S, b, c, J, tiny=TINY)
        for name, theirs in contenders.items():
            yield Row(what, name, *both(mine, theirs))
        if c == 1:
            mine = alone(ours, S, b, c, J, "smoothing", tiny=TINY, rounds=3)
            theirs = alone(bait, S, b, c, J, tiny=TINY, rounds=3)
            yield Row(f"{what}, eq. 6", "BAIT-F of bmdal_reg", *both(mine, theirs))
    if full:
        for S, b, c in ((60_000, 25, 10), (1_000_000, 200, 1)):
            took, more = alone(ours, S, b, c, 50, tiny=TINY)
            yield Row(f"select, S = {S:,}, b = {b}, c = {c}, J = 50", "", took, None, more)
    yield from growth()


def both(mine: tuple[float, float], theirs: tuple[float, float]) -> tuple[float, ...]:
    """Two measurements in a row's order."""
    return mine[0], theirs[0], mine[1], theirs[1]


def growth() -> Iterator[Row]:
    """Growth of time with each size."""
    base = {"S": 20_000, "b": 50, "c": 3, "J": 50}
    told = ", ".join(f"{name} = {value:,}" for name, value in base.items())
    with fresh() as call:
        (half, _), *twice = [
            call(measure, ours, tuple(size.values()), TINY, 3, torch.get_num_threads())
            for size in (base, *({**base, name: 2 * base[name]} for name in base))
        ]
    for name, (took, _) in zip(base, twice, strict=True):
        yield Row(f"select, {told}, twice the {name}", "as it is", took, half, note="0.5: linear")
