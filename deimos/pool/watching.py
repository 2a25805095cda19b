"""Watch a model at work: where it drops, along which axis, and what else is random.

A few points go through it, with nothing dropped. Seen in evaluation and, normalisation apart, in
training: what is dropped in training alone, as in `if self.training`, is found that way, and the
modules that do so are put in training for the passes, if nothing else changes with it.
"""

from dataclasses import dataclass, field

import torch
from torch import nn

from deimos.pool.batch_points import PoolPoints, take
from deimos.pool.dropout_calls import Call, Site
from deimos.pool.observing import (
    Run,
    changing,
    culprit,
    failing,
    in_few_words,
    named,
    numpy_state,
    observe,
    same,
)

TWICE_MORE = 2  # passes in training that are compared with the first


@dataclass(frozen=True)
class Layout:
    """Layout of the points in the input of a dropout function.

    `axis` None: nowhere, it is the same for all of them. Where a point has several places on the
    axis, they are neighbours or lie apart, one in each round of the points.
    """

    axis: int | None = None
    neighbours: bool = True


@dataclass
class Plan:
    """Plan of a model's dropout: the calls that drop, their masks, the modules in training."""

    layouts: dict[tuple[Site, int], Layout] = field(default_factory=dict)
    off: set[Site] = field(default_factory=set)  # what no training switches on
    training: set[nn.Module] = field(default_factory=set)
    left_out: list[str] = field(default_factory=list)  # random in training, and no mask's
    unseen: list[str] = field(default_factory=list)  # what fails in training, and the error

    def layout(self, site: Site, use: int) -> Layout | None:
        """Of a line that is passed more often than when it was learned, that of its first time."""
        return self.layouts.get((site, use)) or self.layouts.get((site, 0))

    def modules(self) -> set[nn.Module | None]:
        """Those that drop something."""
        return {site[0] for site, _ in self.layouts}


def learn(run: Run, modules: list[nn.Module], points: PoolPoints, name: str) -> Plan:
    """Learn a model's dropout; ValueError if it is random by itself, or mixes points in a mask."""
    few = take(points, torch.arange(3))
    in_use, calls, drawn = observe(run, modules, set(), few)
    again, _, _ = observe(run, modules, set(), few)
    if not same(in_use, again):
        raise ValueError(
            f"{name} answers differently when it is asked twice, with all of torch's dropout held: "
            f"{culprit(run, modules, few, drawn)} is random or keeps a state from call to call; "
            f"make it fixed in evaluation, or give `predict=` a function of your own"
        )
    plan = Plan()
    seen, in_training = in_training_too(run, modules, few, plan)
    more = {call.site for call in seen if call.on} - {call.site for call in calls}
    plan.training = {site[0] for site in more} & in_training
    if plan.training:
        answer, calls_then, _ = observe(run, modules, plan.training, few)
        if same(answer, in_use):
            calls = calls_then
        else:
            plan.left_out += [f"the dropout of {named(m, modules)}" for m in plan.training]
            plan.training = set()
    ever = {call.site for call in seen if call.on}
    plan.off = {call.site for call in seen if call.site[0] in in_training} - ever
    if any(call.site not in plan.off for call in calls):
        find_layouts(run, modules, points, plan)
    return plan


def in_training_too(
    run: Run, modules: list[nn.Module], few: PoolPoints, plan: Plan
) -> tuple[list[Call], set[nn.Module]]:
    """The calls in training, and the modules that were in it.

    A module that is random there beside dropout, or fails, as where it wants targets, is named in
    the plan and goes back to evaluation; the modules in it stay.
    """
    every = {part for module in modules for part in module.modules()}
    in_training = {part for part in every if not hasattr(part, "running_mean")}
    while True:
        before = numpy_state()
        try:
            answer, calls, drawn = observe(run, modules, in_training, few)
            others = [observe(run, modules, in_training, few)[0] for _ in range(TWICE_MORE)]
        except Exception as error:
            failed = failing(error, in_training)
            if failed is None:
                plan.unseen.append(f"the model ({in_few_words(error)})")
                return [], set()
            plan.unseen.append(f"{named(failed, modules)} ({in_few_words(error)})")
            in_training -= with_parts(failed)
            continue
        sources = {part: name for part, name in drawn if part in in_training}
        if not sources and not all(same(answer, other) for other in others):
            part = changing(run, modules, in_training, few)
            sources = {part: "not by torch"} if part in in_training else {}
            if not sources:
                plan.left_out.append("something that is random in training")
                return [], set()
        elif not sources and numpy_state() != before:
            plan.left_out.append("random numbers of numpy's")
        plan.left_out += [f"{named(part, modules)} ({sources[part]})" for part in sources]
        in_training -= {inner for part in sources for inner in with_parts(part)}
        if not sources:
            return calls, in_training


def with_parts(part: nn.Module) -> set[nn.Module]:
    """A module, with those in it where they run as compiled, and none is seen by itself."""
    return set(part.modules()) if isinstance(part, torch.jit.ScriptModule) else {part}


def find_layouts(run: Run, modules: list[nn.Module], points: PoolPoints, plan: Plan) -> None:
    """Find the axis of the points in each call: the one that grows with them."""
    chosen = ([0, 0], [0, 0, 0], [0, 1], [1, 0])
    passes = [
        [call for call in calls if call.site not in plan.off]
        for rows in chosen
        for calls in [observe(run, modules, plan.training, take(points, torch.tensor(rows)))[1]]
    ]
    if len({tuple((c.site, c.use) for c in calls) for calls in passes}) > 1:
        raise ValueError(
            "the model drops something else for two points than for three, so that no mask can be "
            "shared: give `predict=` a function of your own"
        )
    for calls in zip(*passes, strict=True):
        found = layout_of(*calls)
        if found is None:
            raise ValueError(
                f"dropout in {named(calls[0].site[0], modules)} works on all points of a batch at "
                f"once (shape {tuple(calls[0].x.shape)} for two points), so that no mask can be "
                f"shared along an axis: give `predict=` a function of your own"
            )
        plan.layouts[calls[0].site, calls[0].use] = found


def layout_of(two: Call, three: Call, pair: Call, turned: Call) -> Layout | None:
    """From what a call is given for two points, three, two different ones, and these in turn."""
    if two.times is not None:
        return Layout()
    grows = [i for i, (s, t) in enumerate(zip(two.shape, three.shape, strict=True)) if s != t]
    if not grows:
        return Layout()
    axis, *others = grows
    if others or two.shape[axis] % 2 or two.shape[axis] * 3 != three.shape[axis] * 2:
        return None
    k = two.shape[axis] // 2
    if k == 1:
        return Layout(axis)
    if pair.x.shape != turned.x.shape:
        return None
    x, y = pair.x, turned.x
    if same(x.unflatten(axis, (2, k)).flip(axis), y.unflatten(axis, (2, k))):
        return Layout(axis)
    if same(x.unflatten(axis, (k, 2)).flip(axis + 1), y.unflatten(axis, (k, 2))):
        return Layout(axis, neighbours=False)
    return None
