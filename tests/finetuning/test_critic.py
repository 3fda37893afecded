"""A learned value as the critic of grpo: its mean gradient stays, and its variance falls."""

import math
from functools import partial

import pytest
import torch

import alignflow as af
from alignflow.checkpoint import digest
from alignflow.envs import DenoisingEnv
from alignflow.finetuning import GRPO
from alignflow.policies import MLP, FlowMapPolicy
from alignflow.values import LearnedValue, ValueFunction

STEPS, STRENGTH = 4, 0.7
# steps that are exact for standard normal data
WHITE = partial(DenoisingEnv, steps=STEPS, transition={"name": "sde", "data_std": 1.0})
CREDITS = ["return", "path"]


class Linear(ValueFunction):
    """V of N(0, 1) and the reward x: lambda m + lambda^2 s^2 / 2, of mean m and std s of x_1."""

    def forward(self, x, t, strength, condition=None):
        total = t**2 + (1 - t) ** 2
        return strength * t * x[:, 0] / total + (strength * (1 - t)).square() / (2 * total)


class Ring(ValueFunction):
    """V of the ring."""

    def forward(self, x, t, strength, condition=None):
        return af.targets.ring().value(x, t, af.targets.ring_reward(), strength[0].item())


def value_of(kind, policy, reward):
    return kind(reward, digest(policy), tuple(policy.event_shape), (0.0, 4.0))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def tilted(normal):
    """The tilt of N(0, 1) by 0.7 x, N(0.7, 1)."""

    class Tilted(type(normal)):
        def velocity(self, x, t, condition=None):
            shift = (1 - t) / (t**2 + (1 - t) ** 2)
            return super().velocity(x, t) + STRENGTH * shift.reshape(-1, 1)

    return Tilted(normal.module, (1,))


def gradients(loss, batches, n):
    """Of the objective and the KLs, a row a batch."""
    found = []
    for _ in range(batches):
        losses = loss(loss.sample_batch(n))
        total = losses["loss_objective"] + losses["loss_kl"]
        of = [parameter for parameter in loss.policy.parameters() if parameter.requires_grad]
        found.append(torch.cat([each.flatten() for each in torch.autograd.grad(total, of)]))
    return torch.stack(found)


@pytest.mark.parametrize("credit", CREDITS)
def test_the_mean_gradient_stays_and_its_variance_falls_on_the_ring(credit, bind):
    """20 batches of 128 episodes with and without the exact value, at the base: means agree within
    five standard errors of their difference, each way of which has some variance."""
    policy, reward = af.load("ring").requires_grad_(True), af.targets.ring_reward()
    found = []
    for critic in (None, value_of(Ring, policy, "ring")):
        loss = bind(GRPO, policy, reward, 1.0, base=policy, credit=credit, scale="one",
                    critic=critic, generator=seeded())  # fmt: skip
        found.append(gradients(loss, 20, 128))
    plain, critic = found
    gap = (critic - plain).mean(0)
    # along its own direction, and in all of them together
    for way in (plain.mean(0), critic.mean(0)):
        along = (critic - plain) @ way / way.norm()
        assert along.mean().abs() < 5 * along.std() / 20**0.5
    assert gap.square().sum() < 5 * (critic - plain).var(0).sum() / 20
    assert critic.var(0).sum() < 0.2 * plain.var(0).sum()


@pytest.mark.parametrize("credit", CREDITS)
def test_any_critic_leaves_the_mean_gradient(credit, normal, first, bind):
    """One that is wrong by a curve, away from the base: 60 batches of 500 episodes."""

    class Wrong(Linear):
        def forward(self, x, t, strength, condition=None):
            return super().forward(x, t, strength) + (3 * x[:, 0]).sin() + t

    moved = FlowMapPolicy(MLP(1, width=8, depth=1), (1,))
    with torch.no_grad():
        for parameter in moved.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=seeded()))
    found = []
    for seed, critic in enumerate((None, value_of(Wrong, normal, "first"))):
        loss = bind(GRPO, moved, first, STRENGTH, base=normal, environment=WHITE, episodes=500,
                    credit=credit, scale="one", critic=critic, generator=seeded(seed))  # fmt: skip
        found.append(gradients(loss, 60, 500))
    plain, critic = found
    gap = critic.mean(0) - plain.mean(0)
    error = ((critic.var(0) + plain.var(0)) / 60).sqrt()
    assert (gap.abs() <= 5 * error).all()
    assert plain.mean(0).norm() > 5 * error.norm()  # there is something to see


def test_at_the_tilt_no_step_of_a_path_has_an_advantage(tilted, normal, first, bind):
    """What the last step, which has no density here, leaves is a function of its time alone."""
    found = {}
    for credit, critic in (("return", None), ("path", value_of(Linear, normal, "first"))):
        loss = bind(GRPO, tilted, first, STRENGTH, base=normal, environment=WHITE, episodes=500,
                    credit=credit, scale="one", critic=critic, generator=seeded())  # fmt: skip
        found[credit] = loss.sample_batch(500)["advantage"].std()
    assert found["path"] < 0.1 * found["return"]


def test_a_learned_value_is_a_critic_under_conditions(bind):
    torch.manual_seed(0)
    policy = FlowMapPolicy(MLP(1, width=8, depth=1, classes=2), (1,))

    @af.reward
    def labelled(x, condition=None):
        return x[:, 0] + condition

    labels = torch.tensor([0, 1])
    value = af.learn_value(policy, labelled, steps=2, samples=16, batch_size=4, condition=labels)
    assert isinstance(value, LearnedValue)
    tuned = af.finetune(
        policy, labelled, "grpo", 1.0, steps=2, batch_size=8, episodes=8, condition=labels,
        critic=value,
    )  # fmt: skip
    assert all(parameter.isfinite().all() for parameter in tuned.parameters())


def test_dropped_episodes_have_no_advantage_beside_a_critic(normal, bind):
    @af.reward(on_invalid="drop")
    def half(x):
        return torch.where(x[:, 0] > 0, x[:, 0], torch.nan)

    for credit in CREDITS:
        loss = bind(GRPO, normal, half, 1.0, environment=WHITE, episodes=100, credit=credit,
                    critic=value_of(Linear, normal, "half"))  # fmt: skip
        batch = loss.sample_batch(100)
        dropped = batch["action"][:, -1, 0] <= 0
        assert (batch["advantage"][dropped] == 0).all()
        assert batch["advantage"].isfinite().all()


def test_a_critic_of_something_else_is_refused(normal, tilted, first, bind):
    linear = value_of(Linear, normal, "first")
    other = FlowMapPolicy(MLP(1, width=8, depth=1), (1,))
    for model, reward, strength, critic, message in (
        (other, first, 1.0, linear, "this value was learned for another policy"),
        (normal, lambda x: x[:, 0], 1.0, linear, "this value is of the reward 'first'"),
        (normal, first, 5.0, linear, "knows strengths from 0 to 4, got strength=5"),
        (normal, first, 1.0, "learned", "critic must be a learned value"),
        (normal, first, 1.0, math.log, "critic must be a learned value"),
    ):
        with pytest.raises(ValueError, match=message):
            bind(GRPO, model, reward, strength, critic=critic)
