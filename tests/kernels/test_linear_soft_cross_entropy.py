"""The loss from hidden states: the definition's value and gradients, in pieces of rows."""

import pytest
import torch

from alignflow import kernels
from alignflow.kernels import linear_soft_cross_entropy
from alignflow.kernels.linear_soft_cross_entropy import (
    _operator,
    linear_soft_cross_entropy_reference,
)

TOLERANCE = {torch.float32: 5e-6, torch.bfloat16: 2e-2, torch.float16: 3e-3}
LEARNED = [(0,), (1,), (0, 1)]


def states(N, V, width, generator, dtype=torch.float32, device="cpu"):
    """Hidden states, head, a teacher by logits, one by hidden states, labels and coefficients."""

    def normal(*shape):
        return torch.randn(shape, generator=generator).to(device=device, dtype=dtype)

    hidden, head, logits = normal(N, width), normal(V, width), normal(N, V)
    teacher = (normal(N, 3), normal(V, 3))
    labels = torch.randint(V, (N,), generator=generator).to(device)
    weights = torch.randn(N, 3, generator=generator).to(device)
    weights[::3] = torch.tensor([0.0, 0.0, 1.0])
    return hidden, head, logits, teacher, labels, weights


@pytest.mark.parametrize("learned", LEARNED, ids=str)
@pytest.mark.parametrize(("N", "V", "width"), [(1, 1, 1), (7, 63, 5), (9, 500, 8)], ids=str)
def test_loss_and_gradients_are_the_definitions(N, V, width, learned, place, generator, check):
    arguments = states(N, V, width, generator, device=place.device)
    upstream = torch.randn(N, generator=generator).to(place.device)
    check(
        linear_soft_cross_entropy,
        linear_soft_cross_entropy_reference,
        arguments,
        learned,
        upstream,
        TOLERANCE[torch.float32],
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("learned", LEARNED, ids=str)
def test_in_16_bits(dtype, learned, place, generator, check):
    """Logits are rounded to the dtype, as a matrix product of it gives them."""
    arguments = states(9, 63, 5, generator, dtype, place.device)
    check(
        linear_soft_cross_entropy,
        linear_soft_cross_entropy_reference,
        arguments,
        learned,
        tolerance=TOLERANCE[dtype],
    )


def test_without_teachers_it_is_the_usual_loss(place, generator):
    hidden, head, _, _, labels, weights = states(9, 63, 5, generator, device=place.device)
    weights[:] = torch.tensor([0.0, 0.0, 1.0])
    found = linear_soft_cross_entropy(hidden, head, None, None, labels, weights)
    wanted = torch.nn.functional.cross_entropy(hidden @ head.T, labels, reduction="none")
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("learned", LEARNED, ids=str)
def test_higher_derivatives_are_the_definitions(
    learned, place, generator, check_higher_derivatives
):
    check_higher_derivatives(
        linear_soft_cross_entropy,
        linear_soft_cross_entropy_reference,
        states(7, 63, 5, generator, device=place.device),
        learned,
        2e-5,
    )


def test_a_head_that_learns_gives_a_teacher_no_gradient_only_if_it_is_detached(generator, check):
    hidden, head, logits, (states_b, _), labels, weights = states(7, 63, 3, generator)

    def loss(hidden, head, function, cut):
        teacher = (states_b.to(head), head.detach() if cut else head)
        return function(hidden, head, logits.to(head), teacher, labels, weights.to(head))

    for cut in (True, False):
        check(
            lambda *args, cut=cut: loss(*args, linear_soft_cross_entropy, cut),
            lambda *args, cut=cut: loss(*args, linear_soft_cross_entropy_reference, cut),
            (hidden, head),
            (0, 1),
            None,
            TOLERANCE[torch.float32],
        )


def test_autocast_computes_logits_in_16_bits(place, generator):
    arguments = states(9, 63, 5, generator, device=place.device)
    leaves = [arguments[0].requires_grad_(), arguments[1].requires_grad_()]
    with torch.autocast(place.device, dtype=torch.bfloat16):
        loss = linear_soft_cross_entropy(*arguments)
    gradients = torch.autograd.grad(loss.sum(), leaves)
    wanted = torch.autograd.grad(linear_soft_cross_entropy_reference(*arguments).sum(), leaves)
    assert loss.dtype == torch.float32
    for one, other in zip(gradients, wanted, strict=True):
        assert one.dtype == torch.float32
        assert (one - other).norm() < 2e-2 * other.norm()


def test_memory_is_that_of_some_rows(place, generator, monkeypatch):
    """No buffer of N x V is made: the largest is that of the rows at a time."""
    N, V = 40, 63
    arguments = states(N, V, 5, generator, device=place.device)
    hidden, head = arguments[0].requires_grad_(), arguments[1].requires_grad_()
    arguments = (hidden, head, None, *arguments[3:])
    largest = 0

    class Largest(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            result = func(*args, **(kwargs or {}))
            for tensor in result if isinstance(result, tuple | list) else [result]:
                if isinstance(tensor, torch.Tensor):
                    largest = max(largest, tensor.numel())
            return result

    with Largest():
        torch.autograd.grad(linear_soft_cross_entropy(*arguments).sum(), [hidden, head])
    # 4 rows of 63 fit into 256 elements, and the head itself has 315
    assert largest == max(4 * V, head.numel())


def test_the_operator_is_a_good_one(place, generator):
    hidden, head, a, (b, head_b), labels, weights = states(7, 63, 5, generator, device=place.device)
    arguments = (hidden.requires_grad_(), head, a, None, b, head_b, labels, weights)
    tests = ("test_schema", "test_autograd_registration", "test_faketensor")
    triton = place.mode == "triton"
    torch.library.opcheck(_operator, (*arguments, True, triton), test_utils=tests)


def test_it_is_compiled_and_exported_whole(place, generator, check):
    hidden, head, *rest = states(7, 300, 5, generator, device=place.device)

    class Loss(torch.nn.Module):
        def forward(self, hidden, head):
            return linear_soft_cross_entropy(hidden, head, *rest).sum()

    compiled = torch.compile(Loss(), backend="aot_eager", fullgraph=True)
    check(compiled, Loss(), (hidden, head), (0, 1), None, 1e-4)
    exported = torch.export.export(Loss(), (hidden, head)).module()
    torch.testing.assert_close(exported(hidden, head), Loss()(hidden, head))


def test_it_refuses_what_does_not_fit(generator):
    hidden, head, a, b, labels, weights = states(7, 63, 5, generator)
    with pytest.raises(ValueError, match=r"hidden must be \(N, d\) and head \(V, d\)"):
        linear_soft_cross_entropy(hidden, head[:, 1:], a, b, labels, weights)
    with pytest.raises(ValueError, match=r"teacher_a must be \(7, 63\)"):
        linear_soft_cross_entropy(hidden, head, a[:, 1:], b, labels, weights)
    with pytest.raises(ValueError, match=r"teacher_b must be \(7, e\) and \(63, e\)"):
        linear_soft_cross_entropy(hidden, head, a, (b[0], b[1][1:]), labels, weights)
    with pytest.raises(ValueError, match="labels must be from 0 to 62"):
        linear_soft_cross_entropy(hidden, head, a, b, labels + 63, weights + 1)


def test_a_teacher_of_other_values_is_another_loss_in_each_mode(generator):
    arguments = states(7, 63, 5, generator)
    with kernels.use("reference"):
        wanted = linear_soft_cross_entropy(*arguments)
    torch.testing.assert_close(linear_soft_cross_entropy(*arguments), wanted)
