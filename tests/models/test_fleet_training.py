"""Members that are fitted in step become the networks that they become one by one."""

from concurrent.futures import CancelledError
from dataclasses import replace
from threading import Semaphore

import pytest
import tiny
import torch

from deimos.experiment import loop
from deimos.experiment.iteration import initial_set
from deimos.experiment.runs import Iteration, Member, fitting_here
from deimos.models import fleet_training, networks, training
from deimos.models.fleet_training import FitStart, fit_fleet
from deimos.models.networks import Network
from deimos.models.training import Fit
from deimos.tasks.task import Task

M, N = 3, 10
SETTINGS = dict(epochs=3, minibatch=4, decay=0.3, optimiser="adam")  # the last minibatch is partial


def generator(seed: int, device: str | torch.device = "cpu") -> torch.Generator:
    return torch.Generator(device).manual_seed(seed)


def starts(build, x: torch.Tensor) -> list[FitStart]:
    """Of member i, anew: a network, ids and streams that no other member has."""
    ids = [torch.randperm(len(x), generator=generator(i))[:N] for i in range(M)]
    return [
        FitStart(
            build(generator(10 + i)).to(x.device), ids[i].to(x.device),
            generator(20 + i, x.device), generator(30 + i, x.device),
        )
        for i in range(M)
    ]  # fmt: skip


def one_by_one(build, x, y, **settings) -> list[Network]:
    return [
        training.fit(
            start.network, x[start.labelled], y[start.labelled], order=start.order,
            dropout=start.dropout, **settings,
        )
        for start in starts(build, x)
    ]  # fmt: skip


def in_step(build, x, y, stopped=lambda: False, **settings) -> list[Network | ValueError]:
    return fit_fleet(lambda i: starts(build, x)[i], M, x, y, Fit(**settings), stopped)


def double(generator: torch.Generator) -> Network:
    return tiny.build(generator).double()


def points() -> tuple[torch.Tensor, torch.Tensor]:
    task = tiny.moons()
    return task.x.double(), task.y


@pytest.mark.parametrize(
    "changed",
    [
        *({"optimiser": name} for name in ("adam", "adam_next", "rmsprop")),
        *({"remainder": name} for name in ("dropped", "merged")),
    ],
    ids=str,
)
def test_weights_are_those_of_fits_one_by_one(changed):
    settings = {**SETTINGS, **changed}
    ours = in_step(double, *points(), **settings)
    for a, b in zip(ours, one_by_one(double, *points(), **settings), strict=True):
        assert not any(w.requires_grad for w in a.parameters())
        for v, w in zip(a.parameters(), b.parameters(), strict=True):
            torch.testing.assert_close(v, w, rtol=1e-9, atol=1e-11)
    assert not torch.equal(ours[0].dense[0].weight, ours[1].dense[0].weight)


@pytest.mark.parametrize(
    ("build", "shape", "values"),
    [
        (networks.mnist_7_vs_9, (28, 28), 256),
        (networks.mnist_0_to_9, (28, 28), 256),
        (networks.splicing, (101,), 4),
        (networks.face_age, (3, 200, 200), 256),
    ],
)
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def test_the_papers_nets_can_be_fitted_in_step(build, shape, values, device, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)  # else a GPU rounds to 11 bits
    x = torch.randint(0, values, (12, *shape), generator=generator(1), dtype=torch.uint8).to(device)
    classes = build(generator(0)).n_outputs
    y = (torch.arange(12) % classes if classes > 1 else torch.linspace(0, 1, 12)).to(device)
    settings = {**SETTINGS, "epochs": 1, "minibatch": N}  # one step: rounding has not grown yet
    ours, theirs = in_step(build, x, y, **settings), one_by_one(build, x, y, **settings)
    assert_moved_alike(starts(build, x), ours, theirs)


def assert_moved_alike(begun, ours, theirs) -> None:
    for start, a, b in zip(begun, ours, theirs, strict=True):
        before, v, w = (
            torch.cat([w.detach().flatten() for w in net.parameters()])
            for net in (start.network, a, b)
        )
        moved = (w - before).norm()
        assert moved > 0 and (v - w).norm() < 0.02 * moved


