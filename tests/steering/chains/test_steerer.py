"""The run of a chain: what it returns and costs, errors that say where, and what is refused."""

import math

import pytest
import torch
from tensordict import TensorDict

import alignflow as af
from alignflow.cost import Cost

METHODS = {
    "waltz": ("waltz", {"posterior": "glass", "inner_steps": 2}),
    "waltz, draws and replicas": (
        "waltz",
        {"draws": 3, "particles": 2, "acceptance": 0.5, "inner_steps": 1},
    ),
    "slice": ("source_mcmc", {"kernel": "slice", "jumps": 2}),
    "slice, replicas": ("source_mcmc", {"kernel": "slice", "particles": 2}),
    "pcnl": ("source_mcmc", {"kernel": "pcnl", "particles": 2}),
    "pcnl, tempering": (
        "source_mcmc",
        {"kernel": "pcnl", "particles": 5, "population": "tempering"},
    ),
}
SHIFTS = {"left": -1.0, "right": 1.0, "up": 0.5}


@pytest.fixture(params=METHODS)
def chosen(request):
    method, options = METHODS[request.param]
    return {"method": method, "steps": 4, "strength": 3.0} | options


def shifted() -> af.FlowMap:
    """Of N(shift, I), the shift by a condition of text."""

    def flow_map(x, s, t, condition):
        shift = torch.tensor([SHIFTS[text] for text in condition]).to(x)[:, None]
        start, end = (((1 - r) ** 2 + r**2).sqrt()[:, None] for r in (s, t))
        return (x - s[:, None] * shift) * end / start + t[:, None] * shift

    return af.from_flow_map(flow_map, (2,))


def near(endpoint, condition):
    target = torch.tensor([SHIFTS[text] for text in condition]).to(endpoint)
    return -(endpoint[:, 0] - target).square()


@pytest.mark.parametrize("size", [1, 3])
def test_rows_keep_their_condition_and_micro_batches_change_nothing(chosen, size):
    conditions = ["left", "right", "up"]
    reward = af.reward(near, differentiable=True)
    whole, parts = (
        af.steer(shifted(), reward, micro_batch_size=m, **chosen | {"strength": 20.0}).sample(
            6, condition=conditions * 2, generator=0, return_chain=True
        )
        for m in (None, size)
    )
    keys = ("state", "reward", "chain", "chain_reward", "chain_accepted", "particles")
    for key in keys:
        torch.testing.assert_close(whole[key], parts[key], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(whole["reward"], near(whole["state"], conditions * 2))
    assert whole["reward"].mean() > whole["chain_reward"][:, 0].mean()


def test_the_chain_is_returned_from_the_base_to_the_sample(normal, smooth, chosen):
    steerer = af.steer(normal, smooth, **chosen)
    seen = []
    out = steerer.sample(
        5,
        generator=2,
        callback=lambda step, batch: seen.append((step, batch["state"])),
        return_trajectory=True,
        return_chain=True,
    )
    assert [step for step, _ in seen] == [0, 1, 2, 3]
    assert out["chain"].shape == out["trajectory"].shape == (5, 5, 2)
    assert out["chain_reward"].shape == (5, 5) and out["chain_accepted"].shape == (5, 4)
    torch.testing.assert_close(out["chain"][:, -1], out["state"])
    torch.testing.assert_close(smooth(out["chain"].flatten(0, 1)), out["chain_reward"].flatten())
    last = slice(steerer.particles - 1, None, steerer.particles)
    base = normal.flow_map(normal.noise(5 * steerer.particles, 2), 0.0, 1.0)
    if chosen.get("population") == "tempering":
        each = base.unflatten(0, (5, -1))
        assert torch.isclose(each, out["chain"][:, :1]).all(2).any(1).all()
    else:
        torch.testing.assert_close(out["chain"][:, -1], seen[-1][1][last])
        torch.testing.assert_close(out["chain"][:, 0], base[last])
    if steerer.particles == 1:
        stayed = (out["chain"][:, 1:] == out["chain"][:, :-1]).all(2)
        assert torch.equal(stayed, ~out["chain_accepted"])
    assert not {"chain", "trajectory"} & set(steerer.sample(2).keys())


def test_a_seed_gives_the_same_chain_and_leaves_the_global_generator(normal, smooth, chosen):
    steerer = af.steer(normal, smooth, **chosen)
    before = torch.get_rng_state()
    first, again, other = (steerer.sample(4, generator=seed)["state"] for seed in (3, 3, 4))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)


