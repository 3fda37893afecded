"""Policy gradient: its gradient beside backprop's, its optimum, its groups and its refusals."""

from functools import partial

import pytest
import torch
from tensordict import TensorDict

import alignflow as af
from alignflow.envs import DenoisingEnv
from alignflow.finetuning import GRPO
from alignflow.flow_map import FlowMap
from alignflow.modules import set_unregistered
from alignflow.policies import MLP, FlowMapPolicy
from alignflow.precision import autocast
from alignflow.transitions import SDE

STEPS = 4


class Nudged(FlowMap):
    """The velocity of N(0, 1) plus a line, with a parameter for each time of an episode."""

    def __init__(self, nudge):
        super().__init__((1,))
        self.nudge = torch.nn.Parameter(torch.as_tensor(nudge, dtype=torch.float64))

    def velocity(self, x, t, condition=None):
        t = torch.as_tensor(t, dtype=x.dtype).expand(len(x))
        slope = (2 * t - 1) / (t**2 + (1 - t) ** 2)
        nudge = self.nudge[(t * STEPS).round().long()]
        return (slope * x[:, 0] + nudge * (x[:, 0] + 0.5))[:, None]

    def average_velocity(self, x, s, t, condition=None):
        return self.velocity(x, s * 0)

    def flow_map(self, x, s, t, condition=None):
        return x


def by_backprop(policy, base, reward, strength, noise, scale="std"):
    """Minus the gradient of E[strength r - KLs], over the steps and the std of strength r, or 1."""
    x, kl, times = noise[0], 0.0, torch.linspace(0, 1, STEPS + 1).double()
    for k in range(STEPS):
        rows = {
            "state": x,
            "time": times[k].expand(len(x)),
            "target_time": times[k + 1].expand(len(x)),
        }
        moments = [
            SDE().moments(TensorDict({**rows, "velocity": model.velocity(x, times[k])}, [len(x)]))
            for model in (policy, base)
        ]
        (mean, std, _), (other, _, _) = moments
        if k < STEPS - 1:
            kl = kl + (mean - other).square()[:, 0] / (2 * std.square())
        x = mean + std[:, None] * noise[k + 1]
    scaled = strength * reward.score(x)
    divisor = scaled.detach().std() if scale == "std" else 1.0
    objective = (scaled - kl).mean() / divisor / (STEPS - 1)
    return -torch.autograd.grad(objective, policy.nudge)[0]


# steps that are exact for standard normal data
WHITE = partial(DenoisingEnv, transition={"name": "sde", "data_std": 1.0})


def still(base, reward, jitter, **options):
    """The environment with the times that the policy's parameters are for."""
    return DenoisingEnv(base, reward, STEPS, **options)


@pytest.mark.parametrize(
    ("strength", "credit", "scale"),
    [(0.3, "return", "std"), (1.5, "return", "std"), (1.5, "path", "one"), (1.5, "path", "std")],
)
def test_its_gradient_is_that_of_backprop_on_average(strength, credit, scale, bind):
    """Of the reverse KL of paths. A reward that is not linear, KLs that depend on the state: 60
    batches of 2,000 episodes beside 500,000 reparametrized ones, five standard errors of the first.
    The last step has no density: its own parameter is not the score's to move."""
    policy, base = Nudged([0.2, -0.3, 0.4, 0.1]), Nudged([0.0] * STEPS)
    reward = af.reward(differentiable=True, name="bowl")(lambda x: -(x[:, 0] - 1).square())
    loss = bind(GRPO, policy, reward, strength, environment=still, episodes=2000, base=base,
        generator=torch.Generator().manual_seed(0), credit=credit, scale=scale,
    ).double()  # fmt: skip
    found = []
    for _ in range(60):
        losses = loss(loss.sample_batch(2000))
        total = losses["loss_objective"] + losses["loss_kl"]
        found.append(torch.autograd.grad(total, policy.nudge)[0][:-1])
    found = torch.stack(found)
    noise = torch.randn(STEPS + 1, 500_000, 1, generator=torch.Generator().manual_seed(1)).double()
    exact = by_backprop(policy, base, reward, strength, noise, scale)[:-1]
    error = (found.mean(0) - exact).abs()
    assert (error < 5 * found.std(0) / 60**0.5).all()
    assert exact.abs().max() > 20 * (found.std(0) / 60**0.5).min()  # there is something to see


