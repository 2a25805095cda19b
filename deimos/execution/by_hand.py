"""A notebook run by hand: the scale that its machine can do, but for what its reader edited.

The parameters cell holds the paper's values, which take a GPU. Run by hand, as in JupyterLab, the
setup cell puts the values of a scale in their place. What the reader edited stays: it is told by
`notebooks/scales/paper.yaml`, since the notebook's own file may have been saved with the edit. An
execution by make or papermill (`notebooks`) has its values already, and nothing changes here.
"""

import os
from collections.abc import Mapping
from typing import Any

import torch

from deimos import tracking
from deimos.execution.parameters import values_at
from deimos.experiment.settings_check import unknown

AUTO = "auto"


def apply_scale(notebook: str, names: dict[str, Any], scale: str = AUTO) -> str:
    """Give the notebook's variables `names` the values of a scale; return what was done, in words.

    "auto" is "paper" where there is a CUDA GPU, else "quick"; an edited parameter `scale` wins over
    it. Raises `ValueError` for a scale that is none, or that contradicts that parameter.
    """
    if _is_headless():
        return f"{names['scale']} scale"
    own = values_at(notebook, "paper")
    if missing := own.keys() - names.keys():
        raise ValueError(f"no {', '.join(sorted(missing))}: run the Parameters cell first")
    chosen, because = _chosen(scale, names["scale"])
    values = {**values_at(notebook, chosen), "scale": chosen}
    changed = {name: value for name, value in values.items() if names[name] == own[name] != value}
    edited = {
        name: names[name]
        for name, value in own.items()
        if names[name] not in (value, values.get(name, value))
    }
    names |= changed
    told = [f"{chosen} scale, {because}"]
    values.pop("scale")
    if smaller := {k: v for k, v in values.items() if k not in edited and v != own[k]}:
        told.append(f"in the place of the paper's values: {_in_words(smaller)}")
    if edited:
        told.append(f"as you edited it: {_in_words(edited)}")
    return "\n".join(told)


def recorded_scale(asked: str, scale: str = AUTO) -> str:
    """The scale at which a notebook of the record alone shows it, if that is run by hand.

    "auto" is the scale of the reader's latest runs; where there are none, the kept runs', which are
    then read into the record. An edited parameter (`asked`) wins over it.
    """
    if _is_headless():
        return asked
    chosen = scale
    if scale == AUTO:
        own = tracking.own_scales()
        chosen = asked if asked != "paper" else own[0] if own else tracking.REFERENCE
    if chosen not in (*tracking.SCALES, tracking.REFERENCE):
        raise ValueError(unknown("scale", chosen, [AUTO, *tracking.SCALES, tracking.REFERENCE]))
    if chosen == tracking.REFERENCE:
        tracking.read_references()
    return chosen


def _is_headless() -> bool:
    return "DEIMOS_EXECUTION" in os.environ


def _chosen(word: str, parameter: str) -> tuple[str, str]:
    """The scale, and why, by the word in the setup cell and the parameter `scale`."""
    for scale in (word, parameter):
        if scale not in (AUTO, *tracking.SCALES):
            raise ValueError(unknown("scale", scale, [AUTO, *tracking.SCALES]))
    if word == AUTO and parameter == "paper":
        if torch.cuda.is_available():
            return "paper", "since this machine has a CUDA GPU"
        return "quick", "since this machine has no CUDA GPU"
    if "paper" != parameter != word != AUTO:
        raise ValueError(
            f"the scale is {parameter!r} by the Parameters cell and {word!r} here: make them agree,"
            " or run the Parameters cell again"
        )
    return (parameter if word == AUTO else word), "as asked"


def _in_words(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} = {value!r}" for name, value in values.items())
