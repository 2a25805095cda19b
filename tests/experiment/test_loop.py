"""A run depends on its own seed alone: not on its company, its threads, nor on being stopped."""

import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch
from mlflow import MlflowClient
from tiny import build

from deimos import tracking
from deimos.experiment import loop
from deimos.experiment.iteration import initial_set
from deimos.experiment.methods import sample_points
from deimos.experiment.runs import Member, Schedule
from deimos.models import mc_dropout
from deimos.models.training import Fit
from deimos.tasks.task import Task

SCHEDULE = Schedule(
    batch_size=4, n_initial=6, n_acquired=12, n_candidates=20, fit=Fit(5, minibatch=4, decay=0.01),
    noise=1e-4, n_masks=8, n_passes=5, seed=3,
)  # fmt: skip
METHODS = (
    "deimos", "random", "max_variance", "max_entropy", "bald", "batchbald", "k_center",
    "k_center_authors", "greedy_k_center", "batchbald_authors", "deimos_logits",
)  # fmt: skip


@pytest.fixture(scope="module")
def moons() -> Task:
    """Ids 0-9 of the data are in no class and must never be drawn."""
    return tiny.moons(130, range(10, 100))


def run(task: Task, members: list[Member]) -> dict[tuple[str, int], list[tuple]]:
    """Every member's steps, without the clock."""
    done: dict[tuple[str, int], list[tuple]] = {}
    for iteration in loop.active_learning(task, build, members):
        measured = {k: v for k, v in iteration.metrics.items() if not k.startswith("time/")}
        step = (iteration.n_acquired, iteration.n_labelled, measured, iteration.acquired)
        done.setdefault((iteration.member.method, iteration.member.repeat), []).append(step)
    return done


@pytest.fixture(scope="module")
def fleet(moons) -> dict[tuple[str, int], list[tuple]]:
    return run(moons, [Member(method, repeat, SCHEDULE) for method in METHODS for repeat in (1, 2)])


def test_every_member_takes_every_step_of_its_schedule(fleet):
    assert set(fleet) == {(method, repeat) for method in METHODS for repeat in (1, 2)}
    for steps in fleet.values():
        assert [(n, labelled) for n, labelled, _, _ in steps] == [
            (0, 6),
            (4, 10),
            (8, 14),
            (12, 18),
        ]
        assert [len(acquired) for *_, acquired in steps] == [4, 4, 4, 0]


def test_no_point_is_labelled_twice_and_only_training_ids_are(moons, fleet):
    for (_, repeat), steps in fleet.items():
        initial = initial_set(moons, SCHEDULE, repeat)
        ids = [*initial, *(i for *_, acquired in steps for i in acquired)]
        assert len(set(ids)) == len(ids) == 18
        assert set(ids) <= set(moons.train_ids.tolist())


def test_every_method_starts_a_repeat_from_the_same_points_and_the_same_model(fleet):
    for repeat in (1, 2):
        first = {fleet[method, repeat][0][2]["test/accuracy"] for method in METHODS}
        assert len(first) == 1
    assert fleet["random", 1][0][3] != fleet["random", 2][0][3]


@pytest.mark.parametrize("method", METHODS)
def test_a_member_alone_does_what_it_does_in_the_fleet_to_the_last_bit(moons, fleet, method):
    assert run(moons, [Member(method, 2, SCHEDULE)])[method, 2] == fleet[method, 2]


def test_a_member_taken_up_again_goes_on_as_if_nothing_had_happened(moons, fleet):
    for (method, repeat), steps in fleet.items():
        acquired = steps[0][3] + steps[1][3]
        rest = run(moons, [Member(method, repeat, SCHEDULE, acquired)])
        assert rest[method, repeat] == steps[2:]


def test_results_do_not_depend_on_the_number_of_cores(moons, fleet):
    cores = torch.get_num_threads()
    torch.set_num_threads(1 if cores > 1 else 2)
    try:
        assert run(moons, [Member("deimos", 1, SCHEDULE)])["deimos", 1] == fleet["deimos", 1]
    finally:
        torch.set_num_threads(cores)


def test_another_seed_gives_another_run(moons, fleet):
    other = run(moons, [Member("random", 1, replace(SCHEDULE, seed=4))])
    assert other["random", 1] != fleet["random", 1]


