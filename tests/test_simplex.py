"""Formulas on the simplex, in float64, and a policy of logits."""

import pytest
import torch
from tensordict import TensorDict
from torch import nn

import alignflow as af
from alignflow import cross_entropy
from alignflow.distillation import PSD, CrossEntropy, FlowMapLoss
from alignflow.interpolants import Trigonometric, mean_denoiser_from_average_velocity
from alignflow.kernels import backend
from alignflow.predictions import Prediction
from alignflow.simplex import Logits, one_hot_states, semigroup_weight, token_log_likelihood

L, V = 3, 5


class Network(nn.Module):
    """Logits that depend on all that they are given."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(L * V + 2, L * V)

    def forward(self, x, s, t):
        inputs = torch.cat([x.flatten(1), s[:, None], t[:, None]], 1)
        return 3 * self.mix(inputs).unflatten(1, (L, V))


@pytest.fixture
def policy():
    torch.manual_seed(0)
    return af.FlowMapPolicy(Network().double(), (L, V), parametrization="simplex")


@pytest.fixture
def jump(generator):
    """States and three increasing times."""
    x = torch.randn(63, L, V, generator=generator, dtype=torch.float64)
    return x, *torch.rand(3, 63, generator=generator, dtype=torch.float64).sort(0).values


def close(found, wanted, atol=1e-10):
    torch.testing.assert_close(found, wanted, rtol=0, atol=atol)


def test_the_weights_of_the_semigroup_are_gamma_and_one_minus_gamma(jump):
    _, s, u, t = jump
    gamma = semigroup_weight(s, u, t)
    close(1 - gamma, (t - u) * (1 - s) / ((1 - u) * (t - s)))
    assert gamma.min() >= 0 and gamma.max() <= 1
    one = torch.ones_like(t)
    close(semigroup_weight(s, u, one), 0 * t)
    close(semigroup_weight(s, t, t), one)
    close(semigroup_weight(s, s, s), one)
    close(semigroup_weight(s, one, one), one)
    middle = (s + t) / 2
    close(semigroup_weight(s, middle, t), (1 - t) / (2 - s - t))


def test_the_weight_keeps_its_digits_in_single_precision_near_the_end():
    s, u, t = torch.tensor([[1 - 4e-6], [1 - 2e-6], [1 - 1e-6]])
    wanted = (1 - t.double()) * (u.double() - s.double()) / ((1 - u.double()) * (t - s).double())
    close(semigroup_weight(s, u, t), wanted)


def test_the_semigroup_of_a_normal_is_exact(jump):
    """Of data N(m, 0.5^2) in each coordinate: the map scales deviations from the mean."""
    x, s, u, t = (part if part.ndim == 1 else part for part in jump)
    mean = torch.linspace(-1, 1, V, dtype=torch.float64)

    def flow(x, s, t):
        s, t = s[:, None, None], t[:, None, None]
        std = [((1 - r) ** 2 + (0.5 * r) ** 2).sqrt() for r in (s, t)]
        return t * mean + std[1] / std[0] * (x - s * mean)

    def delta(x, s, t):
        return mean_denoiser_from_average_velocity(
            x, s, (flow(x, s, t) - x) / (t - s)[:, None, None]
        )

    gamma = semigroup_weight(s, u, t)[:, None, None]
    through = gamma * delta(x, s, u) + (1 - gamma) * delta(flow(x, s, u), u, t)
    close(through, delta(x, s, t), 1e-8)  # delta is a quotient by t - s


def test_the_target_of_the_semigroup_is_the_mixture_by_gamma(jump):
    x, s, u, t = jump
    first, second = x, x.flip(0)
    fraction = (u - s) / (t - s)
    gamma = semigroup_weight(s, u, t)[:, None, None]
    found = Logits().semigroup(first, second, fraction, s, u, t)
    close(found, gamma * first.softmax(-1) + (1 - gamma) * second.softmax(-1))
    close(found.sum(-1), torch.ones(63, L, dtype=torch.float64))


def test_map_and_mean_denoiser_follow_from_each_other(policy, jump):
    x, s, _, t = jump
    delta = policy.mean_denoiser(x, s, t)
    close(delta, policy.output(x, s, t).softmax(-1))
    left = ((1 - t) / (1 - s))[:, None, None]
    close(policy.flow_map(x, s, t), left * x + (1 - left) * delta)
    close(mean_denoiser_from_average_velocity(x, s, policy.average_velocity(x, s, t)), delta)


def test_a_short_jump_is_the_velocity_and_a_jump_to_the_end_a_distribution(policy, jump):
    x, s, _, _ = jump
    close(policy.flow_map(x, s, s), x)
    close(policy.denoiser(x, s), policy.output(x, s, s).softmax(-1))
    close(policy.denoiser(x, s), x + (1 - s)[:, None, None] * policy.velocity(x, s))
    end = policy.flow_map(x, s, 1.0)
    close(end, policy.mean_denoiser(x, s, torch.ones_like(s)))
    close(end.sum(-1), torch.ones(63, L, dtype=torch.float64))
    assert end.min() >= 0
    assert policy.denoiser(x, 1.0).min() >= 0


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_samples_never_leave_the_simplex(policy, steps, generator):
    drawn = policy.sample(63, steps=steps, generator=generator)
    close(drawn.sum(-1), torch.ones(63, L, dtype=torch.float64))
    assert drawn.min() >= 0


def test_a_signed_cross_entropy_has_the_gradient_delta_less_target(jump):
    logits, s, _, t = jump
    a, b = 1.7, -2.1
    target = a * logits.flip(0).softmax(-1) + b * logits.flip(1).softmax(-1)
    target = target + (1 - a - b) * one_hot_states(torch.ones(63, L).long(), V, logits.dtype)
    assert target.min() < 0
    logits = logits.requires_grad_()
    loss = CrossEntropy()(logits, target, s, t).sum()
    (gradient,) = torch.autograd.grad(loss, logits)
    close(L * gradient, logits.softmax(-1) - target)


def test_a_velocity_is_matched_as_its_denoiser(policy, jump):
    """The gradient in the logits is delta less the denoiser, in the plane of the simplex."""
    x, s, _, _ = jump
    velocity = x.flip(0)
    FlowMapLoss(policy).match(x, s, velocity).backward()
    found = [p.grad.clone() for p in policy.parameters()]
    logits = policy.output(x, s, s)
    wanted = x + (1 - s)[:, None, None] * velocity
    residual = logits.softmax(-1) - (wanted + (1 - wanted.sum(-1, keepdim=True)) / V)
    wanted = torch.autograd.grad(logits, list(policy.parameters()), residual / (63 * L))
    for one, other in zip(found, wanted, strict=True):
        close(one, other)


def _losses_and_gradients(policy, data, **options):
    loss = FlowMapLoss(policy, PSD(), diagonal_fraction=0.5, generator=0, **options)
    losses = loss(TensorDict({"data": data}, batch_size=len(data)))
    total = losses["loss_diagonal"] + losses["loss_map"]
    return [*losses.values(), *torch.autograd.grad(total, list(policy.parameters()))]


@pytest.mark.parametrize("small", [0, 2**22], ids=["by rows", "plain"])
def test_tokens_are_learned_like_their_one_hot_states(small, policy, generator, monkeypatch):
    tokens = torch.randint(V, (64, L), generator=generator)
    wanted = _losses_and_gradients(policy, one_hot_states(tokens, V, torch.float64))
    monkeypatch.setattr(cross_entropy, "SMALL", small)
    monkeypatch.setitem(backend.ELEMENTS_AT_ONCE, "cpu", small)
    for one, other in zip(_losses_and_gradients(policy, tokens), wanted, strict=True):
        close(one, other)
    with pytest.raises(ValueError, match="tokens are noised along the linear path"):
        _losses_and_gradients(policy, tokens, path=Trigonometric())


def test_two_jumps_are_regressed_on_as_their_semigroup(policy, jump):
    x, s, u, t = jump
    fraction = (u - s) / (t - s)
    with torch.no_grad():
        found = Logits().through(policy.output, x, fraction, s, u, t)
        wanted = Prediction.through(Logits(), policy.output, x, fraction, s, u, t)
    close(found, wanted)


def test_the_likelihood_of_a_token_is_that_of_its_noised_one_hot(jump):
    x, _, t, _ = jump
    t = 0.98 * t
    tokens = torch.eye(V, dtype=torch.float64)
    scale = (1 - t)[:, None, None, None]
    distance = (x[:, :, None] - t[:, None, None, None] * tokens) / scale
    wanted = (-distance.square().sum(-1) / 2).log_softmax(-1)
    close(token_log_likelihood(x, t).log_softmax(-1), wanted, 1e-8)
    assert torch.isfinite(token_log_likelihood(x, torch.ones(63).double())).all()


@pytest.mark.parametrize("tokens", [[[0, 5]], [[-1, 0]], [[0.5, 1.0]]])
def test_what_is_no_token_is_refused(tokens):
    with pytest.raises(ValueError, match="tokens must be whole numbers from 0 to 4"):
        one_hot_states(torch.tensor(tokens), V)


def test_a_policy_of_logits_is_saved_and_loaded(tmp_path, policy, generator):
    policy.save(tmp_path / "model")
    loaded = af.load(tmp_path / "model", module=Network())
    assert loaded.parametrization == "simplex" and loaded.prediction.is_logits
    close(loaded.sample(3, generator=0), policy.sample(3, generator=0))