def test_a_normal_reaches_its_tilt_by_scores_alone(normal):
    """N(0, 1) and the reward x as a black box: the tilt is N(1, 1); few steps fall a bit short."""
    black_box = af.reward(lambda x: x[:, 0].tolist())
    tuned = af.finetune(
        normal, black_box, "grpo", 1.0, steps=300, batch_size=256, learning_rate=5e-3,
        ema_decay=0.98, environment=WHITE, generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    for steps in (1, 4):
        drawn = tuned.sample(20_000, steps, generator=torch.Generator().manual_seed(1))
        assert drawn.mean().item() == pytest.approx(1, abs=0.2)
        assert drawn.std().item() == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("scale", ["one", "std"])
def test_at_the_tilt_whole_paths_have_no_advantage_and_returns_have(scale, normal, bind):
    """The tilt of N(0, 1) by 0.7 x is N(0.7, 1), of which all steps but the last, which has no
    density here, are the base's tilted: what is left of 0.7 x - l is a line in x_0 at most."""

    class Tilted(type(normal)):
        def velocity(self, x, t, condition=None):
            shift = (1 - t) / (t**2 + (1 - t) ** 2)
            return super().velocity(x, t) + 0.7 * shift.reshape(-1, 1)

    policy, found = Tilted(normal.module, (1,)), {}
    first = af.reward(lambda x: x[:, 0])
    for credit in ("path", "return"):
        loss = bind(GRPO, policy, first, 0.7, base=normal, environment=WHITE, episodes=500,
            credit=credit, scale=scale, generator=torch.Generator().manual_seed(0),
        )  # fmt: skip
        found[credit] = loss.sample_batch(500)["advantage"].std()
    assert found["path"] < 0.2 * found["return"]


def test_the_mean_of_a_path_leaves_itself_out_and_counts_no_dropped_one(normal, first, bind):
    """Rewards 1, 3, 8 and a dropped one, log-ratios 0, 1, 0: returns 1, 2, 8."""
    held = bind(GRPO, normal, first, 1.0, environment=WHITE, episodes=4, credit="path",
        scale="one").episodes  # fmt: skip
    reward = torch.tensor([1.0, 3.0, 8.0, -torch.inf])
    log_ratio, groups = torch.tensor([0.0, 1.0, 0.0, 5.0]), torch.zeros(4, dtype=torch.int64)
    found = held._path_advantages(reward, log_ratio[:, None], groups)[:, 0]
    torch.testing.assert_close(found, torch.tensor([1 - 5.0, 2 - 4.5, 8 - 1.5, 0.0]))


def test_a_constant_reward_moves_nothing(normal, bind):
    loss = bind(GRPO, normal, lambda x: x[:, 0] * 0 + 3, 1.0, environment=DenoisingEnv, episodes=8)
    losses = loss(loss.sample_batch(8))
    assert losses["loss_objective"] == 0 and losses["loss_kl"] == 0
    assert losses["reward"] == 3


@pytest.mark.parametrize("episodes", [2, 3, 45, 256])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_any_constant_has_no_advantage_to_the_digit(normal, first, dtype, episodes, bind):
    """45 constants, of which sums in float32 miss several; nothing but the KLs is left then."""
    held = bind(GRPO, normal, first, 2.0, environment=DenoisingEnv, episodes=episodes).episodes
    kl, groups = torch.zeros(episodes, 3, dtype=dtype), torch.zeros(episodes, dtype=torch.int64)
    for value in [*(0.1 * k for k in range(1, 16)), *(-k / 7 for k in range(1, 16)),
                  *(3.0**k for k in range(-15, 15))][:45]:  # fmt: skip
        reward = torch.full((episodes,), value, dtype=dtype)
        advantage, weight = held._advantages(reward, kl, groups)
        assert (advantage == 0).all() and (weight == 1).all()


def test_constants_of_several_groups_have_no_advantage(bind):
    """Beside a dropped episode, and a group in which all of them were."""
    held = bind(GRPO, Nudged([0.0] * STEPS), lambda x: x[:, 0], 1.0, environment=still, episodes=9,
    ).episodes  # fmt: skip
    reward = torch.tensor([0.7, 1e6 / 3, 0.7, -torch.inf, 1e6 / 3, 0.7, 0.7, -torch.inf, 0.7])
    groups = torch.tensor([0, 1, 0, 2, 1, 0, 0, 0, 0])
    advantage, weight = held._advantages(reward, torch.zeros(9, 4), groups)
    assert (advantage == 0).all() and (weight == 1).all()


class Normalizing(torch.nn.Module):
    """What is another network in training mode: dropout, and statistics of the batch."""

    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(4, 32), torch.nn.BatchNorm1d(32), torch.nn.SiLU(),
            torch.nn.Dropout(0.3), torch.nn.Linear(32, 2),
        )  # fmt: skip

    def forward(self, x, s, t):
        return self.layers(torch.cat([x, s[:, None], t[:, None]], -1))


