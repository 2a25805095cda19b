"""One iteration of a run: label, fit from scratch, evaluate, acquire (§5, App. D).

Two index spaces: *ids* count the rows of the full training data, *positions* the sample points of
one iteration. They meet in `_acquire` and nowhere else.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from deimos.acquisition.beliefs import Beliefs
from deimos.experiment.methods import by_name, sample_points
from deimos.experiment.runs import Iteration, Member, Schedule, Streams, repeat_streams
from deimos.models import mc_dropout, training
from deimos.models.fleet_training import FitStart, fit_fleet
from deimos.models.networks import Network
from deimos.models.training import Fit
from deimos.tasks.task import Task, held_out_of_repeat, task_of_repeat

Build = Callable[[torch.Generator], Network]


@dataclass(frozen=True)
class StartedIteration:
    """An iteration of a member before its network is fitted."""

    task: Task  # as the member's repeat meets it
    member: Member
    labelled: Int[Tensor, " N"]  # ids
    streams: Streams


def _begin(task: Task, member: Member) -> StartedIteration:
    schedule, repeat = member.schedule, member.repeat
    streams = Streams(schedule.seed, repeat, len(member.acquired), task.x.device)
    task = task_of_repeat(task, repeat, repeat_streams(schedule.seed, repeat).numpy("test set"))
    initial = initial_set(task, schedule, repeat)
    labelled = torch.tensor([*initial, *member.acquired], device=task.x.device)
    return StartedIteration(task, member, labelled, streams)


def iterate(task: Task, build: Build, stopped: Callable[[], bool], member: Member) -> Iteration:
    """Label, fit, evaluate and acquire, once."""
    begun = _begin(task, member)
    began = time.perf_counter()
    how = member.schedule.fit
    network = fit_on_labels(task, build, how, begun.labelled, begun.streams, stopped)
    return finish(begun, network, time.perf_counter() - began)


def finish(begun: StartedIteration, network: Network | ValueError, fit_seconds: float) -> Iteration:
    """Evaluate and acquire, once, with the fitted network; or raise why there is none."""
    if isinstance(network, ValueError):
        raise network
    task, member, streams = begun.task, begun.member, begun.streams
    schedule, n_acquired = member.schedule, len(member.acquired)
    began = time.perf_counter()
    scores = evaluate(task, network, schedule.n_passes, streams)
    evaluated = time.perf_counter()
    acquired, seen, answers = (), {}, ()
    if n_acquired < schedule.n_acquired:
        acquired, seen, answers = _acquire(task, network, member, begun.labelled, streams)
    metrics = {
        **{f"test/{name}": score for name, score in scores.items()},
        **seen,
        "time/fit_seconds": fit_seconds,
        "time/evaluate_seconds": evaluated - began,
        "time/acquire_seconds": time.perf_counter() - evaluated,
    }
    return Iteration(member, n_acquired, len(begun.labelled), metrics, acquired, answers)


def fit_group(
    task: Task, build: Build, stopped: Callable[[], bool], members: list[Member]
) -> list[tuple[StartedIteration, Network | ValueError, float]]:
    """Fit several members at one point of one schedule in step; they share the time."""
    began = time.perf_counter()
    begun = [_begin(task, member) for member in members]
    networks = fit_fleet(
        lambda i: _start(build, begun[i].labelled, begun[i].streams), len(begun), task.x, task.y,
        members[0].schedule.fit, stopped,
    )  # fmt: skip
    share = (time.perf_counter() - began) / len(begun)
    return [(one, network, share) for one, network in zip(begun, networks, strict=True)]


def fit_on_labels(
    task: Task,
    build: Build,
    how: Fit,
    labelled: Int[Tensor, " N"],
    streams: Streams,
    stopped: Callable[[], bool] = lambda: False,
) -> Network:
    """A new network, trained from scratch on the labelled ids unless `stopped` first."""
    start = _start(build, labelled, streams)
    return training.fit(
        start.network, task.x[labelled], task.y[labelled], order=start.order, dropout=start.dropout,
        stopped=stopped, **vars(how),
    )  # fmt: skip


def _start(build: Build, labelled: Int[Tensor, " N"], streams: Streams) -> FitStart:
    """New weights and random streams for one fit, the iteration's own at every call."""
    network = build(streams.torch("weights", "cpu")).to(streams.device)
    return FitStart(network, labelled, streams.torch("minibatch order"), streams.torch("dropout"))