def test_the_sample_holds_the_wanted_candidates_and_its_share_of_labelled_points(moons):
    labelled = moons.train_ids[:45]  # half of what is in play
    rng = np.random.default_rng(1)
    ids, is_candidate = sample_points(moons.train_ids, labelled, 20, "with labelled", rng)
    assert is_candidate.sum() == 20
    assert not torch.isin(ids[is_candidate], labelled).any()
    assert torch.isin(ids[~is_candidate], labelled).all()
    shares = [
        (~sample_points(moons.train_ids, labelled, 20, "with labelled", rng)[1]).sum().item()
        for _ in range(200)
    ]
    assert np.mean(shares) == pytest.approx(20, abs=1.5)


def test_without_a_number_of_candidates_the_whole_pool_is_considered(moons):
    labelled = moons.train_ids[:45]
    rng = np.random.default_rng(1)
    ids, is_candidate = sample_points(moons.train_ids, labelled, None, "with labelled", rng)
    assert sorted(ids.tolist()) == moons.train_ids.tolist() and is_candidate.sum() == 45
    ids, is_candidate = sample_points(moons.train_ids, labelled, None, "pool", rng)
    assert sorted(ids.tolist()) == moons.train_ids[45:].tolist() and is_candidate.all()


def test_k_center_sees_all_labelled_points_beside_its_candidates(moons):
    labelled = moons.train_ids[:45]
    rng = np.random.default_rng(1)
    ids, is_candidate = sample_points(moons.train_ids, labelled, 20, "and labelled", rng)
    assert ids[~is_candidate].tolist() == labelled.tolist()
    assert is_candidate.sum() == 20 and not torch.isin(ids[is_candidate], labelled).any()


def test_random_acquisition_draws_from_the_whole_pool_whatever_the_candidates(moons):
    labelled = moons.train_ids[:45]
    rng = np.random.default_rng(1)
    ids, is_candidate = sample_points(moons.train_ids, labelled, 20, "whole pool", rng)
    assert sorted(ids.tolist()) == moons.train_ids[45:].tolist() and is_candidate.all()


def test_the_authors_initial_sets_are_used_for_the_repeats_they_exist_for(moons):
    theirs = replace(moons, initial_sets=((10, 11, 12, 13, 14, 15),))
    assert initial_set(theirs, SCHEDULE, 1) == theirs.initial_sets[0]
    second = initial_set(theirs, SCHEDULE, 2)
    assert second == initial_set(moons, SCHEDULE, 2)
    own = replace(SCHEDULE, initial_sets="random")
    assert initial_set(theirs, own, 1) != theirs.initial_sets[0]


@pytest.mark.filterwarnings("error")
def test_a_member_that_diverges_is_named_and_stops_no_other(moons, fleet):
    broken = SCHEDULE.changed(decay=1e40)
    members = [
        Member("deimos", 1, broken),
        Member("bald", 2, broken),
        Member("deimos", 2, SCHEDULE),
    ]
    done = []
    with pytest.raises(RuntimeError) as raised:
        for iteration in loop.active_learning(moons, build, members):
            done.append((iteration.member.method, iteration.member.repeat, iteration.acquired))
    assert done == [("deimos", 2, acquired) for *_, acquired in fleet["deimos", 2]]
    first, second = sorted(str(raised.value).split("; "))
    assert first.startswith("bald, repeat 2, 0 acquired: training diverged: ")
    assert second.startswith("deimos, repeat 1, 0 acquired: training diverged: ")


