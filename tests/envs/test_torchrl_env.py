"""The torchrl environment: its specs, its rollouts against the SDE, its rewards and refusals."""

import pytest
import torch
from tensordict import TensorDict
from torchrl.collectors import Collector
from torchrl.envs import ParallelEnv, RewardSum, SerialEnv, TransformedEnv, check_env_specs

import alignflow as af
from alignflow.conditions import as_given, count_rows
from alignflow.envs import DenoisingEnv, StepDistribution, denoising_actor
from alignflow.policies import MLP, FlowMapPolicy, from_velocity
from alignflow.steering.registry import build_transition
from alignflow.targets import ring, ring_reward
from alignflow.transitions import SDE


@pytest.fixture(scope="module")
def policy():
    torch.manual_seed(0)
    return FlowMapPolicy(MLP(2, width=16, depth=2), (2,))


@pytest.fixture
def labelled():
    torch.manual_seed(0)
    return FlowMapPolicy(MLP(2, width=16, depth=2, classes=4), (2,))


@pytest.mark.parametrize("num_envs", [1, 5])
def test_its_specs_are_what_it_does(num_envs, policy):
    check_env_specs(DenoisingEnv(policy, ring_reward(), 3, num_envs=num_envs))


def test_its_specs_hold_with_conditions_and_several_at_once(labelled):
    def make():
        return DenoisingEnv(labelled, ring_reward(), 3, condition=torch.tensor([0, 2]), num_envs=4)

    check_env_specs(make())
    check_env_specs(SerialEnv(2, make))


