"""The rules against the exact flow map of a Gaussian with unequal variances, in float64."""

import pytest
import torch

from alignflow.distillation import ESD, LSD, PSD, Learner
from alignflow.distillation.rules import jvp

MEAN = torch.tensor([0.7, -1.2], dtype=torch.float64)
VARIANCE = torch.tensor([0.3, 2.0], dtype=torch.float64)

RULES = {
    "psd": PSD(),
    "psd midpoint": PSD(split="midpoint"),
    "psd none": PSD(stop_gradient="none"),
    "lsd": LSD(),
    "lsd target": LSD("target"),
    "lsd none": LSD("none"),
    "esd": ESD(),
    "esd convex": ESD("convex"),
    "esd target": ESD("target"),
    "esd none": ESD("none"),
}
rules = pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())


def std(t):
    return (t**2 * VARIANCE + (1 - t) ** 2).sqrt()


def exact_average(x, s, t):
    """X_{s,t}(x) = t m + (sd_t / sd_s)(x - s m) as an average velocity, with its limit at s = t."""
    s, t = s[:, None], t[:, None]
    coefficient = ((s + t) * VARIANCE - (2 - s - t)) / (std(s) + std(t))
    return MEAN + coefficient / std(s) * (x - s * MEAN)


def exact_velocity(x, t):
    return exact_average(x, t, t)


