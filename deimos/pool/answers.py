"""Turn what a model returned into predictions: numbers, or probabilities of classes.

One number a point is a value. Several are logits of classes, unless they are probabilities
already; anything else is for `outputs` to say, which is a function, or one of `OUTPUT_KINDS`.

Axes:  J dropout masks · n points in a batch · S points · c outputs (1 in regression)
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

OUTPUT_KINDS = ("values", "logits", "probabilities")
Outputs = Callable[[Any], Tensor] | str | None
WANTED = 'outputs="values", "logits" or "probabilities", or a function of the answer'


def check_outputs(outputs: Outputs) -> None:
    """ValueError unless it is a function or a word that is known."""
    if not (outputs is None or callable(outputs) or outputs in OUTPUT_KINDS):
        raise ValueError(f"got outputs={outputs!r}, wanted {WANTED}")


def real_numbers(answer: Any, outputs: Outputs, n: int) -> Float[Tensor, "n c"]:
    """The answer as rows of numbers, one a point; ValueError where it may mean several things."""
    y = outputs(answer) if callable(outputs) else main_part(answer)
    if isinstance(y, np.ndarray):
        y = torch.from_numpy(y)
    if not isinstance(y, Tensor):
        raise ValueError(f"outputs= gave {type(y).__name__}, wanted a tensor, one row a point")
    if n == 1 and not y.dim():
        y = y.reshape(1)  # as squeeze() makes of a batch of one
    if not y.dim() or len(y) != n:
        rows = f"{len(y)} rows" if y.dim() else "one number"
        raise ValueError(f"the model gives {rows} for {n} points, wanted one a point, in order")
    if not y.is_floating_point():
        raise ValueError(
            f"the model's answers are of type {y.dtype}, wanted real numbers: predictions, or "
            f"logits or probabilities of classes, no class numbers"
        )
    if y.dim() > 2 and y[0].numel() > 1 and outputs is None:
        raise ValueError(
            f"the model gives an array of shape {tuple(y.shape[1:])} for each point: say "
            f'outputs="values" if all of it counts as it is, or give outputs= a function'
        )
    if y.dim() > 2 and y[0].numel() > 1 and outputs in OUTPUT_KINDS[1:]:
        raise ValueError(
            f"the model gives {outputs} of shape {tuple(y.shape[1:])} for each point, wanted one "
            f"row of classes: give outputs= a function"
        )
    y = y.reshape(n, -1)
    return y.float() if y.element_size() < 4 else y


def check_problem(model: Any, outputs: Outputs) -> None:
    """ValueError if the model's own configuration says that its numbers are no logits."""
    config = getattr(model, "config", None)
    kind, n = (getattr(config, name, None) for name in ("problem_type", "num_labels"))
    if outputs is None and n != 1 and kind in ("regression", "multi_label_classification"):
        raise ValueError(
            f"{type(model).__name__}'s config.problem_type is {kind!r}, so that its numbers are no "
            f'logits of classes: say outputs="values", or give outputs= a function of the answer, '
            f"such as outputs=lambda answer: answer.logits.sigmoid()"
        )


def main_part(answer: Any) -> Any:
    """The tensor in an answer: itself, the logits, or the only one; else ValueError."""
    if isinstance(answer, Tensor | np.ndarray):
        return answer
    logits = answer.get("logits") if isinstance(answer, Mapping) else None
    logits = getattr(answer, "logits", None) if logits is None else logits
    if isinstance(logits, Tensor):
        return logits
    parts = answer.values() if isinstance(answer, Mapping) else answer
    if isinstance(answer, Mapping | list | tuple) and len(answer) == 1:
        return main_part(next(iter(parts)))
    kind = type(answer).__name__
    if isinstance(answer, Mapping):
        kind = f"{kind} of {', '.join(map(repr, answer))}"
    elif isinstance(answer, list | tuple):
        kind = f"{kind} of {len(answer)} parts"
    raise ValueError(
        f"the model returns a {kind}: give outputs= a function that takes the predictions out of "
        f"it, such as outputs=lambda answer: answer[0]"
    )


def finished(answers: Float[Tensor, "J S c"], outputs: Outputs) -> Float[Tensor, "J S c"]:
    """Logits turned to probabilities, in place; anything else as it is.

    ValueError for what is neither: all numbers within 0 and 1, and no rows that sum to 1.
    """
    if callable(outputs) or outputs == "values" or answers.shape[2] == 1:
        return answers
    within = [bool(x.min() >= 0 and x.max() <= 1) for x in answers]
    if outputs is None and any(within) and not all(within):
        sums = answers[within.index(True)].sum(-1)
        if (sums - 1).abs().max() <= 1e-4:
            raise ValueError(
                "some of the samples are probabilities of classes and others are not: have all of "
                "the models give logits, or all of them probabilities"
            )
    if outputs != "logits" and all(within):
        tolerance = max(1e-4, 4 * torch.finfo(torch.bfloat16).eps * (outputs == "probabilities"))
        sums = torch.stack([x.sum(-1) for x in answers])
        if (sums - 1).abs().max() <= max(tolerance, 2e-2 * _is_coarse(answers)):
            return answers
        if outputs is None:
            raise ValueError(
                f"all {answers.shape[2]} outputs lie within 0 and 1 and do not sum to 1, as "
                f'probabilities of labels that do not exclude each other do: say outputs="values" '
                f'to take them as they are, or outputs="logits"'
            )
    if outputs == "probabilities":
        raise ValueError(
            'outputs="probabilities", but the model\'s rows do not lie within 0 and 1 and sum to 1'
        )
    for one in answers:
        one.copy_(one.softmax(-1))
    return answers


def _is_coarse(answers: Float[Tensor, "J S c"]) -> bool:
    """True if numbers come from half precision, whose rows of probabilities sum to about 1."""
    some = answers[0, :64].float()
    return any(torch.equal(some.to(kind).float(), some) for kind in (torch.half, torch.bfloat16))
