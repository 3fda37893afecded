"""The gymnasium environment: its checker, its registration, its vector form, its pictures."""

import subprocess
import sys
import warnings
from functools import partial
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env

import alignflow as af
from alignflow.targets import ring, ring_reward

NAME = "alignflow.envs:alignflow/Denoising-v0"
ROOT = Path(__file__).parents[2]


def make(**options):
    options = {"policy": ring(), "reward": ring_reward(), "steps": 3} | options
    return gymnasium.make(NAME, **options)


@pytest.mark.parametrize("render_mode", [None, "rgb_array"])
def test_its_checker_has_nothing_to_say_but_of_boxes_without_bounds(render_mode):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        check_env(make(render_mode=render_mode).unwrapped)
    unbounded = ("infinity", "symmetric and normalized")
    assert [
        str(w.message) for w in said if not any(word in str(w.message) for word in unbounded)
    ] == []


def test_it_is_made_by_name_without_an_import():
    code = (
        "import gymnasium; env = gymnasium.make("
        f"{NAME!r}, policy='ring', reward='ring', steps=2); "
        "env.reset(seed=0); print(env.step(env.action_space.sample())[2])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr


def test_an_episode_is_the_way_that_its_actions_say():
    env = make()
    observed, _ = env.reset(seed=3)
    again, _ = env.reset(seed=3)
    np.testing.assert_array_equal(observed["state"], again["state"])
    assert observed["time"] == 0
    for k in range(3):
        action = np.array([3.0 - k, 2.0], dtype=np.float32)
        observed, reward, terminated, truncated, _ = env.step(action)
        np.testing.assert_array_equal(observed["state"], action)
        assert observed["time"] == pytest.approx((k + 1) / 3)
        assert terminated == (k == 2) and not truncated
        assert reward == pytest.approx(-0.15 * 4 if k == 2 else 0.0)


def test_many_at_once_are_the_same_process_and_start_anew():
    envs = gymnasium.make_vec(
        NAME, num_envs=5, vectorization_mode="vector_entry_point",
        policy=ring(), reward=ring_reward(), steps=2,
    )  # fmt: skip
    observed, _ = envs.reset(seed=1)
    assert observed["state"].shape == (5, 2)
    actions = np.arange(10, dtype=np.float32).reshape(5, 2)
    _, rewards, ended, _, _ = envs.step(actions)
    assert not ended.any() and (rewards == 0).all()
    _, rewards, ended, _, _ = envs.step(actions)
    assert ended.all()
    expected = ring_reward().score(torch.from_numpy(actions)).numpy()
    np.testing.assert_allclose(rewards, expected, rtol=1e-6)
    observed, rewards, ended, _, _ = envs.step(actions)
    assert (observed["time"] == 0).all() and not ended.any() and (rewards == 0).all()
    with pytest.raises(ValueError, match="num_envs must be a whole number of at least 1"):
        gymnasium.make_vec(
            NAME, num_envs=0, vectorization_mode="vector_entry_point",
            policy=ring(), reward=ring_reward(),
        )  # fmt: skip


def vector(n: int, **options):
    options = {"policy": ring(), "reward": ring_reward(), "steps": 3} | options
    made = gymnasium.make_vec(NAME, num_envs=n, vectorization_mode="vector_entry_point", **options)
    return made.unwrapped


def test_each_of_many_starts_by_its_seed_as_one_alone_does():
    labels = {"condition": torch.arange(5)}
    reward = af.reward(lambda x, condition: condition.float())
    envs, one = vector(3, **labels), make(reward=reward, **labels)
    alone = {seed: one.reset(seed=seed)[0] for seed in (4, 5, 6, 11)}
    for seeds, each in [(4, [4, 5, 6]), ([11, 5, 4], [11, 5, 4]), (np.int64(4), [4, 5, 6])]:
        observed, _ = envs.reset(seed=seeds)
        for key in ("state", "condition", "time"):
            np.testing.assert_array_equal(observed[key], np.stack([alone[s][key] for s in each]))
    first, _ = envs.reset(seed=[4, 5, 6])
    second, _ = envs.reset()  # each goes on with its generator
    envs.reset(seed=[4, 5, 6])
    third, _ = envs.reset(seed=[4, None, None])
    np.testing.assert_array_equal(third["state"][0], first["state"][0])
    np.testing.assert_array_equal(third["state"][1:], second["state"][1:])
    assert not (first["state"] == second["state"]).any()


@pytest.mark.parametrize("seed", [[1, 2], [1, 2, 3, 4], -1, 2.5, "seed", [1, 2, -1]])
def test_seeds_that_are_none_or_too_few_are_refused(seed):
    with pytest.raises(ValueError, match="seed"):
        vector(3).reset(seed=seed)


@pytest.mark.parametrize("n", [1, 2, 4])
def test_actions_for_another_number_of_episodes_are_refused(n):
    envs = vector(3)
    envs.reset(seed=0)
    with pytest.raises(ValueError, match=f"3 episodes take 3 actions, got {n}"):
        envs.step(np.zeros((n, 2), dtype=np.float32))


def test_many_at_once_move_their_inner_times_each_by_its_shift():
    for env in (make(jitter=True).unwrapped, vector(5, jitter=True)):
        observed, _ = env.reset(seed=0)
        times, action = [observed["time"]], np.zeros_like(observed["state"])
        for _ in range(3):
            times.append(env.step(action)[0]["time"])
        inner = np.stack(times[1:3]) * 3 - np.array([1, 2]).reshape(2, *[1] * times[0].ndim)
        assert (times[0] == 0).all() and (times[3] == 1).all()
        assert (np.abs(inner) <= 0.5).all() and (inner != 0).all()
        np.testing.assert_allclose(inner[0], inner[1], atol=1e-5)
        assert len(np.unique(inner[0])) == inner[0].size


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_states_actions_and_times_are_of_the_policys_precision(dtype):
    policy = af.policies.FlowMapPolicy(af.policies.MLP(2, width=4, depth=1), (2,)).to(dtype)
    kind = {torch.float64: np.float64, torch.float16: np.float16}.get(dtype, np.float32)
    env = make(policy=policy, reward=lambda x: x[:, 0]).unwrapped
    assert env.action_space.dtype == env.observation_space["time"].dtype == kind
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_env(env)
    envs = vector(3, policy=policy, reward=lambda x: x[:, 0])
    assert envs.reset(seed=0)[0] in envs.observation_space
    action = np.array([[1 / 3, 0.0]] * 3, dtype=kind)
    observed, *_ = envs.step(action)
    assert observed in envs.observation_space
    if dtype == torch.float64:
        np.testing.assert_array_equal(observed["state"], action)


def test_conditions_are_observed():
    env = make(
        condition=torch.tensor([1, 3]), reward=af.reward(lambda x, condition: condition.float())
    )
    observed, _ = env.reset(seed=0)
    assert observed["condition"] in (1, 3)
    for _ in range(3):
        _, reward, *_ = env.step(np.zeros(2, dtype=np.float32))
    assert reward == observed["condition"]


def test_states_are_shown_as_what_they_are():
    env = make(render_mode="rgb_array")
    env.reset(seed=0)
    env.step(np.array([4.0, 0.0], dtype=np.float32))
    shown = env.render()
    assert shown.shape == (256, 256, 3) and shown.dtype == np.uint8
    red = (shown == (200, 60, 30)).all(-1)
    rows, columns = np.nonzero(red)
    assert abs(rows.mean() - 127) < 2 and columns.mean() > 200  # on the right, in the middle

    image = af.from_velocity(lambda x, t: -x, event_shape=(3, 16, 16))
    env = make(policy=image, reward=lambda x: x.mean((1, 2, 3)), render_mode="rgb_array")
    env.reset(seed=0)
    assert env.render().shape == (256, 256, 3)

    other = af.from_velocity(lambda x, t: -x, event_shape=(5,))
    env = make(policy=other, reward=lambda x: x.mean(1), render_mode="rgb_array")
    env.reset(seed=0)
    with pytest.raises(NotImplementedError, match=r"got states of shape \(5,\)"):
        env.render()


def test_actions_that_are_no_states_are_refused():
    env = make().unwrapped
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"of shape \(2,\), got \(3,\)"):
        env.step(np.zeros(3, dtype=np.float32))
    with pytest.raises(ValueError, match="1 of 1 actions hold NaN"):
        env.step(np.array([np.nan, 0.0], dtype=np.float32))
    for _ in range(3):
        env.step(np.zeros(2, dtype=np.float32))
    with pytest.raises(ValueError, match="stepped beyond its end"):
        env.step(np.zeros(2, dtype=np.float32))


@pytest.mark.parametrize("kind", [af.envs.DenoisingGym, partial(af.envs.DenoisingVectorGym, 2)])
def test_what_it_is_made_of_is_refused_by_name(kind):
    with pytest.raises(ValueError, match="^render_mode must be one of .*did you mean 'rgb_array'"):
        kind(ring(), ring_reward(), "rgb_aray")
    for policy in (3, [ring()], af.FlowMapPolicy):
        with pytest.raises(ValueError, match="^policy must be a flow map, got "):
            kind(policy, ring_reward())
    with pytest.raises(ValueError, match="^condition must be a tensor, or .*, got {}"):
        kind(ring(), ring_reward(), condition={})
