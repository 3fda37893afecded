"""Where kernels are tested, and how they are compared with their definitions in float64.

The places are torch and Triton on the CPU, and Triton on a GPU. New memory begins as NaN.
"""

from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from alignflow import kernels
from alignflow.kernels import backend


class Place(NamedTuple):
    mode: str
    device: str


@pytest.fixture(
    params=[
        Place("reference", "cpu"),
        pytest.param(
            Place("triton", "cpu"),
            marks=pytest.mark.skipif(not backend.INTERPRETED, reason="needs TRITON_INTERPRET=1"),
        ),
        pytest.param(
            Place("triton", "cuda"),
            marks=[
                pytest.mark.gpu,
                pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
            ],
        ),
    ],
    ids=lambda place: f"{place.mode}-{place.device}",
)
def place(request, monkeypatch):
    """A kernel's mode, entered, and a device; no problem is too small for its own operator."""
    monkeypatch.setattr(backend, "ELEMENTS_AT_ONCE", {"cpu": 256, "cuda": 256})
    monkeypatch.setattr(backend, "ROWS_OF_A_PRODUCT", 1)
    with kernels.use(request.param.mode):
        yield request.param


@pytest.fixture(autouse=True)
def poisoned_memory():
    """New memory holds NaN: what a kernel does not write shows."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    assert torch.empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)


def wide(value):
    """Tensors of floats in float64 and on the CPU, within tuples too."""
    if isinstance(value, tuple | list):
        return tuple(map(wide, value))
    if not isinstance(value, Tensor):
        return value
    return value.detach().cpu().double() if value.is_floating_point() else value.cpu()


def assert_near(found, wanted, tolerance: float) -> None:
    """Equal where the definition is not finite, and elsewhere close in relative RMS."""
    for one, other in zip(found, wanted, strict=True):
        one, finite = one.detach().cpu().double(), other.isfinite()
        assert one.shape == other.shape
        assert torch.equal(one.isfinite(), finite)
        infinite = other.isinf()
        assert torch.equal(one[infinite], other[infinite])
        error, scale = (one - other)[finite].norm(), other[finite].norm()
        # what cancels to 0 is compared with numbers of order .1
        bound = tolerance * (scale + 0.1 * finite.sum().sqrt())
        assert error <= bound, f"relative RMS {error / scale:.1e}, allowed {tolerance:.1e}"


def _learning(arguments, learned):
    """The arguments, with those that are learned as leaves, and these alone."""
    arguments = list(arguments)
    for index in learned:
        arguments[index] = arguments[index].detach().requires_grad_()
    return arguments, [arguments[index] for index in learned]


def with_gradients(function, arguments, learned, upstream):
    """The result and its gradients."""
    arguments, leaves = _learning(arguments, learned)
    result = function(*arguments)
    upstream = torch.ones_like(result) if upstream is None else upstream.to(result)
    return result, *torch.autograd.grad(result, leaves, upstream)


def second_derivatives(function, arguments, learned, directions):
    """Of the squared result, along directions."""
    arguments, leaves = _learning(arguments, learned)
    value = function(*arguments).square().sum()
    gradients = torch.autograd.grad(value, leaves, create_graph=True)
    product = sum((g * v).sum() for g, v in zip(gradients, directions, strict=True))
    return torch.autograd.grad(product, leaves)


def tangents(function, arguments, learned, directions):
    """Tangents of the result, and the gradients of their squares."""
    arguments, leaves = _learning(arguments, learned)

    def of_leaves(*leaves):
        for index, leaf in zip(learned, leaves, strict=True):
            arguments[index] = leaf
        return function(*arguments)

    _, tangent = torch.func.jvp(of_leaves, tuple(leaves), tuple(directions))
    return tangent, *torch.autograd.grad(tangent.square().sum(), leaves)


def forward_over_reverse(function, arguments, learned, directions):
    """Tangents of `torch.func.grad`, where the tensor that a kernel sees is not dual."""
    arguments, leaves = _learning(arguments, learned)

    def of_leaves(*leaves):
        for index, leaf in zip(learned, leaves, strict=True):
            arguments[index] = leaf
        return function(*arguments).square().sum()

    gradient = torch.func.grad(of_leaves, tuple(range(len(learned))))
    leaves = tuple(leaf.detach() for leaf in leaves)
    return torch.func.jvp(gradient, leaves, tuple(directions))[1]


@pytest.fixture
def check():
    """Compare a kernel's result and gradients with its definition's; the former are returned."""

    def run(kernel, definition, arguments, learned, upstream=None, tolerance=5e-6):
        found = with_gradients(kernel, arguments, learned, upstream)
        wanted = with_gradients(definition, wide(arguments), learned, wide(upstream))
        assert_near(found, wanted, tolerance)
        return found

    return run


@pytest.fixture
def check_higher_derivatives(generator):
    """Compare second derivatives and tangents, which a kernel leaves to its definition."""

    def run(kernel, definition, arguments, learned, tolerance=1e-5):
        directions = [
            torch.randn(arguments[i].shape, generator=generator).to(arguments[i]) for i in learned
        ]
        for derivative in (second_derivatives, tangents, forward_over_reverse):
            found = derivative(kernel, arguments, learned, directions)
            wanted = derivative(definition, wide(arguments), learned, wide(directions))
            assert wanted[0].norm() > 0
            assert_near(found, wanted, tolerance)

    return run


@pytest.fixture(name="wide")
def _wide():
    return wide
