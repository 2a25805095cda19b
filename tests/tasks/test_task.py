"""A point is as hard as its neighbours are of other classes."""

import numpy as np
import pytest
import tiny
import torch


def test_hardness_is_the_share_of_neighbours_of_another_class():
    task = tiny.moons()
    x, y = task.x.numpy(), task.y.numpy()
    expected = []
    for id in (3, 14, 27):
        apart = [(np.linalg.norm(x[id] - x[other]), other) for other in range(60) if other != id]
        nearest = [other for _, other in sorted(apart)[:10]]
        expected.append(np.mean(y[nearest] != y[id]))
    assert task.hardness((3, 14, 27)) == pytest.approx(np.mean(expected))
    assert task.hardness((3,)) == pytest.approx(expected[0])


def test_neighbours_are_sought_among_points_spread_evenly_and_among_all_of_a_few():
    task = tiny.moons()
    every_third = torch.arange(0, 60, 3)
    apart = (task.x[7] - task.x[every_third]).square().sum(1)
    nearest = every_third[apart.argsort()[:10]]
    expected = (task.y[nearest] != task.y[7]).double().mean().item()
    assert task.hardness((7,), among=20) == pytest.approx(expected)
    few = tiny.moons(train=range(4))
    assert few.hardness((1,)) == pytest.approx(2 / 3)  # 0 and 2 are of the other class, 3 is not
