"""The one-dimensional task is the figure's: where its points lie, and how noisy they are."""

import numpy as np
import pytest
import torch

from deimos.tasks import synthetic_1d


@pytest.fixture
def stored(tmp_path, monkeypatch):
    """A table of points in the place of the authors'."""
    monkeypatch.setattr(synthetic_1d, "STORED", tmp_path / "points.csv")
    return tmp_path / "points.csv"


def table(chosen=70, pool=201, test=201, header="set,x,value") -> str:
    rows = [("chosen_sample", chosen, 1.0), ("pool", pool, 2.0), ("test", test, 3.0)]
    lines = [f"{name},{i / 10},{y}" for name, n, y in rows for i in range(n)]
    return "\n".join([header, *lines, "queried,-0.55,nan"]) + "\n"


@pytest.mark.parametrize("seed", [None, 0])
def test_the_points_lie_where_the_figure_has_them(seed):
    task = synthetic_1d.load_synthetic_1d(seed)
    train, pool = task.x[:70, 0], task.x[70:, 0]
    assert task.initial_sets == (tuple(range(70)),) and len(task.train_ids) == 271
    assert pool[[0, -1]].tolist() == pytest.approx([-9.95, 10.05])
    assert task.test_x[[0, -1], 0].tolist() == [-10, 10] and len(task.test_x) == 201
    assert (train.abs() < 2).sum() <= 2 and train.abs().max() <= 10
    assert 20 <= (train < -2).sum() <= 49 and 20 <= (train > 2).sum() <= 49


def test_the_noise_is_three_percent_of_the_range_and_the_test_has_none(rng):
    _, (x, y), (grid, truth) = synthetic_1d.draw_points(rng)
    between = np.interp(x[:-1], grid, truth)  # the pool lies half a step beside the grid
    assert np.std(y[:-1] - between) == pytest.approx(0.03 * np.ptp(truth), rel=0.15)
    assert np.abs(np.diff(truth, 2)).max() < 0.01 * np.ptp(truth)


def test_a_seed_gives_one_function_and_another_seed_another():
    first, again, other = (synthetic_1d.load_synthetic_1d(seed) for seed in (3, 3, 4))
    assert torch.equal(first.y, again.y) and first.checksum == again.checksum
    assert first.checksum != other.checksum


def test_without_a_seed_the_points_are_the_authors(stored):
    stored.write_text(table())
    task = synthetic_1d.load_synthetic_1d()
    assert task.source == "the authors' stored points"
    assert task.y.tolist() == [1.0] * 70 + [2.0] * 201 and task.test_y.tolist() == [3.0] * 201
    assert task.x[69, 0].item() == pytest.approx(6.9) and task.x[70, 0].item() == 0


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "does not begin with the header"),
        (table(header="x,y,z"), "does not begin with the header"),
        (table(chosen=69), "70 rows chosen_sample,x,value"),
        (table().replace("pool,0.0,2.0", "pool,zero,2.0"), "201 rows pool,x,value"),
        (table().replace("test,0.0,3.0", "test,0.0"), "201 rows test,x,value"),
        (table().replace("test,0.0,3.0", "test,0.0,nan"), "test that is not finite"),
    ],
)
def test_a_table_of_another_layout_is_refused(stored, text, complaint):
    stored.write_text(text)
    with pytest.raises(ValueError, match=complaint):
        synthetic_1d.load_synthetic_1d()
