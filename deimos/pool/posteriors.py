"""J predictions of every point, and proof that they are what DEIMOS needs (§3.2).

Prediction j of all points must come from one and the same function: one thinned network, one model
of an ensemble, one draw of weights. Nothing is trusted for its type: a few points are asked again
at other places of other batches, the answers must be the same, and they must vary.

Axes:  J samples of the function · n points in a batch · S points · c outputs (1 in regression)
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from deimos.pool.answers import Outputs, finished, real_numbers
from deimos.pool.batch_points import (
    PoolPoints,
    as_batches,
    call,
    count_points,
    joined,
    mapped,
    take,
)
from deimos.pool.model_calls import bare, brought_to, check_has_weights, explain_model_errors
from deimos.pool.observing import agree, as_before
from deimos.progress import progress

Posterior = Callable[[PoolPoints], Float[Tensor, "J n c"]]
CHECKED = 3  # batches of each pool in which points are asked again
FEW_POINTS = 4  # points of each
APART = 0.05  # of the sd over samples: by how much an answer may depend on where a point lies


@torch.no_grad()
def predictions_of(
    posterior: Posterior,
    inputs: Iterable[PoolPoints],
    outputs: Outputs = None,
    total: int | None = None,
    name_of: Callable[[int], str] = "row {} of the pool".format,
) -> Float[Tensor, "J S c"]:
    """Predict all points by a posterior, checked, on the CPU.

    ValueError names the first point whose predictions are no numbers, or what is not as it must be.
    `total` is the number of points, where it is known: room is made for them once. `name_of` says
    what the i-th point is called in that sentence.
    """
    found, done, earlier = None, 0, None
    with progress(total=total, unit="point", name="predicting") as bar:
        for i, points in enumerate(as_batches(inputs)):
            n = count_points(points)
            if not n:
                continue
            block = posterior(points).cpu()
            check_block(block, lambda i, done=done: name_of(done + i))
            if i < CHECKED:
                earlier = check_places(posterior, points, block, earlier)
            if found is None:
                found = block.new_empty(len(block), total or 0, block.shape[2])
            if block.shape[::2] != found.shape[::2]:
                raise ValueError(
                    f"predictions of shape {list(block.shape)} follow such of {list(found.shape)}: "
                    f"every batch needs the same samples and outputs"
                )
            if done + n > found.shape[1]:  # no room: as much again
                more = block.new_empty(len(block), max(done, n), block.shape[2])
                found = torch.cat([found[:, :done], more], 1)
            found[:, done : done + n] = block
            done += n
            bar.update(n)
    if found is None:
        raise ValueError("the pool is empty")
    found = found[:, :done]
    check_variation(found)
    return finished(found, outputs)


def check_block(block: Float[Tensor, "J n c"], name_of: Callable[[int], str]) -> None:
    """ValueError names the first point whose predictions are no numbers."""
    wrong = ~block.isfinite().all(2).all(0)
    if wrong.any():
        raise ValueError(
            f"{name_of(int(wrong.int().argmax()))} gives predictions that are NaN or infinite: see "
            f"that its values, and the model's weights, are finite"
        )


def check_places(
    posterior: Posterior,
    points: PoolPoints,
    block: Float[Tensor, "J n c"],
    earlier: tuple[PoolPoints, Float[Tensor, "J m c"]] | None = None,
) -> tuple[PoolPoints, Float[Tensor, "J k c"]]:
    """The last and first points asked again, in turn, beside those of an earlier batch.

    ValueError if a sample then says something else of them. The answer is for the next batch.
    """
    n = count_points(points)
    rows = torch.tensor(sorted({n - 1, n // 2, n // 3, 0}, reverse=True)[:FEW_POINTS])
    few, before = mapped(torch.clone, take(points, rows)), block[:, rows]
    beside, known = (None, before) if earlier is None else (joined(few, earlier[0]), earlier[1])
    wanted = before if beside is None else torch.cat([before, known], 1)
    asked = few if beside is None else beside
    found = posterior(asked).cpu()
    if found.shape != wanted.shape:
        raise ValueError(
            f"predictions of {len(rows)} points have shape {list(found.shape)} where those of "
            f"{n} have {list(block.shape)}, wanted [J n c]: samples, points, outputs"
        )
    gap, sd = (found - wanted).double(), wanted.double().std(0)
    if not agree(found, wanted) and gap.square().mean() > APART**2 * sd.square().mean():
        again = posterior(asked).cpu()
        why = (
            "something is random beside the samples, which must be the same for every batch"
            if not agree(again, found)
            else "its predictions depend on the other points of a batch, or a sample is not one "
            "function for all points (are the points the first axis of the batch?)"
        )
        raise ValueError(
            f"a point's predictions in one sample differ by {gap.abs().max():.2g} when it is asked "
            f"again at another place of another batch, where the samples' sd is {sd.mean():.2g}: "
            f"{why}"
        )
    return few, before


def check_variation(predictions: Float[Tensor, "J S c"]) -> None:
    """ValueError unless the samples, if several, differ by more than rounding at some point."""
    if len(predictions) < 2:
        return
    largest = max((x - predictions[0]).abs().max().item() for x in predictions[1:])
    unit = torch.finfo(predictions.dtype).eps * predictions[0].abs().max().item()
    if largest <= 4 * unit:
        raise ValueError(
            "all samples of the model say the same of every point: nothing varies, and there is "
            "nothing to choose by; see that dropout acts on the way to the output, and that the "
            "weights after it are not 0"
        )


def of_ensemble(models: Sequence[nn.Module], outputs: Outputs) -> Posterior:
    """A prediction from each of several models, in evaluation."""
    models = [bare(model) for model in models]
    if len(models) < 2 or not all(isinstance(model, nn.Module) for model in models):
        kinds = ", ".join(sorted({type(model).__name__ for model in models})) or "nothing"
        raise ValueError(
            f"an ensemble is a sequence of two models or more, got {len(models)}: {kinds}"
        )
    for model in models:
        check_has_weights(model)

    def posterior(points: PoolPoints) -> Float[Tensor, "J n c"]:
        n, answers = count_points(points), []
        for model in models:
            x = brought_to(model, mapped(torch.clone, points))
            with as_before([model]), explain_model_errors(x, type(model).__name__):
                answers.append(real_numbers(call(model, x), outputs, n).cpu())
        if len({y.shape for y in answers}) > 1:
            raise ValueError("the models of the ensemble have different numbers of outputs")
        return torch.stack(answers)

    return posterior


def of_function(predict: Callable[[PoolPoints], Any]) -> Posterior:
    """A function of the user's own, from a batch to [J n c]."""

    def posterior(points: PoolPoints) -> Float[Tensor, "J n c"]:
        n, answer = count_points(points), predict(mapped(torch.clone, points))
        try:
            parts = answer if isinstance(answer, list | tuple) else [answer]
            y = torch.stack([torch.as_tensor(part) for part in parts])
        except (TypeError, ValueError, RuntimeError):
            raise ValueError(
                f"predict gave a {type(answer).__name__}, wanted real numbers [J n c]: samples, "
                f"points, outputs"
            ) from None
        y = y if isinstance(answer, list | tuple) else y[0]
        if y.dim() == 2 and y.shape[1] == n:
            y = y.unsqueeze(2)
        if y.dim() != 3 or y.shape[1] != n or not y.is_floating_point():
            raise ValueError(
                f"predict gave {str(y.dtype).removeprefix('torch.')} numbers of shape "
                f"{list(y.shape)} for {n} points, wanted real numbers [J n c]: samples, points, "
                f"outputs"
            )
        if len(y) < 2:
            raise ValueError("predict gave 1 sample of the predictions, wanted 2 or more")
        return y.float() if y.element_size() < 4 else y

    return posterior