class Counting(torch.nn.Module):
    """A network that counts its rows."""

    rows = 0

    def forward(self, x, s, t):
        self.rows += len(x)
        return -x * (0.1 + s - t)[:, None]


def test_a_slice_costs_what_its_shrinking_rows_cost():
    network = Counting()
    policy = af.FlowMapPolicy(network, (2,))
    steerer = af.steer(policy, lambda x: -10 * x.square().sum(-1), "source_mcmc", kernel="slice",
                        steps=5, jumps=2)  # fmt: skip
    out = steerer.sample(8, generator=0)
    assert round(8 * out["nfe"].item()) == network.rows == round(16 * out["reward_calls"].item())
    # one try a step, of two jumps, and the first sample
    assert steerer.cost == Cost(nfe=12, reward_calls=6) and out["nfe"] > 12
    assert "5 steps of a chain, of 1 to 32 tries each (counted as 1)" in str(steerer)


def test_the_steps_are_printed_with_their_default(normal, smooth):
    assert "32 steps of a chain from a sample of 4 jumps; 1 particle" in " ".join(
        str(af.steer(normal, smooth, "waltz")).split()
    )
    steerer = af.steer(normal, smooth, "waltz", draws=3, particles=2, steps=5)
    assert steerer.cost == Cost(nfe=2 * (4 + 5 * 3), reward_calls=2 * (1 + 5 * 3))
    assert steerer.base_steps == 4 and steerer.steps == 5


def test_the_default_posterior_is_the_stochastic_map_where_there_is_one(normal, smooth):
    assert "StochasticMapPosterior" in str(af.steer(normal, smooth, "waltz"))
    bare = af.from_flow_map(lambda x, s, t: x, (2,))
    assert "GLASSPosterior(draws=1, inner_steps=3, heun)" in str(
        af.steer(bare, smooth, "waltz", inner_steps=3)
    )


def test_a_dropped_sample_is_left_and_never_accepted(normal, chosen):
    """A reward that is no number left of 0, and depends on nothing right of it."""

    def right(x):
        return torch.where(x[:, 0] > 0, 0.1 * x[:, 1], math.nan)

    reward = af.Reward(right, differentiable=True, on_invalid="drop")
    out = af.steer(normal, reward, **chosen | {"steps": 30}).sample(
        40, generator=0, return_chain=True
    )
    valid = out["chain_reward"] > -math.inf
    assert not valid[:, 0].all() and valid[:, -1].all()
    if out["particles"].batch_size[1] == 1:
        assert (valid[:, 1:] >= valid[:, :-1]).all()


def test_a_sample_that_was_never_valid_has_no_weight(normal):
    never = af.Reward(lambda x: torch.full((len(x),), math.nan), on_invalid="drop")
    out = af.steer(normal, never, "waltz", steps=3).sample(4, generator=0)
    assert (out["reward"] == -math.inf).all()
    assert (out["particles", "log_weight"] == -math.inf).all()


def failing(call: int):
    """A reward of which one number is none, at the call of that index."""
    calls = iter(range(1000))

    def function(x):
        reward = x.sum(-1)
        if next(calls) == call:
            reward[1] = math.nan
        return reward

    return function


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (0, "at the start of the chain: reward 'function' is not finite for samples 1"),
        (3, r"at step 2: reward 'function' is not finite for samples 1 \(nan\) of 4$"),
    ],
)
def test_an_error_of_the_reward_says_the_step_and_the_sample(normal, call, message):
    with pytest.raises(af.RewardError, match=message):
        af.steer(normal, failing(call), "waltz", steps=4).sample(4, generator=0)


