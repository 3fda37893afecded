"""A step on the simplex from logits: the definition's value and gradients."""

import pytest
import torch

from alignflow.interpolants import flow_map_from_mean_denoiser
from alignflow.kernels import simplex_step
from alignflow.kernels.simplex_step import _operator, simplex_step_reference

TOLERANCE = {torch.float32: 5e-6, torch.bfloat16: 6e-3, torch.float16: 8e-4}


def states(shape, generator, dtype=torch.float32, device="cpu"):
    """Logits, states and times."""
    logits = (3 * torch.randn(shape, generator=generator)).to(dtype).to(device)
    x = torch.randn(shape, generator=generator).to(dtype).to(device)
    s, length = torch.rand(2, shape[0], generator=generator).to(device)
    return logits, x, 0.9 * s, 0.9 * s + (1 - 0.9 * s) * length


@pytest.mark.parametrize("top_k", [None, 3])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("shape", [(1, 3), (7, 7), (3, 5, 63), (3, 500), (3, 5000)], ids=str)
def test_step_and_gradients_are_the_definitions(shape, dtype, top_k, place, generator, check):
    arguments = (*states(shape, generator, dtype, place.device), 0.7, top_k)
    upstream = torch.randn(shape, generator=generator).to(dtype)
    tolerance = TOLERANCE[dtype]
    for learned in [(0,), (0, 1)]:
        check(simplex_step, simplex_step_reference, arguments, learned, upstream, tolerance)


def test_a_large_odd_vocabulary(place, generator, check):
    arguments = states((2, 50_257), generator, device=place.device)
    check(simplex_step, simplex_step_reference, arguments, (0, 1))


def test_it_is_the_flow_map_of_the_library(place, generator):
    logits, x, s, t = states((3, 5, 63), generator, device=place.device)
    wanted = flow_map_from_mean_denoiser(x, s, t, logits.softmax(-1))
    torch.testing.assert_close(simplex_step(logits, x, s, t), wanted)


def test_ends_of_the_path(place, generator):
    logits, x, s, _ = states((3, 63), generator, device=place.device)
    torch.testing.assert_close(simplex_step(logits, x, s, s), x)
    torch.testing.assert_close(simplex_step(logits, x, s, torch.ones_like(s)), logits.softmax(-1))


def test_top_k_keeps_the_largest_and_what_equals_the_last(place):
    logits = torch.tensor([[3.0, 1.0, 2.0, 2.0, 0.0] * 100], device=place.device)
    logits[0, :5] = torch.tensor([9.0, 8.0, 7.0, 7.0, 6.0])
    s, t = torch.zeros(1, device=place.device), torch.ones(1, device=place.device)
    p = simplex_step(logits, torch.zeros_like(logits), s, t, top_k=3)[0]
    assert p.nonzero().flatten().tolist() == [0, 1, 2, 3]
    torch.testing.assert_close(p.sum().item(), 1.0)


def test_infinite_and_equal_logits(place, generator, check):
    logits, x, s, t = states((3, 500), generator, device=place.device)
    logits[:, 3:200] = -torch.inf
    logits[1, 200:] = 5.0
    arguments = (logits, x, s, t)
    upstream = torch.randn(3, 500, generator=generator)
    _, gradient, _ = check(simplex_step, simplex_step_reference, arguments, (0, 1), upstream)
    assert (gradient[:, 3:200] == 0).all()


def test_any_strides(place, generator, check):
    logits, x, s, t = states((4, 3, 63), generator, device=place.device)
    arguments = (logits.mT.contiguous().mT, x[:1].expand(4, 3, 63), s, t)
    check(simplex_step, simplex_step_reference, arguments, (0,))


def test_times_may_be_float64(place, generator):
    logits, x, s, t = states((4, 3, 63), generator, device=place.device)
    torch.testing.assert_close(
        simplex_step(logits, x, s.double(), t.double()), simplex_step(logits, x, s, t)
    )


def test_no_rows(place):
    empty = torch.zeros(0, 7, device=place.device, requires_grad=True)
    times = torch.zeros(0, device=place.device)
    result = simplex_step(empty, empty, times, times)
    (gradient,) = torch.autograd.grad(result.sum(), empty)
    assert gradient.shape == (0, 7)


@pytest.mark.parametrize("learned", [(0,), (1,), (0, 1)], ids=str)
def test_higher_derivatives_are_the_definitions(
    learned, place, generator, check_higher_derivatives
):
    arguments = (*states((3, 5, 63), generator, device=place.device), 0.7, 9)
    check_higher_derivatives(simplex_step, simplex_step_reference, arguments, learned)


def test_gradients_in_times_are_the_definitions(place, generator, check):
    arguments = states((3, 5, 63), generator, device=place.device)
    check(simplex_step, simplex_step_reference, arguments, (0, 1, 2, 3))


def test_the_operator_is_a_good_one(place, generator):
    logits, x, s, t = states((4, 63), generator, device=place.device)
    arguments = (logits.requires_grad_(), x.requires_grad_(), s, t, 0.7, 3, place.mode == "triton")
    tests = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(_operator, arguments, test_utils=tests)


def test_it_is_compiled_and_exported_whole(place, generator, check):
    logits, x, s, t = states((4, 300), generator, device=place.device)

    class Step(torch.nn.Module):
        def forward(self, logits, x):
            return simplex_step(logits, x, s, t, top_k=5)

    compiled = torch.compile(Step(), backend="aot_eager", fullgraph=True)
    check(compiled, Step(), (logits, x), (0, 1), None, 1e-4)
    exported = torch.export.export(Step(), (logits, x)).module()
    torch.testing.assert_close(exported(logits, x), Step()(logits, x))


def test_it_refuses_what_does_not_fit(generator):
    logits, x, s, t = states((4, 63), generator)
    with pytest.raises(ValueError, match=r"logits and x must be \(N, ..., V\)"):
        simplex_step(logits[:, 1:], x, s, t)
    with pytest.raises(ValueError, match=r"t must be \(4,\)"):
        simplex_step(logits, x, s, t[1:])
    with pytest.raises(ValueError, match="temperature must be a positive number"):
        simplex_step(logits, x, s, t, temperature=0)
    with pytest.raises(ValueError, match="top_k must be a whole number from 1 to 63"):
        simplex_step(logits, x, s, t, top_k=64)
