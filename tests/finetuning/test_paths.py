"""Memoryless paths: their log-ratio beside Gaussian log-densities, their marginals, their pool."""

import copy

import pytest
import torch
from torch.distributions import Normal

from alignflow.finetuning import ESSRegion, MemorylessPaths
from alignflow.finetuning.path_weights.denoiser_error import DenoiserError, NormalError
from alignflow.finetuning.path_weights.path_pool import PathPool, StoredPaths
from alignflow.finetuning.path_weights.paths import step_log_ratio
from alignflow.flow_map import FlowMap
from alignflow.interpolants import expand_time
from alignflow.reward_module import reward
from alignflow.tilt import Tilt
from alignflow.transitions.memoryless import memoryless_step


class GaussianFlow(FlowMap):
    """The velocity of N(mean, std^2 I) in closed form, in D dimensions, float64."""

    def __init__(self, mean: float = 0.0, std: float = 1.0, dimension: int = 1):
        super().__init__((dimension,))
        self.mean, self.std = mean, std

    def velocity(self, x, t, condition=None):
        t = expand_time(torch.as_tensor(t, dtype=x.dtype).expand(len(x)), x)
        variance = (self.std * t) ** 2 + (1 - t) ** 2
        slope = (t * self.std**2 - (1 - t)) / variance
        return self.mean + slope * (x - t * self.mean)

    def average_velocity(self, x, s, t, condition=None):
        return self.velocity(x, s)

    def flow_map(self, x, s, t, condition=None):
        stds = [((self.std * time) ** 2 + (1 - time) ** 2) ** 0.5 for time in (s, t)]
        return t * self.mean + (x - s * self.mean) * stds[1] / stds[0]

    def noise(self, n, generator=None):
        return super().noise(n, generator).double()


def drawn(model, base, paths, n, seed=0):
    return list(paths.of(base).draw(model, n, generator=torch.Generator().manual_seed(seed)))


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_the_log_ratio_is_the_difference_of_gaussian_log_densities(steps):
    model, base = GaussianFlow(0.7, 0.6, 3), GaussianFlow(0.0, 1.3, 3)
    paths = MemorylessPaths(steps, 1.3)
    of_base = paths.of(base)
    for step in drawn(model, base, paths, 63):
        of_step = step.time, step.end, 0.0
        std = of_base.coefficients(step.time, step.end)[0][:, None]
        means = [
            memoryless_step(step.state, each.velocity(step.state, step.time), *of_step)[0]
            for each in (model, base)
        ]
        ratio = [Normal(mean, std).log_prob(step.end_state).sum(1) for mean in means]
        torch.testing.assert_close(step.log_ratio, ratio[0] - ratio[1], rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("std", [0.5, 2.0])
def test_the_error_of_a_normal_denoiser_is_measured_as_it_is_known(std):
    """1,024 samples in 63 dimensions: five standard errors are 0.014; between the times that are
    measured it is not quite a line."""
    times = torch.linspace(0, 0.99, 67).double()
    measured, known = DenoiserError(GaussianFlow(0.3, std, 63)), NormalError(std)
    torch.testing.assert_close(measured(times), known(times), rtol=0.04, atol=0)
    assert measured(torch.ones(1).double()) > 0


def test_the_log_ratio_of_a_step_to_itself_is_zero_and_sums_over_an_event():
    offset, shift = torch.randn(2, 5, 2, 3, generator=torch.Generator().manual_seed(0)).double()
    std = torch.linspace(0.5, 2, 5).double()
    assert (step_log_ratio(offset, 0 * shift, std) == 0).all()
    wide = std.reshape(-1, 1, 1)
    exact = Normal(shift, wide).log_prob(offset) - Normal(0 * shift, wide).log_prob(offset)
    torch.testing.assert_close(step_log_ratio(offset, shift, std), exact.sum((1, 2)))


@pytest.mark.parametrize("steps", [1, 4, 16])
def test_normal_data_keep_their_marginals_and_the_last_step_its_noise(steps):
    """N(0, d^2) at any number of steps: 40,000 ends, five standard errors."""
    base = GaussianFlow(0.0, 0.6)
    end = drawn(base, base, MemorylessPaths(steps, 0.6), 40_000)[-1]
    assert end.end_state.mean().abs() < 5 * 0.6 / 200
    assert (end.end_state.std() / 0.6 - 1).abs() < 5 / 200 / 2**0.5
    assert (end.end == 1).all() and (end.log_ratio == 0).all()
    std = MemorylessPaths(steps, 0.6).of(base).coefficients(end.time, end.end)[0]
    assert (std > 0).all()


@pytest.mark.parametrize("steps", [1, 3, 8])
def test_paths_of_the_tilt_have_the_weight_of_the_tilt(steps):
    """The tilt of N(0, 1) by lambda x is N(lambda, 1), at any number of steps: w is a constant,
    of which the mean over the base's paths is the partition function."""
    strength, base = 0.7, GaussianFlow()
    paths = MemorylessPaths(steps, 1.0)
    steps_of = drawn(GaussianFlow(strength), base, paths, 200)
    log_ratio = sum(step.log_ratio for step in steps_of)
    log_weight = strength * steps_of[-1].end_state[:, 0] - log_ratio
    torch.testing.assert_close(log_weight, torch.full((200,), strength**2 / 2).double())


def test_a_pool_of_paths_has_their_log_ratios_and_its_weights_the_exponent():
    model, base = GaussianFlow(0.4), GaussianFlow()
    first = reward(name="first")(lambda x: x[:, 0])
    region, seeded = ESSRegion(0.5), torch.Generator().manual_seed(0)
    pool = PathPool(MemorylessPaths(4, 1.0), model, base, Tilt(first, 2.0), 500, 3, region, seeded)
    pool.refresh()
    full = 2.0 * pool.reward - pool.log_ratio
    expected = (pool.exponent.double() * full).log_softmax(0)
    torch.testing.assert_close(pool.log_weight, expected)
    ess = 1 / (full.softmax(0).square().sum() * 500)
    assert pool.ess_fraction.item() == pytest.approx(ess.item(), rel=1e-5) and ess < 0.5
    used = 1 / (pool.log_weight.exp().square().sum() * 500)
    assert used.item() == pytest.approx(0.5, abs=1e-5)


def test_stored_paths_are_drawn_once_each_and_without_those_that_were_dropped(normal):
    @reward(on_invalid="drop")
    def half(x):
        return torch.where(x[:, 0] > 0, x[:, 0], torch.nan)

    base, seeded = copy.deepcopy(normal), torch.Generator().manual_seed(0)
    pool = StoredPaths(MemorylessPaths(3, 1.0), normal, base, Tilt(half, 1.0), 64, 2, None, seeded)
    batch = pool.draw(100)
    assert (batch["data"] > 0).all() and len(batch) == (pool.goal > -torch.inf).sum() < 64
    assert len(batch["data"].unique()) == len(batch)
    assert batch["state"].shape == batch["base_velocity"].shape == (len(batch), 3, 1)
    assert pool.age == 1 and not torch.equal(pool.draw(7)["data"], batch["data"][:7])
