"""Adding and pooling taps is what torch's convolution and pooling do, by our kernels too.

Here Triton interprets the kernels, in a process of its own: it must be told before it is imported.
"""

import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from deimos.models import tap_pooling
from deimos.models.tap_pooling import UNITS, pooled_taps, pooled_taps_plain

NEEDS_TRITON = pytest.mark.skipif(tap_pooling.triton is None, reason="no Triton")

CASES = {  # [B H W a e c], window
    "one window": ((1, 3, 3, 2, 2, 1), (2, 2)),
    "2 × 2 taps": ((2, 10, 10, 2, 2, 5), (3, 3)),
    "one row": ((3, 1, 30, 1, 4, 7), (1, 3)),
    "rows and columns left over": ((2, 9, 10, 1, 2, 4), (2, 4)),
    "no pooling": ((2, 6, 7, 2, 3, 3), (1, 1)),
    "one tap, no pooling": ((2, 4, 5, 1, 1, 3), (1, 1)),
    "many programs": ((3, 22, 16, 3, 2, 9), (2, 1)),
}


def taps(shape: tuple, dtype: torch.dtype = torch.float32) -> Tensor:
    """Small whole numbers, whose sums are exact in any order, and of which many tie."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(-3, 4, shape, generator=generator).to(dtype)


def with_nan(shape: tuple) -> Tensor:
    """Windows in which NaN comes first, in the middle, last, and twice."""
    Z = taps(shape)
    Z.view(-1)[:: 4 * shape[-1] + 1] = torch.nan
    return Z


INPUTS = {name: (taps(shape), window) for name, (shape, window) in CASES.items()}
INPUTS |= {
    "NaN": (with_nan((2, 10, 10, 2, 2, 5)), (3, 3)),
    "nothing but ties": (torch.zeros(2, 7, 7, 2, 2, 3), (3, 3)),
    "nothing above −∞": (torch.full((1, 4, 4, 1, 1, 2), -torch.inf), (2, 2)),
    "bfloat16": (taps((2, 10, 10, 2, 2, 5), torch.bfloat16), (3, 3)),
}


def share(pooled: Tensor) -> Tensor:
    """A gradient that tells all units from each other, as far as the dtype can."""
    return torch.arange(1, pooled.numel() + 1).to(pooled).view(pooled.shape)


def pooled_and_gradient(pool, Z: Tensor, window: tuple) -> tuple[Tensor, Tensor]:
    Z = Z.clone().requires_grad_()
    pooled = pool(Z, window)
    (gradient,) = torch.autograd.grad(pooled, Z, share(pooled))
    return pooled.detach(), gradient


def assert_equal(ours: tuple[Tensor, Tensor], theirs: tuple[Tensor, Tensor]) -> None:
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == b.dtype
        torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)


KERNELS = """
import sys
import torch
from test_tap_pooling import INPUTS, pooled_and_gradient
from deimos.models.tap_pooling import _PooledTaps

def by_kernels(Z, window):
    return _PooledTaps.apply(Z, *window)

found = {name: pooled_and_gradient(by_kernels, *about) for name, about in INPUTS.items()}
torch.save(found, sys.argv[1])
"""


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory) -> dict[str, tuple[Tensor, Tensor]]:
    """Of every input what the kernels make of it in Triton's interpreter."""
    file = tmp_path_factory.mktemp("kernels") / "found.pt"
    path = os.pathsep.join([os.path.dirname(__file__), *filter(None, sys.path)])
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": path}
    subprocess.run([sys.executable, "-c", KERNELS, file], env=environment, check=True, timeout=300)
    return torch.load(file)


@NEEDS_TRITON
@pytest.mark.parametrize("name", INPUTS)
def test_kernels_give_values_and_gradients_of_the_plain_twin(name, interpreted):
    assert_equal(interpreted[name], pooled_and_gradient(pooled_taps_plain, *INPUTS[name]))


def test_the_inputs_are_what_they_are_for():
    assert pooled_taps_plain(*INPUTS["many programs"]).numel() > 2 * UNITS
    pooled, gradient = pooled_and_gradient(pooled_taps_plain, *INPUTS["NaN"])
    assert 0 < pooled.isnan().sum() < pooled.numel() and gradient.any()
    _, gradient = pooled_and_gradient(pooled_taps_plain, *INPUTS["nothing but ties"])
    assert torch.equal(gradient.nonzero()[:, 1:5].unique(dim=0).amax(0), torch.tensor([4, 4, 1, 1]))


@pytest.mark.cuda
@pytest.mark.parametrize("name", INPUTS)
def test_on_a_gpu_values_and_gradients_are_those_of_the_plain_twin(name):
    Z, window = INPUTS[name]
    ours = pooled_and_gradient(pooled_taps, Z.cuda(), window)
    assert_equal([one.cpu() for one in ours], pooled_and_gradient(pooled_taps_plain, Z, window))


@pytest.mark.cuda
def test_what_the_kernels_cannot_count_or_add_is_left_to_the_plain_twin():
    generator = torch.Generator().manual_seed(2)
    wide = torch.randn(2, 17, 17, 1, 1, 3, generator=generator)
    fine = torch.randn(2, 5, 5, 2, 2, 3, generator=generator, dtype=torch.float64)
    for Z, window in ((wide, (17, 17)), (fine, (2, 2))):
        ours = pooled_and_gradient(pooled_taps, Z.cuda(), window)
        assert_equal([one.cpu() for one in ours], pooled_and_gradient(pooled_taps_plain, Z, window))


@pytest.mark.parametrize("window", [(1, 1), (2, 2), (2, 3)])
def test_pooled_taps_of_a_product_are_a_pooled_convolution(window):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 3, 7, 8, dtype=torch.float64, generator=generator)
    w = torch.randn(4, 3, 2, 3, dtype=torch.float64, generator=generator)
    Z = torch.einsum("bihw,oiae->bhwaeo", x, w)
    found = pooled_taps(Z, window).permute(0, 3, 1, 2)
    torch.testing.assert_close(found, F.max_pool2d(F.conv2d(x, w), window), rtol=1e-12, atol=1e-12)


def test_two_taps_by_hand():
    # From the left and from the right: 1 2 3 4 5 and 10 20 -90 40 0. The last sum fills no window.
    Z = torch.tensor([[1, 10], [2, 20], [3, -90], [4, 40], [5, 0]]).view(1, 1, 5, 1, 2, 1).double()
    Z.requires_grad_()
    assert pooled_taps(Z, (1, 1)).flatten().tolist() == [21, -88, 43, 4]
    pooled = pooled_taps(Z, (1, 3))
    assert pooled.flatten().tolist() == [43]
    (gradient,) = torch.autograd.grad(pooled.sum(), Z)
    assert gradient.view(5, 2).tolist() == [[0, 0], [0, 0], [1, 0], [0, 1], [0, 0]]


def test_of_equal_sums_the_first_is_the_maximum_and_of_numbers_nan():
    Z = torch.tensor([5.0, 5.0, 1.0, torch.nan]).view(1, 1, 4, 1, 1, 1).requires_grad_()
    pooled = pooled_taps(Z, (1, 2))
    assert pooled[0, 0, 0, 0] == 5 and pooled[0, 0, 1, 0].isnan()
    (gradient,) = torch.autograd.grad(pooled, Z, torch.ones_like(pooled))
    assert gradient.flatten().tolist() == [1, 0, 0, 1]
