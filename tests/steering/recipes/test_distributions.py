"""What each method samples, against closed forms: biased ones by their exact bias.

Noise and data are standard normal, so x_t has the standard deviation s_t = sqrt(t^2 + (1-t)^2),
the flow carries x_t / s_t along unchanged, and every steered sample is a known function of its
noise.
"""

import inspect
import itertools
import math
from importlib.resources import files

import pytest
import torch
import yaml
from omegaconf import OmegaConf
from tensordict import TensorDict

import alignflow as af
from alignflow.pipeline import method_keys
from alignflow.policies import MLP
from alignflow.steering import METHODS
from alignflow.steering.noise_ascent import NoiseAscent
from alignflow.steering.registry import build_transition
from alignflow.targets.gaussian_mixture import GaussianMixture
from alignflow.targets.rewards import Linear, Quadratic
from alignflow.values import ValueFunction


def gaussian(dimension: int = 1) -> GaussianMixture:
    return GaussianMixture(
        torch.ones(1, dtype=torch.float64),
        torch.zeros(1, dimension, dtype=torch.float64),
        torch.eye(dimension, dtype=torch.float64).unsqueeze(0),
    )


def linear(dimension: int = 1) -> Linear:
    return Linear(torch.ones(dimension, dtype=torch.float64))


def bowl(dimension: int = 1) -> Quadratic:
    return Quadratic(torch.zeros(dimension, dtype=torch.float64))


def std(t: float) -> float:
    return math.sqrt(t**2 + (1 - t) ** 2)


def noise(n: int, dimension: int = 1) -> torch.Tensor:
    return gaussian(dimension).noise(n, torch.Generator().manual_seed(0))


def from_t_min(t_min: float, steps: int) -> torch.Tensor:
    """A step of the base to t_min, then equal ones."""
    return torch.cat([torch.zeros(1), torch.linspace(t_min, 1, steps + 1, dtype=torch.float64)])


def steered(policy, reward, n: int, **options) -> torch.Tensor:
    steerer = af.steer(policy, reward, **options)
    return steerer.sample(n, generator=torch.Generator().manual_seed(0))


def untrained_value(policy, reward) -> ValueFunction:
    network = MLP(policy.event_shape[0], width=8).double()
    return af.learn_value.build(policy, reward, network=network).value


def takes(method: str) -> set[str]:
    return set(inspect.signature(METHODS[method]).parameters)


# rows that move without noise at strength 0; reno moves the noise all the same
FLOWS = [m for m in METHODS if "transition" in takes(m)
         and m not in ("fk", "twisted_smc", "diamond_smc", "reno")]  # fmt: skip


@pytest.mark.parametrize("transition", ["flow_map", "euler", "heun"])
@pytest.mark.parametrize("method", FLOWS)
def test_without_strength_every_flow_is_the_base(method, transition):
    options = {"particles": 1} if "particles" in takes(method) else {}
    if "draws" in takes(method) and method != "custom":
        options["draws"] = 2
    if method.startswith("mfm"):  # the exact stochastic map is an ODE, and none is asked for here
        options["posterior"] = {"name": "glass", "inner_steps": 2}
    policy, reward = gaussian(2), linear(2)
    if method == "value_guidance":
        options["value"] = untrained_value(policy, reward)
    out = steered(policy, reward, 5, method=method, strength=0.0, steps=64,
                  transition=transition, **options)  # fmt: skip
    # the flow maps noise to itself; Euler with 64 steps is off by a first-order error
    error = {"flow_map": 1e-12, "heun": 1e-3, "euler": 0.05}[transition]
    assert (out["state"] - noise(5, 2)).abs().max() < error


