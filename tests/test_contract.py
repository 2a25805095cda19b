"""The names that other people's code and checks rely on can be imported, and are what they say."""

import inspect
from importlib import import_module

import pytest
import torch

from deimos.acquisition.beliefs import Beliefs

# The promised names, by the module that they are promised of.
CONTRACT = {
    "deimos": ("select_batch", "prepare"),
    "deimos.expected_improvement": (
        "covariance",
        "expected_improvement",
        "greedy_batch",
        "optimal_batch",
        "select",
    ),
    "deimos.baselines": ("random", "max_variance", "max_entropy", "bald", "batchbald"),
    "deimos.k_center": ("robust_k_center",),
    "deimos.stats": ("likelihood_ratio", "acquisitions_to_reach", "run_level_test"),
    "deimos.tracking": ("table", "read_references"),
    "deimos.models.training": ("fit",),
    "deimos.models.networks": (
        "synthetic_1d",
        "splicing",
        "face_age",
        "mnist_7_vs_9",
        "mnist_0_to_9",
    ),
    "deimos.label_next.files": ("read_pool", "read_labelled", "images"),
    "deimos.label_next.tables": ("Columns",),
    "deimos.pool.for_baal": ("SharedMasks",),
    "deimos.tasks.npz": ("from_npz",),
    "deimos.report.paper": ("CLAIMS",),
    "deimos.report.verdicts": ("verdicts",),
}
ADAPTERS = {"deimos.pool.for_baal": "baal"}  # what must be installed for them
ACQUIRE = [
    *(("deimos.baselines", name) for name in CONTRACT["deimos.baselines"]),
    ("deimos.k_center", "robust_k_center"),
]


def promised(module: str, name: str) -> object:
    return getattr(import_module(module), name)


@pytest.mark.parametrize("module", CONTRACT)
def test_a_module_has_the_names_that_are_promised_of_it(module):
    if module in ADAPTERS:
        pytest.importorskip(ADAPTERS[module])
    assert [name for name in CONTRACT[module] if promised(module, name) is None] == []


@pytest.mark.parametrize(("module", "name"), ACQUIRE)
def test_every_acquisition_function_is_called_alike(module, name, rng):
    acquire = promised(module, name)
    assert list(inspect.signature(acquire).parameters)[:3] == ["beliefs", "batch_size", "rng"]
    P = torch.rand(5, 12, 3, dtype=torch.float64).softmax(-1)
    beliefs = Beliefs(torch.arange(2, 12), P, torch.rand(12, 4))
    positions = acquire(beliefs, 3, rng).tolist()
    assert len(set(positions)) == 3 and set(positions) <= set(range(2, 12))
