"""Predictions of any model with dropout, all points of a pool under the same J masks (§3.2).

The pool is read once, a batch at a time, and no more of it is held. What stands before the first
dropout, the trunk, runs once a point; behind it, every batch meets each mask in turn. The masks
are drawn when the first batch comes to a dropout function, and kept.

Axes:  J dropout masks · S points · c outputs (1 in regression)
"""

import warnings
from collections.abc import Iterable
from contextlib import nullcontext
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from deimos.acquisition.cores import one_thread
from deimos.models.networks import Network
from deimos.pool import watching
from deimos.pool.answers import Outputs, real_numbers
from deimos.pool.batch_points import PoolPoints, call, count_points, mapped, of_points
from deimos.pool.dropout_calls import Call, DropoutCalls, Site
from deimos.pool.model_calls import (
    bare,
    brought_to,
    check_has_weights,
    explain_model_errors,
    uncompiled,
)
from deimos.pool.observing import Observed, agree, as_before
from deimos.pool.posteriors import predictions_of
from deimos.pool.trunk_and_head import head_with_dropout, split_trunk_and_head
from deimos.pool.watching import Plan

SMALL = 2**20  # weights of a head whose passes are too short for several cores
Masks = dict[tuple[Site, int], Tensor]  # by line, and how often it was passed before in a pass


def predict(
    model: nn.Module,
    inputs: Iterable[PoolPoints],
    trunk: nn.Module | None = None,
    n_masks: int = 50,
    outputs: Outputs = None,
    seed: int = 0,
    total: int | None = None,
) -> Float[Tensor, "J S c"]:
    """Predictions of all points under J masks, on the CPU; the model is left as it was."""
    posterior = DropoutPosterior(model, trunk, n_masks, outputs, seed)
    return predictions_of(posterior, inputs, outputs, total)


class UnknownCall(Exception):
    """Another batch has come to a dropout function that those before did not."""


class SharedDropout(DropoutCalls):
    """For one pass, each call multiplies all n points by the same inverted mask.

    Masks that are not in `masks` yet are drawn and put there; where a batch is longer than those
    before it, they grow.
    """

    def __init__(self, plan: Plan, masks: Masks, generator: torch.Generator, n: int):
        super().__init__()
        self.plan, self.masks, self.generator, self.n = plan, masks, generator, n

    def keep(self, call: Call) -> Tensor | None:
        if call.site in self.plan.off:
            return None
        layout = self.plan.layout(call.site, call.use)
        if layout is None:
            raise UnknownCall
        shape, axis, k = list(call.shape), layout.axis, 1
        if axis is not None:
            k, rest = divmod(shape[axis], self.n)
            if rest:
                raise UnknownCall
            shape[axis] = k
        mask = self.mask(call, tuple(shape))
        if call.times is not None:
            return mask[call.times.to(mask.device)]
        if k > 1:
            size = (self.n, k) if layout.neighbours else (k, self.n)
            mask = mask.unsqueeze(axis if layout.neighbours else axis + 1)
            mask = mask.expand(*shape[:axis], *size, *shape[axis + 1 :]).flatten(axis, axis + 1)
        return mask

    def mask(self, call: Call, shape: tuple[int, ...]) -> Tensor:
        """A call's mask of that shape."""
        key = call.site, call.use
        mask = self.masks.get(key)
        if mask is None:
            mask = self.drawn(call, shape)
        elif len(mask.shape) != len(shape):
            raise UnknownCall
        elif any(more > there for more, there in zip(shape, mask.shape, strict=True)):
            longer = self.drawn(call, tuple(map(max, zip(shape, mask.shape, strict=True))))
            longer[tuple(map(slice, mask.shape))] = mask
            mask = longer
        self.masks[key] = mask
        return mask[tuple(map(slice, shape))]

    def drawn(self, call: Call, shape: tuple[int, ...]) -> Tensor:
        """A new mask: each unit 0 with probability p, else 1/(1−p), in alpha dropout 1."""
        keep = torch.empty(shape, device=self.generator.device)
        keep.bernoulli_(1 - call.p, generator=self.generator)
        return keep if call.alpha or call.p == 1 else keep / (1 - call.p)