def test_lookahead_is_the_update_of_its_definition():
    """x' = X_{t,t'}(x) + eta grad r(X_{t,1}(x)), written out by autograd."""
    policy, reward, eta = gaussian(2), bowl(2), 0.3
    reward = af.Sum({"bowl": (reward, 1.0), "linear": (linear(2), 0.5)})
    x = noise(7, 2)
    for k in range(4):
        x.requires_grad_()
        value = reward.score(policy.flow_map(x, k / 4, 1.0)).sum()
        (gradient,) = torch.autograd.grad(value, x)
        x = (policy.flow_map(x, k / 4, (k + 1) / 4) + eta * gradient).detach()
    out = steered(policy, reward, 7, method="lookahead", steps=4, step_size=eta)
    torch.testing.assert_close(out["state"], x, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("strength", [1.0, 2.0])
def test_lookahead_shifts_a_normal_by_the_sum_of_its_steps(strength):
    """Under r(x) = x a step adds eta lambda / s_t, which arrives as eta lambda / (s_t s_t')."""
    steps, eta = 8, 0.1
    shift = sum(strength * eta / (std(k / steps) * std((k + 1) / steps)) for k in range(steps))
    out = steered(gaussian(), linear(), 9, strength=strength, steps=steps, step_size=eta)
    torch.testing.assert_close(out["state"], noise(9) + shift)


@pytest.mark.parametrize(("t_min", "mean"), [(0.1, 2.2), (0.01, 4.6), (0.001, 6.9)])
def test_the_weighted_lookahead_overshoots_by_the_logarithm_of_its_start(t_min, mean):
    """The tilt's mean is 1; the method's is the integral of c_t / s_t^2 from t_min on."""
    ratio = t_min ** (1 / 120)
    times = [0.0, *(ratio**k for k in range(120, -1, -1))]
    options = {"method": "lookahead_weighted", "t_min": t_min, "grid": times}
    shift = sum((t - s) * (1 - s) / s / (std(s) * std(t)) for s, t in itertools.pairwise(times[1:]))
    out = steered(gaussian(), linear(), 3, **options)
    torch.testing.assert_close(out["state"], noise(3) + shift, rtol=0, atol=1e-10)
    integral = math.log(std(t_min) / t_min)
    assert shift == pytest.approx(integral, rel=0.04) == pytest.approx(mean, rel=0.04)


def test_dps_is_exact_for_a_linear_reward_on_a_gaussian():
    """There the value's gradient is the gradient at the mean; only the steps' error is left."""
    grid = from_t_min(1e-3, 40)
    options = {"method": "dps", "transition": "heun", "t_min": 1e-3, "grid": grid}
    out = steered(gaussian(2), linear(2), 5, strength=1.5, **options)
    torch.testing.assert_close(out["state"], noise(5, 2) + 1.5, rtol=0, atol=1e-2)


@pytest.mark.parametrize("strength", [0.5, 2.0])
def test_dps_shrinks_a_quadratic_tilt_too_far(strength):
    """Variance e^{-lambda} instead of 1 / (1 + lambda): d log(x/s)/dt = -lambda t (1-t) / s^4."""
    grid = from_t_min(1e-3, 40)
    options = {"method": "dps", "transition": "heun", "t_min": 1e-3, "grid": grid}
    out = steered(gaussian(), bowl(), 5, strength=strength, **options)
    scale = out["state"] / noise(5)
    torch.testing.assert_close(
        scale, torch.full_like(scale, math.exp(-strength / 2)), rtol=0, atol=2e-3
    )
    assert abs(scale[0].item() ** 2 - 1 / (1 + strength)) > 0.05


@pytest.mark.parametrize(("transition", "order"), [("euler", 1), ("heun", 2)])
def test_the_tilted_velocity_is_integrated_to_the_order_of_the_step(transition, order):
    """DPS on the quadratic has a closed form from t_min on: x/s shrinks by an integral of it."""
    t_min, strength = 0.05, 1.0
    # the base's first step, of the same transition: b_0(x) = -x, b_t(x) = (2t-1) x / s_t^2
    first = 1 - t_min
    if transition == "heun":
        first = 1 - t_min / 2 * (1 + (1 - 2 * t_min) / std(t_min) ** 2 * first)
    start = noise(5) * first / std(t_min)
    integral = 0.25 - (t_min - 0.5) / std(t_min) ** 2 / 2
    exact = start * math.exp(-strength * integral)
    errors = []
    for steps in (20, 40):
        grid = from_t_min(t_min, steps)
        options = {"method": "dps", "transition": transition, "t_min": t_min, "grid": grid}
        out = steered(gaussian(), bowl(), 5, strength=strength, **options)
        errors.append((out["state"] - exact).abs().max().item())
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.2)