def evaluate(task: Task, network: Network, n_passes: int, streams: Streams) -> dict[str, float]:
    """Test scores of the mean of `n_passes` predictions with fresh masks."""
    features = mc_dropout.trunk_features(network, task.test_x)
    answers = mc_dropout.predictive_mean(network, features, n_passes, streams.torch("evaluation"))
    return task.scores(answers)


def _acquire(
    task: Task, network: Network, member: Member, labelled: Int[Tensor, " N"], streams: Streams
) -> tuple[tuple[int, ...], dict[str, float], tuple[tuple[float, ...], ...]]:
    """The ids to label next, what the record keeps of how they were chosen, and their answers."""
    schedule = member.schedule
    s = schedule
    named = by_name(s.noise, s.smoothing, s.labelled_in_sample, s.space)
    method = named[member.method]
    ids, is_candidate = sample_points(
        task.train_ids,
        labelled,
        method.n_candidates or schedule.n_candidates,
        method.sample,
        streams.numpy("candidates"),
    )
    features, predictions, embedded, seen = None, None, None, {}
    if method.masks or method.features:
        features = mc_dropout.trunk_features(network, task.x[ids])
    if method.masks == "shared":
        masks = mc_dropout.draw_masks(network, (schedule.n_masks,), streams.torch("masks"))
        predictions = mc_dropout.predict_shared(network, features, masks, method.space)
    elif method.masks == "fresh":
        predictions = mc_dropout.predict_fresh(
            network, features, schedule.n_masks, streams.torch("masks")
        )
    if method.features:
        embedded = mc_dropout.embeddings(network, features)
    if predictions is not None:
        seen["model/mean_variance"] = mc_dropout.mean_variance(predictions)
    beliefs = Beliefs(is_candidate.nonzero().squeeze(1), predictions, embedded)
    batch, report = method.acquire(beliefs, schedule.batch_size, streams.numpy(member.method))
    seen |= report
    features = mc_dropout.trunk_features(network, task.x[ids[batch]])
    answers = mc_dropout.predictive_mean(
        network, features, schedule.n_masks, streams.torch("diversity")
    )
    acquired = tuple(ids[batch].tolist())
    seen |= about_batch(task, acquired, answers)
    return acquired, seen, tuple(map(tuple, answers.tolist()))


def about_batch(
    task: Task, acquired: Sequence[int], answers: Float[Tensor, "b c"] | None
) -> dict[str, float]:
    """What the record says of a batch, by its ids and the mean predictions before it was labelled.

    Of classes how diverse it is and how hard its points are (Fig. 3 c to e), all of them and the
    fifth picked last: once the masks have no more to tell, picks are as good as random. Of values
    their mean. Without the predictions, which old runs did not keep, only what labels tell.
    """
    if task.n_classes == 1:
        return {"batch/mean_label": task.y[list(acquired)].double().mean().item()}
    if len(acquired) == 1:
        return {}
    last = acquired[-math.ceil(len(acquired) / 5) :]
    found = {
        "batch/hardness": task.hardness(acquired),
        "batch/hardness_of_last_fifth": task.hardness(last),
    }
    if answers is not None:
        found["batch/diversity"] = mc_dropout.batch_diversity(answers)
        found["batch/share_confident"] = mc_dropout.confident_share(answers)
    return found


def points_of_repeat(
    task: Task, schedule: Schedule, repeat: int
) -> tuple[tuple[int, ...], list[int] | None]:
    """The ids labelled at the start of a repeat, and those of its test set if it has its own."""
    streams = repeat_streams(schedule.seed, repeat)
    of_its_own = task_of_repeat(task, repeat, streams.numpy("test set"))
    test = held_out_of_repeat(task, repeat, streams.numpy("test set"))
    return initial_set(of_its_own, schedule, repeat), test


def initial_set(task: Task, schedule: Schedule, repeat: int) -> tuple[int, ...]:
    """Ids labelled at the start of a repeat, the same for every method."""
    stored = task.initial_sets if schedule.initial_sets == "authors" else ()
    if repeat <= len(stored) and len(stored[repeat - 1]) == schedule.n_initial:
        return stored[repeat - 1]
    rng = repeat_streams(schedule.seed, repeat).numpy("initial set")
    return task.draw_initial_set(schedule.n_initial, rng)