@pytest.mark.parametrize("drawn", [20, 64])
@pytest.mark.parametrize("around", ["the loss", "both"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("network", [Normalizing, lambda: MLP(2, width=64, depth=3)])
@pytest.mark.filterwarnings("ignore:this processor has no arithmetic in bf16")
def test_ratios_on_fresh_episodes_are_one_to_the_digit(network, precision, around, drawn, bind):
    torch.manual_seed(0)
    policy = FlowMapPolicy(network(), (2,)).train()
    loss = bind(GRPO, policy, lambda x: x[:, 0], 1.0, environment=DenoisingEnv, episodes=64)
    loss.train()
    ratios = []

    class Noting(torch.nn.Module):
        """The ratios that the loss forms, by the densities that it is given."""

        def __init__(self, actor):
            super().__init__()
            self.actor = actor

        def get_dist(self, steps):
            distribution = self.actor.get_dist(steps)
            ratios.append(distribution)
            return distribution

    set_unregistered(loss, actor=Noting(loss.actor))
    for _ in range(3):
        with autocast(precision if around == "both" else "fp32"):
            batch = loss.sample_batch(drawn)
        with autocast(precision):
            losses = loss(batch)
        density = ratios.pop().log_prob(batch["action"].flatten(0, 1))
        assert torch.equal(density, batch["action_log_prob"].flatten())
        sum(losses[name] for name in losses.keys() if name.startswith("loss")).backward()
        with torch.no_grad():  # the policy that the next episodes are drawn from is another one
            for parameter in policy.parameters():
                parameter.sub_(1e-2 * parameter.grad)
    assert policy.training and policy.module.training


def test_dropped_episodes_count_for_nothing(normal, bind):
    """Half of the ends have no reward, and the others' mean and deviation are their own."""

    @af.reward(on_invalid="drop")
    def half(x):
        return torch.where(x[:, 0] > 0, x[:, 0], torch.nan)

    loss = bind(GRPO, normal, half, 1.0, environment=DenoisingEnv, episodes=400)
    batch = loss.sample_batch(400)
    kept = batch["action"][:, -1, 0] > 0
    advantage = batch["advantage"][:, 0]
    assert (advantage[~kept] == 0).all()
    # at the base there is no KL yet: a group's advantages are its standardized rewards
    assert advantage[kept].mean().abs() < 1e-5
    assert advantage[kept].std(correction=0).item() == pytest.approx(1, abs=1e-4)
    losses = loss(batch)
    assert all(torch.isfinite(value) for value in losses.values())


def test_advantages_compare_episodes_of_one_condition(bind):
    torch.manual_seed(0)
    policy = FlowMapPolicy(MLP(1, width=8, depth=1, classes=3), (1,))

    @af.reward
    def labelled(x, condition=None):
        return x[:, 0] + 100 * condition

    loss = bind(
        GRPO, policy, labelled, 1.0, environment=partial(DenoisingEnv, steps=2), episodes=400,
        condition=torch.tensor([0, 2]),
    )  # fmt: skip
    batch = loss.sample_batch(400)
    for label in (0, 2):
        chosen = batch["condition"][:, 0] == label
        advantage = batch["advantage"][chosen]
        assert advantage.mean(0).abs().max() < 1e-4 and advantage.abs().max() < 10


def test_episodes_are_held_and_drawn_anew_when_due(normal, first, bind):
    loss = bind(GRPO, normal, first, 1.0, environment=DenoisingEnv, episodes=16, refresh_every=2)
    states = [loss.sample_batch(16)["state"].flatten().sort().values for _ in range(3)]
    assert torch.equal(states[0], states[1]) and not torch.equal(states[1], states[2])
    assert loss.sample_batch(5).batch_size == (5, 8)


def test_a_ratio_is_clipped(normal, first, bind):
    loss = bind(GRPO, normal, first, 1.0, environment=DenoisingEnv, episodes=64)
    batch = loss.sample_batch(64)
    assert loss(batch)["clipped_fraction"] == 0
    batch["action_log_prob"] = batch["action_log_prob"] - 1.0
    assert loss(batch)["clipped_fraction"] == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"episodes": 1}, "episodes must be a whole number of at least 2, got 1"),
        ({"refresh_every": 0}, "refresh_every must be a whole number of at least 1"),
        ({"clip": 1.0}, r"clip must be a fraction in \(0, 1\), got 1.0"),
        ({"credit": "all"}, "credit must be one of path, return, got 'all'"),
        ({"scale": "two"}, "scale must be one of one, std, got 'two'"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message, normal, first, bind):
    with pytest.raises(ValueError, match=message):
        bind(GRPO, normal, first, 1.0, environment=DenoisingEnv, **options)


def test_groups_of_one_are_refused(bind):
    policy = FlowMapPolicy(MLP(1, width=8, depth=1, classes=30), (1,))
    loss = bind(GRPO, policy, lambda x: x[:, 0], 1.0, environment=DenoisingEnv, episodes=2,
        condition=torch.arange(30), generator=torch.Generator().manual_seed(2),
    )  # fmt: skip
    with pytest.raises(ValueError, match="a condition of its own"):
        loss.sample_batch(2)