def test_the_normalized_lookahead_moves_as_far_whatever_the_strength():
    options = {"method": "lookahead_normalized", "scale": 0.5, "steps": 4}
    weak = steered(gaussian(3), linear(3), 6, strength=0.1, **options)
    strong = steered(gaussian(3), linear(3), 6, strength=50.0, **options)
    torch.testing.assert_close(weak["state"], strong["state"])
    assert (weak["reward"] > noise(6, 3).sum(-1)).all()


@pytest.mark.parametrize("n", [2, 5])
def test_best_of_n_has_the_distribution_of_a_maximum(n):
    """Phi(r)^N is uniform: Kolmogorov's statistic of 4,000 systems, passed by all but 1e-4."""
    systems = 4_000
    out = steered(gaussian(), linear(), systems, method="best_of_n", particles=n, steps=1)
    uniform = torch.special.ndtr(out["reward"]).pow(n).sort().values
    ranks = torch.arange(systems, dtype=torch.float64) / systems
    distance = torch.maximum((uniform - ranks).abs(), (uniform - ranks - 1 / systems).abs()).max()
    assert distance * math.sqrt(systems) < 2.23


def test_importance_weights_make_the_particles_those_of_the_tilt():
    """One system of 20,000 particles, its mean and variance within five standard errors."""
    m, strength = 20_000, 0.7
    reward = Quadratic(torch.tensor([1.0], dtype=torch.float64), precision=2.0)
    out = steered(gaussian(), reward, 1, method="importance", strength=strength, particles=m)
    tilted = gaussian().tilted(reward, strength)
    mean, variance = tilted.means[0, 0], tilted.covariances[0, 0, 0]
    weight = out["particles", "log_weight"][0].softmax(-1)
    state = out["particles", "state"][0, :, 0]
    ess = 1 / weight.square().sum()
    assert ((weight * state).sum() - mean).abs() < 5 * (variance / ess).sqrt()
    excess = (weight * (state - mean).square()).sum() - variance
    assert excess.abs() < 5 * variance * (2 / ess).sqrt()


def test_the_particle_that_importance_returns_is_of_the_tilt():
    """2,000 systems of 200 particles; the bias of order 1/200 is within the five errors."""
    systems, strength = 2_000, 1.0
    options = {"method": "importance", "strength": strength, "particles": 200, "steps": 1}
    out = steered(gaussian(), linear(), systems, **options)
    assert abs(out["state"].mean().item() - strength) < 5 / math.sqrt(systems)
    assert abs(out["state"].var().item() - 1) < 5 * math.sqrt(2 / systems)


@pytest.mark.parametrize("method", ["lookahead", "lookahead_weighted", "dps", "best_of_n"])
def test_a_mixture_steered_has_a_higher_reward_than_the_base(method):
    means = torch.tensor([[-2.0, 0.0], [2.0, 1.0]])
    policy = GaussianMixture(torch.tensor([0.3, 0.7]), means, 0.2 * torch.eye(2).expand(2, 2, 2))
    reward = Quadratic(torch.tensor([-2.0, 0.0]))
    base = reward.score(policy.sample(999, generator=torch.Generator().manual_seed(1))).mean()
    assert steered(policy, reward, 32, method=method, steps=4)["reward"].mean() > base + 1


# rows that sample the tilt, as draws, steps or particles grow, and how they are made to
CONSISTENT = {
    "exact": {"draws": 400, "steps": 60},
    "mfm_gf": {"draws": 400, "steps": 60, "posterior": "exact"},
    "glass": {"draws": 64, "steps": 40, "inner_steps": 6, "solver": "heun"},
    "fmtt": {"particles": 2000, "steps": 60},
    "fk": {"particles": 2000, "steps": 60},
    "twisted_smc": {"particles": 2000, "steps": 60},
    "diamond_smc": {"particles": 2000, "steps": 12, "draws": 8},
}