class DropoutPosterior:
    """The model under J masks: predictions [J n c] of a batch.

    `trunk` makes of a point what `model` takes, and runs once; that of an `nn.Sequential` is found.
    """

    def __init__(
        self, model: nn.Module, trunk: nn.Module | None, n_masks: int, outputs: Outputs, seed: int
    ):
        self.model, self.trunk, self.outputs = bare(model), bare(trunk), outputs
        self.name = type(self.model).__name__
        check_has_weights(self.model)
        device = next(iter(self.model.parameters()), torch.zeros(0)).device
        self.generators = [
            torch.Generator(device).manual_seed(seed * n_masks + j) for j in range(n_masks)
        ]
        self.kept: list[Masks] = [{} for _ in range(n_masks)]
        self.plan: Plan | None = None
        self.in_place = False

    @torch.no_grad()
    def __call__(self, points: PoolPoints) -> Float[Tensor, "J n c"]:
        first = self.trunk if isinstance(self.trunk, nn.Module) else self.model
        points = brought_to(first, mapped(torch.clone, points))
        with explain_model_errors(points), uncompiled():
            if self.plan is None:
                self.learn(points)
            try:
                return self.passes(points)
            except UnknownCall:
                self.learn(points)
            try:
                return self.passes(points)
            except UnknownCall as error:
                raise ValueError(
                    f"{self.name} drops something else in one batch than in another, so that no "
                    f"mask can be shared: give `predict=` a function of your own"
                ) from error

    def learn(self, points: PoolPoints) -> None:
        """See what drops and how, at the first batch or at one that is unlike those before."""
        first = self.plan is None
        if first and isinstance(self.model, Network):
            self.trunk, self.head = self.model.features, head_with_dropout(self.model)
        elif first:
            self.head = self.model
        self.modules = [m for m in (self.model, self.trunk, self.head) if isinstance(m, nn.Module)]
        plan = watching.learn(self.whole, self.modules, points, self.name)
        if first:  # a later batch may take a way on which nothing drops
            check_dropout(plan, self.modules, self.name, self.trunk)
        if plan.left_out:
            warnings.warn(
                f"{', '.join(plan.left_out)} of {self.name}: random in training, but no dropout "
                f"that masks can be given for; it is left out of the variance",
                stacklevel=2,
            )
        if plan.unseen:
            warnings.warn(
                f"in training {', '.join(plan.unseen)} of {self.name} does not take the pool's "
                f"points alone: dropout that it has in training alone is left out of the variance",
                stacklevel=2,
            )
        if not first:
            plan.layouts |= self.plan.layouts
            plan.training |= self.plan.training
            plan.off &= self.plan.off
        elif self.trunk is None:
            with as_before(self.modules, plan.training), Observed():
                parts = split_trunk_and_head(self.model, plan, points)
            self.trunk, self.head = parts
        self.plan = plan

    def whole(self, points: PoolPoints) -> Any:
        """One pass through everything."""
        points = mapped(torch.clone, points)
        return call(self.head, points if self.trunk is None else call(self.trunk, points))

    def passes(self, points: PoolPoints) -> Float[Tensor, "J n c"]:
        """The trunk once, and the head under each mask; both from numbers that are nobody's."""
        n, answers = count_points(points), []
        modules = [m for m in (*self.modules, self.trunk, self.head) if isinstance(m, nn.Module)]
        small = sum(w.numel() for w in self.head.parameters()) < SMALL
        with as_before(modules, self.plan.training):
            features = points
            if self.trunk is not None:
                features = call(self.trunk, mapped(torch.clone, points))
            x = mapped(torch.clone, features)
            with one_thread() if small else nullcontext():
                for masks, generator in zip(self.kept, self.generators, strict=True):
                    before = versions(x)
                    with SharedDropout(self.plan, masks, generator, n):
                        answer = call(self.head, x)
                    answers.append(real_numbers(answer, self.outputs, n).clone())
                    self.in_place = self.in_place or changed(x, before, features)
                    if self.in_place:
                        x = mapped(torch.clone, features)
        return torch.stack(answers)


def versions(points: PoolPoints) -> list[int]:
    """Count torch's writes into each tensor; −1 where it does not count."""
    return [-1 if x.is_inference() else x._version for x in of_points(points)]


def changed(points: PoolPoints, before: list[int], kept: PoolPoints) -> bool:
    """True if a pass has worked in place on its input."""
    if versions(points) != before or -1 in before:
        return True
    return len(before) == 1 and not agree(of_points(points)[0][:8], of_points(kept)[0][:8])


def check_dropout(plan: Plan, modules: list[nn.Module], name: str, trunk: Any) -> None:
    """ValueError unless something drops, and nothing before the head."""
    if not plan.layouts:
        besides = f"; random in its training is {', '.join(plan.left_out)}" if plan.left_out else ""
        besides += f"; in training it fails in {', '.join(plan.unseen)}" if plan.unseen else ""
        raise ValueError(
            f"{name} has no dropout layer or function that is switched on{besides}: add nn.Dropout "
            f"before its dense layers and train with it, else it has no covariance to shrink; or "
            f"give a list of models, or predict="
        )
    if isinstance(trunk, nn.Module) and plan.modules() & set(trunk.modules()):
        raise ValueError("the trunk has a dropout layer: cut it before the first of them")