class Bent(torch.nn.Module):
    """A small average velocity with parameters, exact for none of the rules."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.weight = torch.nn.Parameter(torch.randn(2, 4, generator=generator).double())

    def forward(self, x, s, t):
        return torch.tanh(torch.cat([x, s[:, None], t[:, None]], -1)) @ self.weight.mT


def residual_of(rule, average, velocity, *points, denoiser=None):
    """What is regressed to zero."""
    prediction, target = rule(Learner(average, velocity, denoiser), *points)
    return prediction - target


@pytest.fixture
def points(generator):
    x = 2 * torch.randn(63, 2, generator=generator, dtype=torch.float64)
    s, t = torch.rand(2, 63, generator=generator, dtype=torch.float64)
    return x, s, t


@rules
def test_the_residual_vanishes_at_the_exact_map_in_both_directions(rule, points, generator):
    residual = residual_of(rule, exact_average, exact_velocity, *points, generator)
    assert residual.abs().max() <= 1e-8


@rules
def test_the_residual_does_not_vanish_elsewhere(rule, points, generator):
    wrong = Bent()
    residual = residual_of(rule, wrong, lambda x, t: wrong(x, t, t), *points, generator)
    assert residual.abs().mean() > 0.05


def lagrangian_by_differences(average, velocity, x, s, t, step=1e-6):
    def jump(t):
        return x + (t - s)[:, None] * average(x, s, t)

    return (jump(t + step) - jump(t - step)) / (2 * step) - velocity(jump(t), t)


def eulerian_by_differences(average, velocity, x, s, t, step=1e-6):
    def jump(x, s):
        return x + (t - s)[:, None] * average(x, s, t)

    move = step * velocity(x, s)
    return -(jump(x + move, s + step) - jump(x - move, s - step)) / (2 * step)


@pytest.mark.parametrize("stop", ["convex", "target", "none"])
def test_lsd_is_the_lagrangian_residual(stop, points):
    net = Bent()
    expected = lagrangian_by_differences(net, exact_velocity, *points)
    found = residual_of(LSD(stop), net, exact_velocity, *points)
    torch.testing.assert_close(found, expected, atol=1e-7, rtol=0)


def exact_denoiser(x, t):
    return x + (1 - t)[:, None] * exact_velocity(x, t)


def in_denoisers(stop, average, denoiser, *points):
    return residual_of(LSD(stop), average, exact_velocity, *points, denoiser=denoiser)


@pytest.mark.parametrize("stop", ["convex", "target", "none"])
def test_lsd_of_a_denoiser_vanishes_at_the_exact_map_to_the_end_of_the_path(stop, points):
    x, s, t = points
    for end in (t, torch.ones_like(t)):
        residual = in_denoisers(stop, exact_average, exact_denoiser, x, s, end)
        assert residual.abs().max() <= 1e-8


@pytest.mark.parametrize("stop", ["convex", "target", "none"])
def test_lsd_of_a_denoiser_is_that_of_its_velocity_times_what_is_left(stop, points):
    net, (x, s, t) = Bent(), points
    residual = in_denoisers(stop, net, exact_denoiser, *points)
    expected = (1 - t)[:, None] * residual_of(LSD(stop), net, exact_velocity, *points)
    torch.testing.assert_close(residual, expected)
    # at the end a jump's endpoint must be its denoiser, whatever that is
    end = torch.ones_like(t)
    landed = x + (1 - s)[:, None] * net(x, s, end)
    residual = in_denoisers(stop, net, lambda x, t: x.sin(), x, s, end)
    torch.testing.assert_close(residual, landed - landed.sin())


@pytest.mark.parametrize("stop", ["full", "convex", "target", "none"])
def test_esd_is_minus_the_eulerian_residual(stop, points):
    net = Bent()
    expected = eulerian_by_differences(net, exact_velocity, *points)
    found = residual_of(ESD(stop), net, exact_velocity, *points)
    torch.testing.assert_close(found, expected, atol=1e-7, rtol=0)


def test_psd_is_the_semigroup_residual_over_the_length_of_the_jump(points):
    net, (x, s, t) = Bent(), points
    u = (s + t) / 2
    middle = x + (u - s)[:, None] * net(x, s, u)
    landed = middle + (t - u)[:, None] * net(middle, u, t)
    once = x + (t - s)[:, None] * net(x, s, t)
    residual = residual_of(PSD(split="midpoint"), net, exact_velocity, x, s, t)
    torch.testing.assert_close(residual, (once - landed) / (t - s)[:, None])


def gradient(rule, average, velocity, points):
    net = average
    generator = torch.Generator().manual_seed(3)
    residual_of(rule, net, velocity(net), *points, generator).square().sum().backward()
    return net.weight.grad


def diagonal(net):
    return lambda x, t: net(x, t, t)


def stopped(net):
    return lambda x, t: net(x, t, t).detach()


@pytest.mark.parametrize("rule", [LSD("convex"), ESD("convex")], ids=["lsd", "esd"])
def test_convex_differentiates_everything_but_the_teacher(rule, points):
    everything = type(rule)("none")
    expected = gradient(everything, Bent(), stopped, points)
    if isinstance(rule, LSD):
        # the landing point inside the teacher's evaluation is constant too
        torch.testing.assert_close(gradient(rule, Bent(), stopped, points), expected)
    torch.testing.assert_close(gradient(rule, Bent(), diagonal, points), expected)
    assert not torch.allclose(gradient(everything, Bent(), diagonal, points), expected)


@pytest.mark.parametrize("rule", [PSD(), LSD("target"), ESD("target")], ids=["psd", "lsd", "esd"])
def test_with_all_but_the_map_stopped_the_gradient_is_a_regression_on_a_constant(rule, points):
    net = Bent()
    generator = torch.Generator().manual_seed(3)
    residual = residual_of(rule, net, diagonal(net), *points, generator).detach()
    x, s, t = points
    (2 * residual * net(x, s, t)).sum().backward()
    torch.testing.assert_close(gradient(rule, Bent(), diagonal, points), net.weight.grad)


def test_full_keeps_the_advection_constant(points):
    net, (x, s, t) = Bent(), points
    residual = residual_of(ESD("full"), net, diagonal(net), *points).detach()
    _, derivative = torch.func.jvp(lambda s: net(x, s, t), (s,), (torch.ones_like(s),))
    (2 * residual * (net(x, s, t) - (t - s)[:, None] * derivative)).sum().backward()
    torch.testing.assert_close(gradient(ESD("full"), Bent(), diagonal, points), net.weight.grad)


class NoForwardMode(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x

    @staticmethod
    def backward(ctx, gradient):
        return gradient


def test_a_layer_without_forward_derivative_is_refused_with_the_ways_out(points):
    def average(x, s, t):
        return NoForwardMode.apply(x * t[:, None])

    for rule in (LSD(), ESD()):
        with pytest.raises(NotImplementedError, match="PSD.*or choose a kernel"):
            residual_of(rule, average, exact_velocity, *points)
    residual_of(PSD(), average, exact_velocity, *points)


def test_an_attention_kernel_without_forward_derivative_is_refused(points):
    def average(x, s, t):
        heads = x.float()[None, None]
        return torch.nn.functional.scaled_dot_product_attention(
            heads * t.float()[:, None], heads, heads
        )[0, 0]

    with pytest.raises(NotImplementedError, match="PSD.*or choose a kernel"):
        residual_of(LSD(), average, exact_velocity, *points)


def test_other_errors_of_a_network_pass_through(points):
    def average(x, s, t):
        raise RuntimeError("out of luck")

    with pytest.raises(RuntimeError, match="out of luck"):
        jvp(lambda t: average(None, None, t), (points[1],), (points[1],))


def test_unknown_placements_are_refused():
    with pytest.raises(ValueError, match="stop_gradient must be one of convex, none, got 'full'"):
        PSD(stop_gradient="full")
    with pytest.raises(ValueError, match="split must be one of uniform, midpoint"):
        PSD(split="golden")