def test_the_record_of_a_fleet_with_a_broken_repeat_is_whole_for_the_others_and_finite(
    moons, database, monkeypatch
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
    monkeypatch.delenv("DEIMOS_EXECUTION", raising=False)
    broken = replace(
        moons, x=moons.x.clone(), initial_sets=(tuple(range(10, 16)), (0, *range(10, 15)))
    )
    broken.x[0] = float("inf")  # labelled in repeat 2 alone
    here = tracking.experiment("here", "Does it last?", "smoke")

    def record():
        with tracking.fleet(here, broken, "net", ["deimos", "random"], 2, SCHEDULE) as members:
            for iteration in loop.active_learning(broken, build, members):
                tracking.log(iteration)
            return len(members)

    for _ in range(2):  # the second time, what is whole is skipped
        with pytest.raises(RuntimeError, match="repeat 2, 0 acquired: training diverged"):
            record()
        runs = MlflowClient().search_runs([here.id], "tags.kind = 'run'")
        ended = {(r.data.tags["method"], r.data.tags["repeat"]): r.info.status for r in runs}
        assert ended == {
            (method, repeat): {"1": "FINISHED", "2": "FAILED"}[repeat]
            for method in ("deimos", "random") for repeat in ("1", "2")
        }  # fmt: skip
        table = tracking.table("moons", "smoke")
        assert np.isfinite(table.value).all() and set(table.repeat) == {1}
        assert len(table[table.metric == "accuracy"]) == 8
    broken.x[0] = 1.0
    assert record() == 2


def test_a_class_missing_from_the_labelled_set_is_no_obstacle(moons):
    one_class = moons.train_ids[moons.y[moons.train_ids] == 1][:6]
    theirs = replace(moons, initial_sets=(tuple(one_class.tolist()),))
    done = run(theirs, [Member(method, 1, SCHEDULE) for method in METHODS])
    for steps in done.values():
        assert [len(acquired) for *_, acquired in steps] == [4, 4, 4, 0]
        assert all(np.isfinite(list(measured.values())).all() for _, _, measured, _ in steps)


def test_points_that_come_several_times_are_no_obstacle(moons):
    few = moons.train_ids[:9].repeat(10)  # ids stay apart, what they hold does not
    same = replace(moons, x=moons.x.clone(), y=moons.y.clone())
    same.x[10:100], same.y[10:100] = moons.x[few], moons.y[few]
    done = run(same, [Member(method, 1, SCHEDULE) for method in METHODS])
    for steps in done.values():
        acquired = [id for *_, batch in steps for id in batch]
        assert len(set(acquired)) == len(acquired) == 12
        assert all(np.isfinite(list(measured.values())).all() for _, _, measured, _ in steps)


def test_all_that_cannot_be_is_told_before_the_first_fit(moons):
    wrong = [
        SCHEDULE.changed(batch_size=30, epochs=0),
        replace(SCHEDULE, n_initial=7, n_acquired=88, noise=float("nan")),
        SCHEDULE.changed(n_initial=92, optimiser="sgd"),
    ]
    members = [Member("random", 1, schedule) for schedule in (SCHEDULE, *wrong)]
    with pytest.raises(ValueError) as raised:
        next(loop.active_learning(moons, lambda generator: pytest.fail("built"), members))
    assert str(raised.value).split("; the nearest")[0].split("; ") == [
        "epochs = 0, wanted 1 or more",
        "n_acquired = 12 is no multiple of the batch size 30",
        "n_candidates = 20 is less than the batch size 30",
        "noise = nan, wanted 0 or more",
        "n_initial + n_acquired = 95, but moons has 90 points",
        "n_initial = 7 is no multiple of the 2 classes",
        "there is no optimiser 'sgd'",
    ]


def test_leaving_the_loop_early_stops_the_fleet(moons):
    iterations = loop.active_learning(moons, build, [Member("random", r, SCHEDULE) for r in (1, 2)])
    next(iterations)
    iterations.close()
    assert list(iterations) == []


def test_a_loop_that_is_left_waits_for_no_fit_and_its_fits_stop_by_themselves(moons):
    before, long = set(threading.enumerate()), SCHEDULE.changed(epochs=10_000)  # half a minute
    members = [Member("random", 1, SCHEDULE), Member("random", 2, long)]
    iterations = loop.active_learning(moons, build, members)
    next(iterations)  # while the long one waits or is under way
    left = time.monotonic()
    iterations.close()
    assert time.monotonic() - left < 2
    for thread in {t for t in threading.enumerate() if not t.daemon} - before:
        thread.join(timeout=10)
        assert not thread.is_alive()


def test_deimos_on_logits_sees_logits_whichever_way_it_is_asked_for_and_no_other_method_does(
    moons, monkeypatch
):
    seen, whole = [], mc_dropout.predict_shared

    def spied(network, features, masks, space="probabilities"):
        seen.append(space)
        return whole(network, features, masks, space)

    monkeypatch.setattr(mc_dropout, "predict_shared", spied)
    short = replace(SCHEDULE, n_acquired=4)
    batches = {}
    for method, space in (
        ("deimos", "probabilities"),
        ("deimos", "logits"),
        ("deimos_logits", "probabilities"),
        ("batchbald", "logits"),
        ("deimos_forward_backward", "logits"),
    ):
        member = Member(method, 1, replace(short, space=space))
        first, _ = loop.active_learning(moons, build, [member])
        batches[method, space] = first.acquired
    assert seen == ["probabilities", "logits", "logits", "probabilities", "logits"]
    assert batches["deimos", "logits"] == batches["deimos_logits", "probabilities"]
    assert batches["deimos", "logits"] != batches["deimos", "probabilities"]