@pytest.fixture
def recordings(monkeypatch) -> tuple[list[int], list[torch.cuda.CUDAGraph]]:
    """The sizes of minibatch for which a step was recorded, and the graphs that were replayed."""
    sizes, replayed = [], []
    record, replay = fleet_training._Step.recording, torch.cuda.CUDAGraph.replay
    monkeypatch.setattr(
        fleet_training._Step, "recording",
        lambda self, *about: sizes.append(about[0].shape[1]) or record(self, *about),
    )  # fmt: skip
    monkeypatch.setattr(
        torch.cuda.CUDAGraph, "replay", lambda self: replayed.append(self) or replay(self)
    )
    return sizes, replayed


@pytest.mark.cuda
def test_a_step_that_is_recorded_is_the_step_that_is_taken(recordings, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    x = torch.randint(0, 256, (40, 28, 28), generator=generator(1), dtype=torch.uint8).cuda()
    y, build = (torch.arange(40) % 2).cuda(), networks.mnist_7_vs_9
    settings = {**SETTINGS, "epochs": 4}  # 8 steps of 4 points and 4 of 2
    ours, theirs = in_step(build, x, y, **settings), one_by_one(build, x, y, **settings)
    sizes, replayed = recordings
    assert sizes == [4, 2] and len(replayed) == 12 - 2 and len(set(map(id, replayed))) == 2
    assert_moved_alike(starts(build, x), ours, theirs)


def test_without_a_gpu_no_step_is_recorded(recordings):
    in_step(double, *points(), **SETTINGS)
    assert recordings == ([], [])


def test_a_member_that_diverges_is_told_and_harms_no_other():
    x, y = points()
    bad = starts(double, x)[1].labelled[0]
    x[bad] = torch.inf
    hit = [bad.item() in start.labelled for start in starts(double, x)]
    ours = in_step(double, x, y, **SETTINGS)
    assert hit.count(True) < M
    for broken, network, (a, b) in zip(
        hit, ours, zip(ours, in_step(double, *points(), **SETTINGS), strict=True), strict=True
    ):
        if broken:
            assert isinstance(network, ValueError) and "diverged" in str(network)
        else:
            for v, w in zip(a.parameters(), b.parameters(), strict=True):
                assert torch.equal(v, w)


def test_where_memory_is_short_members_are_fitted_in_smaller_groups(monkeypatch):
    whole, sizes = fleet_training._fit, []

    def only_two_fit(starts, *about, **settings):
        sizes.append(len(starts))
        if len(starts) > 2:
            raise torch.OutOfMemoryError("a GPU of two networks")
        return whole(starts, *about, **settings)

    wanted = in_step(double, *points(), **SETTINGS)
    monkeypatch.setattr(fleet_training, "_fit", only_two_fit)
    with pytest.warns(UserWarning, match="out of memory: members are fitted in smaller groups"):
        found = in_step(double, *points(), **SETTINGS)
    assert sizes == [3, 1, 2]
    for a, b in zip(wanted, found, strict=True):
        for v, w in zip(a.parameters(), b.parameters(), strict=True):
            torch.testing.assert_close(v, w, rtol=1e-9, atol=1e-11)


def test_a_network_that_has_no_room_by_itself_is_an_error(monkeypatch):
    def none_fits(*about, **settings):
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(fleet_training, "_fit", none_fits)
    with pytest.warns(UserWarning), pytest.raises(torch.OutOfMemoryError, match="no room"):
        in_step(double, *points(), **SETTINGS)


def test_nobody_who_has_left_is_waited_for():
    with pytest.raises(CancelledError, match="after 0 steps"):
        in_step(double, *points(), **SETTINGS, stopped=lambda: True)


METHODS = "deimos", "random", "k_center"


IN_STEP = replace(tiny.SCHEDULE, fitting="in_step")


def fleet(task: Task, members: list[Member], fitting: str) -> dict[tuple, Iteration]:
    asked = [replace(one, schedule=replace(one.schedule, fitting=fitting)) for one in members]
    found = loop.active_learning(task, tiny.build, asked)
    return {(one.member.method, one.member.repeat, one.n_acquired): one for one in found}


def test_a_fleet_in_step_labels_what_it_labels_one_by_one():
    members = [Member(method, repeat, tiny.SCHEDULE) for method in METHODS for repeat in (1, 2)]
    one, other = (fleet(tiny.moons(), members, how) for how in ("one_by_one", "in_step"))
    assert one.keys() == other.keys() and len(one) == 6 * 4
    for step, iteration in one.items():
        assert other[step].acquired == iteration.acquired
        assert other[step].metrics == pytest.approx(
            {**iteration.metrics, **{k: v for k, v in other[step].metrics.items() if "time" in k}},
            rel=1e-3,
        )


@pytest.fixture
def sizes(monkeypatch) -> list[int]:
    """Sizes of the groups that were fitted together."""
    whole, found = fit_fleet, []
    monkeypatch.setattr(
        "deimos.experiment.iteration.fit_fleet",
        lambda *about, **s: found.append(about[1]) or whole(*about, **s),
    )
    return found


def test_members_at_different_points_fall_into_step(sizes):
    schedule = IN_STEP
    ahead = Member("random", 1, schedule)
    steps = list(loop.active_learning(tiny.moons(), tiny.build, [ahead]))
    ahead = replace(ahead, acquired=steps[0].acquired + steps[1].acquired)
    assert sizes == [1] * 4 and len(ahead.acquired) == 8
    sizes.clear()
    fleet(tiny.moons(), [ahead, Member("random", 2, schedule)], "in_step")
    assert sizes == [1, 1, 2, 2]


def test_the_next_fit_begins_while_iterations_are_recorded(monkeypatch):
    whole, begun = fit_fleet, Semaphore(0)
    monkeypatch.setattr(
        "deimos.experiment.iteration.fit_fleet",
        lambda *about, **s: begun.release() or whole(*about, **s),
    )
    members = [Member("random", 1, IN_STEP)]
    steps = loop.active_learning(tiny.moons(), tiny.build, members)
    next(steps)
    assert all(begun.acquire(timeout=60) for _ in range(2))  # the second while the first is held
    assert len(list(steps)) == 3


def test_in_step_a_member_that_fails_is_named_and_stops_no_other(monkeypatch):
    task = tiny.moons()
    members = [Member("random", repeat, IN_STEP) for repeat in (1, 2)]
    first, second = (set(initial_set(task, IN_STEP, repeat)) for repeat in (1, 2))
    bad = (first - second).pop()
    broken = replace(task, x=task.x.index_fill(0, torch.tensor([bad]), torch.nan))
    found = []
    with pytest.raises(RuntimeError, match="random, repeat 1, 0 acquired: training diverged"):
        for one in loop.active_learning(broken, tiny.build, members):
            found.append((one.member.repeat, one.n_acquired))
    assert (2, 0) in found and not any(repeat == 1 for repeat, _ in found)
    monkeypatch.setattr("deimos.experiment.iteration.fit_fleet", lambda *_, **__: 1 / 0)
    with pytest.raises(RuntimeError, match="repeat 1.*division.*; random, repeat 2.*division"):
        list(loop.active_learning(task, tiny.build, members))


@pytest.mark.parametrize(
    ("fitting", "cuda", "used"),
    [
        ("one_by_one", True, "one_by_one"),
        ("in_step", False, "in_step"),
        ("auto", False, "one_by_one"),
        ("auto", True, "in_step"),
    ],
)
def test_the_schedule_says_how_a_fleet_is_fitted_or_leaves_it_to_the_machine(
    fitting, cuda, used, monkeypatch
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    assert fitting_here(replace(tiny.SCHEDULE, fitting=fitting)) == used


@pytest.mark.parametrize(("fitting", "fits"), [("one_by_one", []), ("in_step", [1])])
def test_a_fleet_is_fitted_as_its_schedule_says_and_the_environment_has_no_say(
    fitting, fits, monkeypatch, sizes
):
    monkeypatch.setenv("DEIMOS_TOGETHER", "0" if fits else "1")
    members = [Member("random", 1, replace(tiny.SCHEDULE, n_acquired=0))]
    assert len(fleet(tiny.moons(), members, fitting)) == 1
    assert sizes == fits


def test_a_fleet_of_two_ways_to_fit_is_refused():
    members = [Member("random", 1, IN_STEP), Member("random", 2, tiny.SCHEDULE)]
    members[1] = replace(members[1], schedule=replace(tiny.SCHEDULE, fitting="one_by_one"))
    with pytest.raises(ValueError, match="fitting differs among schedules"):
        next(loop.active_learning(tiny.moons(), tiny.build, members))