def test_an_error_in_a_shrunken_slice_says_among_which_rows(normal):
    reward = af.Reward(failing(2), "sum")
    with pytest.raises(af.RewardError, match=r"at step 0: .* samples 1 .*among the rows \[\d"):
        af.steer(normal, reward, "source_mcmc", kernel="slice", strength=50.0).sample(
            9, generator=0
        )


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("waltz", {"grid": [0.0, 0.5, 1.0]}, r"grid=\[0.0, 0.5, 1.0\] would do nothing.*'waltz'"),
        ("source_mcmc", {"grid": "cosine"}, "grid='cosine' would do nothing"),
        ("waltz", {"posterior": "flow_map"}, r"FlowMapPosterior\(\) is a point: use 'glass'"),
        ("waltz", {"posterior": "renoised"}, "a waltz needs several of them: take draws=16"),
        ("waltz", {"t_min": 0.5, "t_max": 0.5}, "t_min must be below t_max, got 0.5 and 0.5"),
        ("waltz", {"t_max": 1.0}, r"t_max must be a fraction in \(0, 1\), got 1.0"),
        ("waltz", {"acceptance": 0.0}, r"acceptance must be a fraction in \(0, 1\), got 0.0"),
        ("waltz", {"jumps": 0}, "jumps must be a whole number of at least 1"),
        ("waltz", {"steps": 0}, "steps must be a whole number of at least 1"),
        ("waltz", {"transition": "euler"}, "does not take transition"),
        ("source_mcmc", {"draws": 2}, "draws=2 would do nothing.*methods that take draws: .*waltz"),
        ("source_mcmc", {"t_min": 0.1}, "does not take t_min"),
        ("waltz", {"population": "tempering"}, "so it takes several: particles=64, say"),
        (
            "waltz",
            {"particles": 4, "population": "islands"},
            "population must be one of exchange, tempering, got 'islands'",
        ),
        (
            "waltz",
            {"particles": 4, "population": {"name": "tempering", "threshold": 1.0}},
            r"threshold must be a fraction in \(0, 1\), got 1.0",
        ),
        (
            "waltz",
            {"particles": 4, "population": {"name": "tempering", "scheme": "none"}},
            "scheme must be one of systematic, .*got 'none'",
        ),
        ("source_mcmc", {"kernel": "hmc"}, "kernel must be one of pcn, pcnl, slice, got 'hmc'"),
        (
            "source_mcmc",
            {"kernel": {"name": "slice", "step_size": 0.1}},
            "kernel 'slice' does not take step_size; it takes tries",
        ),
        ("source_mcmc", {"kernel": {"name": "slice", "tries": 0}}, "tries must be a whole number"),
        ("source_mcmc", {"kernel": {"name": "pcn", "step_size": 0}}, r"step_size must be .*\(0, 1"),
        (
            "source_mcmc",
            {"kernel": {"name": "pcn", "step_size": 0.1, "acceptance": 0.3}},
            "beside step_size=0.1 it would do nothing",
        ),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(normal, smooth, method, options, message):
    with pytest.raises(ValueError, match=message):
        af.steer(normal, smooth, method, **options)


def test_a_gradient_of_a_black_box_is_refused_with_what_does_without(normal):
    with pytest.raises(ValueError, match="needs the gradient .*use one of .*waltz, source_mcmc"):
        af.steer(normal, lambda x: x[:, 0], "source_mcmc", kernel="pcnl")


def test_guidance_is_that_of_the_guided_model():
    def flow_map(x, s, t, condition=None):
        return x + (t - s)[:, None] * (0.0 if condition is None else condition[:, None])

    policy, condition = af.from_flow_map(flow_map, (2,)), torch.tensor([1.0, 2.0, 3.0])
    options = {"strength": 0.0, "kernel": {"name": "pcn", "step_size": 1e-3}, "steps": 1}
    reward, guided = lambda x: x[:, 0], {"guidance": 3.0} | options
    out = af.steer(policy, reward, "source_mcmc", **guided).sample(3, condition, generator=0)
    noise = policy.noise(3, 0)
    torch.testing.assert_close(out["state"], noise + 3 * condition[:, None], atol=0.01, rtol=0)
    nested = TensorDict({"shift": condition}, [3])
    plain = af.from_flow_map(lambda x, s, t, condition: x + condition["shift"][:, None], (2,))
    assert af.steer(plain, reward, "waltz", steps=2).sample(3, nested)["state"].shape == (3, 2)