@pytest.mark.parametrize("jitter", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_its_specs_are_of_the_policys_precision(dtype, jitter):
    torch.manual_seed(0)
    policy = FlowMapPolicy(MLP(2, width=16, depth=2), (2,)).to(dtype)
    env = DenoisingEnv(policy, lambda x: x[:, 0], 3, num_envs=4, jitter=jitter)
    assert env.action_spec.dtype == env.observation_spec["time"].dtype == dtype
    check_env_specs(env)
    path = env.rollout(3, denoising_actor(policy))
    assert path["state"].dtype == path["action"].dtype == path["time"].dtype == dtype
    assert path["next", "reward"].dtype == torch.promote_types(dtype, torch.float32)
    torch.testing.assert_close(
        path["next", "reward"][:, -1, 0], path["action"][:, -1, 0].to(path["next", "reward"])
    )


def test_an_image_is_a_state_too():
    policy = af.from_velocity(lambda x, t: -x, event_shape=(3, 4, 4))
    check_env_specs(DenoisingEnv(policy, lambda x: x.mean((1, 2, 3)), 2, num_envs=3))


@pytest.mark.parametrize("choice", ["sde", {"name": "sde", "noise": 0.5}, "anchored"])
def test_a_rollout_of_the_policy_is_that_of_the_sampler(choice):
    """The transition's steps by hand, from the same noise and with the same draws."""
    target, n, steps = ring(), 6, 5
    env = DenoisingEnv(target, ring_reward(), steps, num_envs=n, seed=3)
    torch.manual_seed(7)
    path = env.rollout(100, denoising_actor(target, choice))
    assert path.batch_size == (n, steps)

    transition = build_transition(choice, target)
    torch.manual_seed(7)
    state = target.noise(n, torch.Generator().manual_seed(3))
    times = torch.linspace(0, 1, steps + 1)
    for k in range(steps):
        rows = {
            "state": state,
            "time": times[k].expand(n),
            "target_time": times[k + 1].expand(n),
            "velocity": target.velocity(state, times[k].item()),
            "step_noise": torch.randn(n, 2),
        }
        state = transition(TensorDict(rows, batch_size=n))["state"]
        torch.testing.assert_close(path["next", "state"][:, k], state, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(path["next", "reward"][:, -1, 0], ring_reward().score(state))
    assert (path["next", "reward"][:, :-1] == 0).all()
    assert path["next", "done"][:, -1].all() and not path["next", "done"][:, :-1].any()


@pytest.mark.parametrize("shape", [(), (3,), (3, 2)])
def test_the_log_density_of_an_action_is_that_of_a_normal(shape, generator):
    loc = torch.randn(4, *shape, 2, generator=generator).double()
    scale = torch.tensor([0.0, 0.1, 1.0, 2.0]).double()
    distribution = StepDistribution(loc, scale)
    value = loc + torch.randn(loc.shape, generator=generator).double()
    for row in range(1, 4):
        normal = torch.distributions.Normal(loc[row], scale[row])
        torch.testing.assert_close(
            distribution.log_prob(value)[row], normal.log_prob(value[row]).sum()
        )
        torch.testing.assert_close(distribution.entropy()[row], normal.entropy().sum())
    assert distribution.log_prob(value)[0] == 0 == distribution.entropy()[0]
    assert torch.equal(distribution.sample()[0], loc[0])


def test_the_actor_s_density_is_that_of_the_transition(policy):
    env = DenoisingEnv(policy, ring_reward(), 4, num_envs=3)
    path = env.rollout(4, denoising_actor(policy))
    for k in range(3):
        step = path[:, k]
        time, target = step["time"][:, 0], step["target_time"][:, 0]
        with torch.no_grad():
            velocity = policy.velocity(step["state"], time)
        rows = {"state": step["state"], "time": time, "target_time": target, "velocity": velocity}
        mean, std, _ = SDE().moments(TensorDict(rows, batch_size=3))
        normal = torch.distributions.Normal(mean, std[:, None])
        expected = normal.log_prob(step["action"]).sum(1)
        torch.testing.assert_close(step["action_log_prob"], expected, rtol=1e-4, atol=1e-4)
    assert (path["action_log_prob"][:, -1] == 0).all()


def test_gradients_of_the_density_reach_the_policy(policy):
    env = DenoisingEnv(policy, ring_reward(), 3, num_envs=2)
    actor = denoising_actor(policy)
    with torch.no_grad():
        path = env.rollout(3, actor)
    distribution = actor.get_dist(path.reshape(-1))
    distribution.log_prob(path["action"].reshape(-1, 2)).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in policy.parameters())
    policy.zero_grad()


def test_the_policy_s_actions_cost_no_kl_and_another_s_do(policy):
    torch.manual_seed(1)
    other = FlowMapPolicy(MLP(2, width=16, depth=2), (2,))
    env = DenoisingEnv(policy, lambda x: x[:, 0] * 0, 4, num_envs=500, kl_weight=1.0)
    path = env.rollout(4, denoising_actor(policy))
    assert path["next", "reward"].abs().max() < 1e-4
    with torch.no_grad():
        path = env.rollout(4, denoising_actor(other))
    total = path["next", "reward"].sum(1)[:, 0]
    # minus a KL on average: 500 episodes, five standard errors
    assert total.mean() < -5 * total.std() / 500**0.5


def test_rows_that_ended_are_reset_and_others_go_on(policy):
    env = DenoisingEnv(policy, ring_reward(), 3, num_envs=4)
    first = env.reset()
    moved = env.step(first.set("action", first["state"] + 1))["next"]
    again = moved.clone().set("_reset", torch.tensor([True, False, False, True])[:, None])
    fresh = env.reset(again)
    assert fresh["step"][:, 0].tolist() == [0, 1, 1, 0]
    assert torch.equal(fresh["state"][1:3], moved["state"][1:3])
    assert not torch.equal(fresh["state"][0], moved["state"][0])


def test_jitter_moves_inner_times_by_up_to_half_a_gap(policy):
    env = DenoisingEnv(policy, ring_reward(), grid=[0.0, 0.2, 0.6, 1.0], num_envs=200, jitter=True)
    check_env_specs(env)
    path = env.rollout(3)
    assert (path["time"][:, 0] == 0).all() and (path["next", "time"][:, 2] == 1).all()
    torch.testing.assert_close(path["next", "time"][:, :2], path["time"][:, 1:])
    torch.testing.assert_close(path["target_time"], path["next", "time"])
    for k, (low, high) in ((1, (0.1, 0.4)), (2, (0.4, 0.8))):
        time = path["time"][:, k, 0]
        assert low <= time.min() < low + 0.03 and high - 0.03 < time.max() <= high


def test_one_seed_is_one_start(policy):
    env = DenoisingEnv(policy, ring_reward(), 3, num_envs=4)
    starts = []
    for seed in (5, 5, 6):
        env.set_seed(seed)
        starts.append(env.reset()["state"])
    assert torch.equal(starts[0], starts[1]) and not torch.equal(starts[0], starts[2])


def test_conditions_reach_the_policy_and_the_reward(labelled):
    seen = []

    @af.reward
    def noted(x, condition=None):
        seen.append(condition)
        return condition.float()

    env = DenoisingEnv(labelled, noted, 2, condition=torch.tensor([1, 3]), num_envs=8)
    path = env.rollout(2, denoising_actor(labelled))
    assert set(seen[0].tolist()) <= {1, 3}
    torch.testing.assert_close(path["next", "reward"][:, -1, 0], path["condition"][:, -1].float())


def test_what_is_no_action_is_refused(policy):
    env = DenoisingEnv(policy, ring_reward(), 1, num_envs=2)
    first = env.reset()
    with pytest.raises(ValueError, match="1 of 2 actions hold NaN or infinity"):
        env.step(first.clone().set("action", torch.tensor([[0.0, 1.0], [torch.inf, 0.0]])))
    ended = env.step(first.set("action", torch.zeros(2, 2)))["next"]
    with pytest.raises(ValueError, match="stepped beyond its end"):
        env.step(ended.set("action", torch.zeros(2, 2)))
    with pytest.raises(ValueError, match="kl_weight needs the actor's `action_log_prob`"):
        penalized = DenoisingEnv(policy, ring_reward(), 2, kl_weight=1.0)
        penalized.rollout(2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_envs": 0}, "num_envs must be a whole number of at least 1"),
        ({"kl_weight": -1.0}, "kl_weight must be a finite number of at least 0"),
        ({"steps": 0}, "steps must be a whole number of at least 1"),
        ({"transition": "euler"}, "transition must be 'sde' or 'anchored', got 'euler'"),
        ({"num_envs": 2.5}, "num_envs must be a whole number"),
        ({"seed": -1}, "seed must be a whole number of at least 0"),
        ({"jitter": "yes"}, "jitter must be true or false"),
        ({"grid": "even"}, "grid must be increasing times, got 'even'"),
        ({"condition": []}, "condition must be one or several, got none"),
        ({"grid": [0.5, 1.0]}, "an episode goes from time 0 to time 1"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message, policy):
    with pytest.raises(ValueError, match=message):
        DenoisingEnv(policy, ring_reward(), **options)


def test_a_reward_that_fails_says_so(policy):
    env = DenoisingEnv(policy, lambda x: x[:, 0] * torch.nan, 1, num_envs=2)
    with pytest.raises(af.RewardError, match="not finite for samples 0"):
        env.rollout(1)


def make_env():
    torch.manual_seed(0)
    policy = FlowMapPolicy(MLP(2, width=8, depth=1), (2,))
    return DenoisingEnv(policy, ring_reward(), 2, num_envs=3)


def test_it_runs_in_parallel_processes():
    env = ParallelEnv(2, make_env)
    try:
        path = env.rollout(2)
        assert path.batch_size == (2, 3, 2) and path["next", "done"][:, :, -1].all()
    finally:
        env.close()


def test_collectors_and_transforms_take_it(policy):
    env = TransformedEnv(DenoisingEnv(policy, ring_reward(), 2, num_envs=3), RewardSum())
    collector = Collector(env, denoising_actor(policy), frames_per_batch=12, total_frames=24)
    for batch in collector:
        assert batch.batch_size == (3, 4)
        ended = batch["next", "done"][..., 0]
        # an episode's return is the reward of its end
        found = batch["next", "episode_reward"][..., 0][ended]
        torch.testing.assert_close(found, batch["next", "reward"][..., 0][ended])
        assert (batch["step"][:, 2] == 0).all()
    collector.shutdown()


def test_ppo_of_torchrl_learns_on_it_as_it_is(policy, generator):
    """With its clipped loss, advantage and value network; the reward is the first number."""
    from torchrl.modules import MLP as Network
    from torchrl.modules import ValueOperator
    from torchrl.objectives import ClipPPOLoss
    from torchrl.objectives.value import GAE

    torch.manual_seed(0)
    tuned = FlowMapPolicy(MLP(2, width=32, depth=2), (2,))
    env = DenoisingEnv(tuned, lambda x: x[:, 0].clamp(-3, 3), 4, num_envs=128)
    actor = denoising_actor(tuned)
    critic = ValueOperator(
        Network(in_features=3, out_features=1, num_cells=[32]), in_keys=["state", "time"]
    )
    advantage = GAE(gamma=1.0, lmbda=0.95, value_network=critic)
    loss = ClipPPOLoss(actor, critic, entropy_bonus=False, normalize_advantage=True)
    optimizer = torch.optim.Adam(loss.parameters(), lr=3e-3)
    means = []
    for _ in range(15):
        with torch.no_grad():
            path = env.rollout(4, actor)
        means.append(path["next", "reward"][:, -1].mean().item())
        advantage(path)
        for _ in range(4):
            losses = loss(path.reshape(-1))
            optimizer.zero_grad()
            sum(losses[key] for key in ("loss_objective", "loss_critic")).backward()
            optimizer.step()
    # 128 episodes of rewards between -3 and 3: a mean's standard error is at most 0.27
    assert means[-1] > means[0] + 5 * 0.27 * 2**0.5 / 2


@pytest.mark.parametrize("policy", [3, None, [], af.FlowMapPolicy])
def test_what_is_no_policy_is_refused(policy):
    with pytest.raises(ValueError, match="^policy must be a flow map, got "):
        af.envs.DenoisingEnv(policy, lambda x: x[:, 0], steps=2)
    with pytest.raises(ValueError, match="^policy must be a flow map, got "):
        af.envs.denoising_actor(policy)


KINDS = {
    "labels": torch.tensor([3, 1]),
    "texts": ["a cat", "a dog"],
    "a mapping": {"prompt": ["a cat", "a dog"], "size": torch.tensor([3, 1])},
}


@pytest.mark.parametrize("conditions", KINDS.values(), ids=KINDS)
def test_conditions_of_any_kind_are_drawn_for_rows_that_start_anew_alone(conditions):
    seen = []

    def reward(x, condition):
        seen.append(condition)
        return x[:, 0]

    policy = from_velocity(lambda x, t, condition=None: -x, (2,))
    env = DenoisingEnv(policy, reward, steps=2, num_envs=6, condition=conditions)
    first = env.reset()
    again = first.clone().set("_reset", torch.tensor([[True]] * 3 + [[False]] * 3))
    second = env.reset(again)
    assert not torch.equal(first["state"][:3], second["state"][:3])
    for key in ("state", "condition"):
        before, after = (as_given(found.get(key)[3:]) for found in (first, second))
        assert str(before) == str(after)
    path = env.rollout(2, env.actor())
    assert count_rows(seen[-1]) == 6 and path["next", "reward"].shape == (6, 2, 1)