@pytest.mark.parametrize("strength", [0.5, 2.0])
@pytest.mark.parametrize("method", CONSISTENT)
def test_a_consistent_method_samples_the_tilt(method, strength):
    """A quadratic tilt of a Gaussian; 1,000 systems, or one of 2,000 particles.

    Mean and variance to five standard errors and 0.02 for the steps' error.
    """
    reward = Quadratic(torch.tensor([1.0], dtype=torch.float64))
    policy, options = gaussian(), dict(CONSISTENT[method])
    systems = 1 if "particles" in options else 1000
    out = steered(policy, reward, systems, method=method, strength=strength, **options)
    particles = out["particles"].flatten()
    # each system of one particle weighs as much
    log_weight = particles["log_weight"] if systems == 1 else torch.zeros(systems).double()
    weight, state = log_weight.softmax(0), particles["state"][:, 0]
    tilted = policy.tilted(reward, strength)
    exact, variance = tilted.means.item(), tilted.covariances.item()
    ess = 1 / weight.square().sum().item()
    mean = (weight @ state).item()
    assert abs(mean - exact) < 5 * math.sqrt(variance / ess) + 0.02
    found = (weight @ (state - mean).square()).item()
    assert abs(found / variance - 1) < 5 * math.sqrt(2 / ess) + 0.04


@pytest.mark.parametrize("potential", ["diff", "max", "add"])
@pytest.mark.parametrize("scheme", ["systematic", "residual", "ssp", "multinomial"])
def test_the_mean_of_the_final_weights_is_the_tilt_s_normalizer(potential, scheme):
    """E[exp(r)], which resampling keeps whatever it does: 200 systems of 50 particles."""
    reward = linear()
    out = steered(gaussian(), reward, 200, method="fk", strength=0.7, steps=8, particles=50,
                  potential=potential, scheme=scheme, transition="glass")  # fmt: skip
    normalizer = out["particles", "log_weight"].exp().mean(1)
    exact = math.exp(0.7**2 / 2)
    # 8 inner steps of the base's kernel leave it a little off, by less than 0.05
    assert abs(normalizer.mean().item() - exact) < 5 * normalizer.std().item() / 200**0.5 + 0.05


SCHEDULES = {
    "never": lambda t: torch.zeros_like(t),
    "late": lambda t: 0.8 * (t > 0.45),
    "early": lambda t: torch.where(t < 0.45, (2 * (1 - t) / t).sqrt(), 0.0),
    "bounded": lambda t: 1 - t,
    "memoryless": lambda t: (2 * (1 - t) / t).sqrt(),
}


@pytest.mark.parametrize("strength", [0.7, 1.5])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_weighed_moves_have_the_normalizer_of_the_base_wherever_there_is_no_noise(
    schedule, strength
):
    """Under r(x) = x it is lambda^2 v / 2, v the variance that the base's steps end in.

    One system of 40,000 particles, five standard errors of their weights.
    """
    transition = {"name": "sde", "noise": SCHEDULES[schedule]}
    n, policy = 40_000, gaussian()
    options = {"method": "twisted_smc", "transition": transition, "particles": n, "steps": 12}
    steerer = af.steer(policy, linear(), strength=strength, threshold=0.0, **options)
    variance, one = 1.0, torch.ones(1, 1, dtype=torch.float64)
    for start, end in itertools.pairwise(steerer.times):
        time, target = (one[0] * t for t in (start, end))
        rows = {"state": one, "time": time, "target_time": target}
        rows["velocity"] = policy.velocity(one, start)
        step = build_transition(transition, policy)
        mean, step_std, _ = step.moments(TensorDict(rows, [1]))
        variance = (mean.square() * variance + step_std.square()).item()
    out = steerer.sample(1, generator=torch.Generator().manual_seed(0))
    log_weight = out["particles", "log_weight"][0]
    found = log_weight.logsumexp(0).item() - math.log(n)
    weight = (log_weight - found).exp()
    assert abs(found - strength**2 * variance / 2) < 5 * weight.std().item() / math.sqrt(n)


