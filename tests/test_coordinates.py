"""Relative coordinates of clusters: an orthonormal basis of what is free of the mean."""

import pytest
import torch

from alignflow.coordinates import from_relative, mean_free, to_relative


@pytest.mark.parametrize("n", [2, 4, 13])
def test_relative_coordinates_are_those_of_an_orthonormal_basis(n, generator):
    x = torch.randn(5, n, 3, generator=generator, dtype=torch.float64)
    y = to_relative(x)
    assert y.shape == (5, n - 1, 3)
    torch.testing.assert_close(from_relative(y), mean_free(x))
    torch.testing.assert_close(to_relative(x + 7.0), y)
    torch.testing.assert_close(y.square().sum((1, 2)), mean_free(x).square().sum((1, 2)))
    torch.testing.assert_close(to_relative(from_relative(y)), y)


def test_a_basis_that_was_made_in_inference_mode_takes_a_gradient(generator):
    y = torch.randn(2, 16, 3, generator=generator)
    with torch.inference_mode():
        from_relative(y)
    y.requires_grad_()
    from_relative(y).square().sum().backward()
    torch.testing.assert_close(y.grad, 2 * y)
