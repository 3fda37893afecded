"""Regressions against their formulas."""

import pytest
import torch

from alignflow.regressions import CrossEntropy, Damped, Huber, Regression, SquaredError

ALL = [SquaredError(), Huber(), Damped(), CrossEntropy()]


@pytest.fixture
def rows(generator):
    prediction, target = torch.randn(2, 7, 3, 5, generator=generator, dtype=torch.float64)
    s, t = torch.rand(2, 7, generator=generator, dtype=torch.float64)
    return prediction.requires_grad_(), target, s, t


@pytest.mark.parametrize("regression", ALL, ids=lambda each: type(each).__name__)
def test_each_row_has_a_loss_whatever_the_shape_of_a_state(regression, rows):
    assert isinstance(regression, Regression)
    prediction, target, s, t = rows
    assert regression(*rows).shape == (7,)
    assert regression(prediction[:, 0], target[:, 0], s, t).shape == (7,)


def test_huber_is_the_squared_error_up_to_its_length_and_linear_beyond():
    residual = torch.tensor([[0.5], [-3.0]])
    zero = torch.zeros(2)
    found = Huber(delta=2.0)(residual, torch.zeros(2, 1), zero, zero)
    torch.testing.assert_close(found, torch.tensor([0.25, 2 * 2.0 * (3.0 - 1.0)]))


def test_damped_is_the_squared_error_on_the_diagonal_and_bounded_off_it(rows):
    prediction, target, s, t = rows
    plain, directions = SquaredError()(*rows), torch.full_like(target, 0.1)
    torch.testing.assert_close(Damped()(*rows), plain)
    damped = Damped()(*rows, directions)
    torch.testing.assert_close(damped, plain / (1 + plain / 0.01), check_dtype=False)
    assert damped.max() < 0.01


def test_the_gradient_of_the_cross_entropy_is_softmax_less_target_for_any_signs(rows):
    logits, target, s, t = rows
    target = target - (target.sum(-1, keepdim=True) - 1) / 5  # sums to 1, with both signs
    assert target.min() < 0
    loss = CrossEntropy()(logits, target, s, t).sum()
    (gradient,) = torch.autograd.grad(loss, logits)
    # a row is a mean over its 3 positions, in float32
    torch.testing.assert_close(gradient, (logits.softmax(-1) - target) / 3, atol=1e-6, rtol=0)


def test_a_length_that_is_none_is_refused():
    with pytest.raises(ValueError, match="delta must be a positive number, got 0"):
        Huber(delta=0)