@pytest.mark.parametrize("weighed", [True, False])
def test_a_step_without_noise_is_the_bases_where_moves_are_weighed(weighed):
    """And is corrected where they are not: the weights then ask for no density."""
    options = {
        "method": "custom", "posterior": "denoiser", "value": "gradient", "steps": 4,
        "corrections": ["ramped"], "transition": {"name": "sde", "noise": SCHEDULES["late"]},
    }  # fmt: skip
    if weighed:
        options |= {"resampler": {"name": "adaptive", "threshold": 0.0}, "particles": 5}
    generator = torch.Generator().manual_seed(0)
    steerer = af.steer(gaussian(), linear(), **options)
    path = steerer.sample(3, generator=generator, return_trajectory=True)["trajectory"]
    # from .25 to .5 and from .75 to 1 there is no noise, from .5 to .75 there is
    for k in (1, 3):
        base = path[:, k] + 0.25 * gaussian().velocity(path[:, k], 0.25 * k)
        assert torch.allclose(path[:, k + 1], base) == weighed
    corrected = ["Ramped(scale=1)" in str(steerer.groups(k)) for k in range(4)]
    assert corrected == ([False, False, True, False] if weighed else [True] * 4)


def test_search_and_reno_find_higher_rewards_than_the_best_of_the_base():
    """32 samples of each in three dimensions, where eight samples of the base say little."""
    policy, reward = gaussian(3), linear(3)
    best = steered(policy, reward, 32, method="best_of_n", particles=8)["reward"].mean()
    found = steered(policy, reward, 32, method="search", steps=8)["reward"].mean()
    assert found > best
    reno = steered(policy, reward, 32, method="reno", clip=1.0, step_size=0.2)
    assert reno["reward"].mean() > best


def test_reno_returns_the_best_noise_that_it_has_seen():
    options = {"method": "reno", "strength": 0.0, "steps": 1, "regularization": 1.0}
    out = steered(gaussian(5), linear(5), 6, iterations=400, clip=10.0, step_size=0.05, **options)
    rewards = noise(6, 5).sum(1)
    assert (out["reward"] >= rewards - 1e-12).all()


def test_without_a_reward_reno_moves_the_noise_to_its_most_likely_norm():
    """Ascent on the log-density of the norm alone, (d-1) log|x| - |x|^2 / 2, to |x|^2 = d - 1."""
    ascent = NoiseAscent(iterations=400, step_size=0.05, clip=10.0, regularization=1.0)
    state = noise(6, 5)
    rows = {"value_gradient": torch.zeros_like(state), "endpoint_reward": torch.zeros(6, 1)}
    rows = TensorDict({"state": state, **rows}, [6])
    for _ in range(400):
        rows = ascent(rows)
    torch.testing.assert_close(rows["state"].square().sum(1), torch.full((6,), 4.0).double())


def test_every_method_has_a_line_and_a_config_with_its_numbers():
    assert af.steer.methods().keys() == METHODS.keys()
    folder = files("alignflow.configs") / "steerer"
    found = {path.name.removesuffix(".yaml"): path for path in folder.iterdir()}
    assert found.keys() == {*METHODS, af.steering.AUTO}
    for name in METHODS:
        text = found[name].read_text()
        assert text.startswith(f"# {af.steer.methods()[name]}\n")
        config = yaml.safe_load(text)
        assert config == {"method": name}
        # what a run makes of it: every number of the method; the strength stands once, above it
        defaults = {name: option.default for name, option in af.steer.options(name).items()}
        completed = method_keys.completed("steerer", OmegaConf.create(config))
        assert completed == {"method": name, "steps": METHODS[name].default_steps, **defaults}
        policy, reward = gaussian(), linear()
        learned = {"value": untrained_value(policy, reward)} if name == "value_guidance" else {}
        steerer = af.steer(policy, reward, **{**completed, **learned})
        assert str(steerer).startswith(f"{name}: ") and steerer.mermaid().startswith("flowchart")
