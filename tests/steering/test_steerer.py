"""The run over the grid: costs, micro-batches, conditions, a frozen model, the printed graph."""

import importlib.util
import inspect
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from tensordict import TensorDict

import alignflow as af
from alignflow.corrections import TiltCorrection
from alignflow.policies import MLP, FlowMapPolicy
from alignflow.posteriors import FlowMapPosterior
from alignflow.resampling import Single
from alignflow.steering import METHODS, Nodes, Steerer
from alignflow.targets import Empirical, GaussianMixture
from alignflow.transitions import Euler
from alignflow.values import Gradient, LearnedValue

DIMENSION = 3
ROOT = Path(__file__).parents[2]


@pytest.fixture
def policy() -> FlowMapPolicy:
    torch.manual_seed(0)
    network = MLP(DIMENSION, width=16, depth=2, classes=4)
    return FlowMapPolicy(network.double(), (DIMENSION,))


def reward_function(endpoint, condition=None):
    return endpoint.sin().sum(-1)


def smooth(**options) -> af.Reward:
    return af.reward(reward_function, differentiable=True, **options)


def standard_normal() -> GaussianMixture:
    eye = torch.eye(DIMENSION, dtype=torch.float64)
    return GaussianMixture(eye[0, :1], 0 * eye[:1], eye[None])


# what a method needs on a network that is neither a target nor a stochastic map
NEEDS = {
    "mfm_g": {"posterior": "glass"},
    "mfm_gf": {"posterior": "glass"},
    "search": {"posterior": "glass"},
    "exact": {"target": standard_normal()},
    "reno": {"iterations": 3},
    "custom": {
        "posterior": {"name": "renoised", "snr_ratio": 3.0},
        "value": "gradient",
        "corrections": ["tilt", {"name": "clipped", "scale": 2.0}],
        "transition": {"name": "sde", "noise": 0.5},
        "draws": 4,
        "t_min": 0.1,
    },
}


def options_of(policy, reward: af.Reward, method: str, transition: str | None = None) -> dict:
    """Options under which a method runs, with a transition if it goes with it."""
    options = dict(NEEDS.get(method, {}))
    if method == "value_guidance":
        options["value"] = af.learn_value.build(policy, reward).value
    known = inspect.signature(METHODS[method]).parameters
    if transition is not None and "transition" in known and method not in ("twisted_smc", "custom"):
        options["transition"] = transition
    return options


class Hooks:
    """An independent count, by hooks on the network and around the reward."""

    def __init__(self, network: torch.nn.Module):
        names = ("nfe", "vjps", "reward_calls", "reward_vjps")
        self.counts: dict[str, int] = dict.fromkeys(names, 0)
        self.watch(network)
        self.reward = af.reward(self._reward, differentiable=True)

    def watch(self, network: torch.nn.Module):
        network.register_forward_hook(lambda module, args, out: self._count("nfe", "vjps", out))

    def _reward(self, endpoint):
        return self._count("reward_calls", "reward_vjps", endpoint.sin().sum(-1))

    def _count(self, forward: str, backward: str, out: torch.Tensor) -> torch.Tensor:
        self.counts[forward] += len(out)
        if out.requires_grad:
            out.register_hook(lambda gradient: self.counts.update(
                {backward: self.counts[backward] + len(gradient)}))  # fmt: skip
        return out


@pytest.mark.parametrize("micro_batch_size", [None, 2])
@pytest.mark.parametrize("guidance", [1.0, 2.0])
@pytest.mark.parametrize("transition", [None, "heun"])
@pytest.mark.parametrize("method", list(METHODS))
def test_the_cost_is_what_hooks_count_and_what_the_nodes_say(
    policy, method, transition, guidance, micro_batch_size
):
    if method == "value_guidance" and guidance != 1:
        pytest.skip("a value is of the policy without guidance")
    n, hooks = 3, Hooks(policy.module)
    options = options_of(policy, hooks.reward, method, transition)
    if "value" in options and isinstance(options["value"], LearnedValue):
        hooks.watch(options["value"].network)
    steerer = af.steer(policy, hooks.reward, method=method, steps=3, guidance=guidance,
                       micro_batch_size=micro_batch_size, **options)  # fmt: skip
    for _ in range(2):
        hooks.counts.update(dict.fromkeys(hooks.counts, 0))
        out = steerer.sample(n, condition=torch.tensor([0, 1, 2]))
        counted = {name: out[name].item() for name in hooks.counts}
        assert {name: n * count for name, count in counted.items()} == hooks.counts
        assert counted == dict(steerer.cost.items())


def test_the_cost_of_an_integrated_flow_is_that_of_its_velocity():
    network = torch.nn.Linear(DIMENSION, DIMENSION)
    hooks = Hooks(network)
    policy = af.from_velocity(lambda x, t: network(x), (DIMENSION,))
    out = af.steer(policy, hooks.reward, steps=3).sample(4)
    assert out["nfe"] > 6 and 4 * out["nfe"] == hooks.counts["nfe"]
    # the solver's last look ahead, one of each jump, is counted though no gradient needs it
    assert 0 <= out["vjps"] - hooks.counts["vjps"] / 4 <= 3


@pytest.mark.parametrize("method", ["fmrg_j", "fmrg_e", "lookahead"])
def test_on_straight_lines_a_step_takes_one_forward_guided_or_not(policy, method):
    """Whose endpoint an unguided step, here the last, goes to by itself: it is the map's jump."""
    hooks = Hooks(policy.module)
    steerer = af.steer(policy, hooks.reward, method=method, steps=12, transition="straight")
    condition = torch.tensor([0, 1, 2])
    seen = []
    out = steerer.sample(
        3, condition=condition, callback=lambda k, batch: seen.append(batch["state"])
    )
    assert out["nfe"] == 12 == hooks.counts["nfe"] / 3 == steerer.cost.nfe
    if method == "lookahead":
        return  # guided to its end
    expected = policy.flow_map(seen[-2], steerer.times[-2], 1.0, condition)
    torch.testing.assert_close(seen[-1], expected)


def test_the_default_is_the_lookahead_with_one_network_call_for_each_of_its_two_jumps(policy):
    out = af.steer(policy, smooth()).sample(2)
    counts = [out[name].item() for name in ("nfe", "vjps", "reward_calls", "reward_vjps")]
    assert counts == [16, 8, 9, 8]


@pytest.mark.parametrize(("method", "particles"), [("lookahead", 1), ("best_of_n", 4)])
def test_the_result_has_one_sample_of_each_system_and_all_its_particles(policy, method, particles):
    steerer = af.steer(policy, smooth(), method=method, particles=particles, draws=1, steps=2)
    out = steerer.sample(5)
    assert out["state"].shape == (5, DIMENSION) and out["reward"].shape == (5,)
    assert out["particles"].batch_size == (5, particles)
    assert out["particles", "state"].shape == (5, particles, DIMENSION)
    assert out["particles", "log_weight"].shape == (5, particles)
    torch.testing.assert_close(out["reward"], reward_function(out["state"]))
    torch.testing.assert_close(out["reward"], out["particles", "reward"].max(1).values)
    assert not any(value.requires_grad for value in out.values(True, True))


@pytest.mark.parametrize("size", [1, 5])
@pytest.mark.parametrize("transition", [None, "heun"])
@pytest.mark.parametrize("method", list(METHODS))
def test_micro_batches_change_nothing(policy, method, transition, size):
    reward = smooth()
    options = {"method": method, "steps": 3, **options_of(policy, reward, method, transition)}
    samples = [
        af.steer(policy, reward, micro_batch_size=micro_batch_size, **options).sample(
            7, condition=torch.arange(7) % 4, generator=torch.Generator().manual_seed(0)
        )
        for micro_batch_size in (None, size)
    ]
    # the costs may differ: what all draws of a row share is evaluated for each part of them
    whole, parts = (out.select("state", "reward", "particles").to_dict() for out in samples)
    torch.testing.assert_close(whole, parts, rtol=1e-10, atol=1e-12)


def test_the_same_generator_gives_the_same_samples_and_the_global_one_is_not_touched(policy):
    steerer = af.steer(policy, smooth(), method="importance", steps=2)
    before = torch.get_rng_state()
    first, again = (steerer.sample(4, generator=torch.Generator().manual_seed(7)) for _ in "ab")
    assert torch.equal(first["state"], again["state"])
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_the_model_is_left_as_it_was(policy, training, fails):
    policy.train(training)
    next(policy.parameters()).requires_grad_(False)
    needed = [parameter.requires_grad for parameter in policy.parameters()]
    weight = torch.nn.Parameter(torch.ones(DIMENSION, dtype=torch.float64))

    def function(endpoint):
        assert not policy.training
        return (endpoint @ weight) / (0.0 if fails else 1.0)

    steerer = af.steer(policy, af.reward(function, differentiable=True), steps=2)
    if fails:
        with pytest.raises(af.RewardError):
            steerer.sample(2)
    else:
        steerer.sample(2)
    assert policy.training == policy.module.training == training
    assert [parameter.requires_grad for parameter in policy.parameters()] == needed
    assert all(parameter.grad is None for parameter in [*policy.parameters(), weight])


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_the_callers_gradient_mode_makes_no_difference(policy, mode):
    steerer = af.steer(policy, smooth(), method="dps", steps=3)
    with mode():
        out = steerer.sample(3, 1, generator=torch.Generator().manual_seed(0))
    expected = steerer.sample(3, 1, generator=torch.Generator().manual_seed(0))
    assert torch.equal(out["state"], expected["state"]) and not out["state"].requires_grad


def test_no_graph_is_carried_from_step_to_step(policy):
    seen = []
    steerer = af.steer(policy, smooth(), method="dps", transition="heun", steps=4)
    steerer.sample(2, callback=lambda step, td: seen.append(
        any(value.requires_grad or value.grad_fn for value in td.values(True, True))))  # fmt: skip
    assert seen == [False] * 4


def test_the_callback_sees_every_step_and_the_trajectory_is_its_states(policy):
    states, steps = [], []

    def callback(step, tensordict):
        steps.append((step, tensordict["time"][0].item()))
        states.append(tensordict["state"])

    steerer = af.steer(policy, smooth(), steps=4)
    generator = torch.Generator().manual_seed(0)
    out = steerer.sample(3, generator=generator, callback=callback, return_trajectory=True)
    assert steps == [(0, 0.25), (1, 0.5), (2, 0.75), (3, 1.0)]
    noise = policy.noise(3, torch.Generator().manual_seed(0))
    torch.testing.assert_close(out["trajectory"], torch.stack([noise, *states], dim=1))
    torch.testing.assert_close(out["trajectory"][:, -1], out["state"])
    assert "trajectory" not in steerer.sample(3).keys()


def test_the_trajectory_of_several_particles_is_that_of_the_chosen_one(policy):
    steerer = af.steer(policy, smooth(), method="best_of_n", particles=5, steps=3)
    out = steerer.sample(4, return_trajectory=True)
    assert out["trajectory"].shape == (4, 4, DIMENSION)
    torch.testing.assert_close(out["trajectory"][:, -1], out["state"])


def test_particles_of_a_system_share_its_condition(policy):
    reward = af.reward(lambda endpoint, condition: condition.double())
    steerer = af.steer(policy, reward, method="best_of_n", particles=3, steps=1)
    out = steerer.sample(2, condition=torch.tensor([1, 3]))
    assert out["particles", "reward"].tolist() == [[1.0] * 3, [3.0] * 3]


@pytest.mark.parametrize("condition", [2, torch.tensor(2), torch.tensor([2])], ids=repr)
def test_one_condition_serves_all_systems(policy, condition):
    steerer = af.steer(policy, smooth(), steps=2)
    one = steerer.sample(3, condition, torch.Generator().manual_seed(0))
    each = steerer.sample(3, torch.tensor([2, 2, 2]), torch.Generator().manual_seed(0))
    other = steerer.sample(3, 1, torch.Generator().manual_seed(0))
    assert torch.equal(one["state"], each["state"]) and not torch.equal(
        one["state"], other["state"]
    )


def test_a_nested_condition_is_passed_on_by_rows():
    def function(x, s, t, condition):
        return x + condition["shift"] * (t - s)[:, None]

    condition = TensorDict({"shift": torch.tensor([[0.0, 0.0], [5.0, 5.0]])}, batch_size=[2])
    steerer = af.steer(
        af.from_flow_map(function, (2,)), lambda x: x.sum(-1), method="best_of_n", particles=3,
        steps=2, micro_batch_size=2,
    )  # fmt: skip
    noise = torch.randn(6, 2, generator=torch.Generator().manual_seed(0)).reshape(2, 3, 2)
    out = steerer.sample(2, condition, torch.Generator().manual_seed(0))
    expected = noise + condition["shift"][:, None]
    torch.testing.assert_close(out["particles", "state"], expected)


@pytest.mark.parametrize("method", ["fmtt", "glass", "diamond_smc", "best_of_n"])
def test_a_condition_of_text_goes_with_its_particles_through_micro_batches(method):
    shifts = {"left": -1.0, "right": 1.0, "up": 0.5}

    def by_text(x, s, t, condition):
        shift = torch.tensor([shifts[text] for text in condition])
        return x + (t - s)[:, None] * shift[:, None]

    def function(endpoint, condition):
        return endpoint.sum(-1) * torch.tensor([shifts[text] for text in condition])

    reward = af.reward(function, differentiable=True)
    policy = af.from_flow_map(by_text, (2,))
    whole, parts = (
        af.steer(policy, reward, method, steps=3, micro_batch_size=size).sample(
            3, condition=["left", "right", "up"], generator=0
        )
        for size in (None, 2)
    )
    torch.testing.assert_close(whole["state"], parts["state"])
    expected = function(whole["state"], ["left", "right", "up"])
    torch.testing.assert_close(whole["reward"], expected)


def test_guidance_is_that_of_the_guided_model(policy):
    out = af.steer(policy, smooth(), strength=0.0, steps=3, guidance=2.5).sample(
        4, 1, torch.Generator().manual_seed(0)
    )
    generator = torch.Generator().manual_seed(0)
    label = torch.tensor(1)
    expected = policy.sample(4, steps=3, condition=label, guidance=2.5, generator=generator)
    torch.testing.assert_close(out["state"], expected)


@pytest.mark.parametrize("method", ["mfm_g", "mfm_gf", "search"])
def test_a_stochastic_map_is_guided_and_its_two_forwards_are_counted(policy, method):
    stochastic, condition = policy.with_context(), torch.tensor([0, 1, 2])
    hooks = Hooks(stochastic.module)
    options = {"method": method, "steps": 3, "guidance": 2.0}
    out = af.steer(stochastic, hooks.reward, **options).sample(3, condition=condition)
    assert 3 * out["nfe"].item() == hooks.counts["nfe"]
    assert 3 * out["vjps"].item() == hooks.counts["vjps"]


@pytest.mark.parametrize("method", ["lookahead", "twisted_smc", "reno"])
def test_one_steerer_in_four_threads_gives_each_its_samples_and_costs(method):
    """Twenty samples a thread, of a model that is in training mode and stays so."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(DIMENSION + 2, 16), torch.nn.Dropout(0.5),
                                  torch.nn.SiLU(), torch.nn.Linear(16, DIMENSION))  # fmt: skip

    class Dropping(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network

        def forward(self, x, s, t):
            return self.network(torch.cat([x, s[:, None], t[:, None]], 1))

    policy = FlowMapPolicy(Dropping().double(), (DIMENSION,)).train()
    next(policy.parameters()).requires_grad_(False)
    needed = [parameter.requires_grad for parameter in policy.parameters()]
    options = {"iterations": 4} if method == "reno" else {}
    steerer = af.steer(policy, smooth(), method, steps=4, **options)

    def sample(seed: int) -> dict:
        generator = torch.Generator().manual_seed(seed)
        return steerer.sample(1 + seed % 3, generator=generator).to_dict()

    serial = [sample(seed) for seed in range(80)]
    with ThreadPoolExecutor(4) as threads:
        parallel = list(threads.map(sample, range(80)))
    for one, other in zip(serial, parallel, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    assert all(module.training for module in policy.modules())
    assert [parameter.requires_grad for parameter in policy.parameters()] == needed


def test_a_reward_that_steers_is_not_charged_for_it(policy):
    inner = af.steer(policy, smooth(), steps=2)
    outer = af.steer(policy, lambda x: inner.sample(len(x))["reward"], "best_of_n", steps=2)
    alone = af.steer(policy, smooth(), "best_of_n", steps=2)
    costs = [{k: v.item() for k, v in s.sample(2).items() if v.ndim == 0} for s in (outer, alone)]
    assert costs[0] == costs[1]


class FirstLogit(torch.nn.Module):
    def forward(self, x, time, fraction):
        return x[:, 0, 0]


@pytest.mark.parametrize("method", list(METHODS))
def test_states_of_tokens_need_no_special_case(method):
    policy = af.from_flow_map(lambda x, s, t: x * (1 + t - s)[:, None, None], (5, 7))
    reward = af.reward(lambda x: x.softmax(-1)[:, 0, 0], differentiable=True)
    if method == "exact":
        options = {"target": Empirical(torch.randn(9, 5, 7))}
    elif method == "value_guidance":
        network = FirstLogit()
        options = {"value": af.learn_value.build(policy, reward, network=network).value}
    else:
        options = options_of(policy, reward, method)
    out = af.steer(policy, reward, method=method, steps=3, **options).sample(4)
    assert out["state"].shape == (4, 5, 7) and torch.isfinite(out["state"]).all()


def test_rewards_see_what_the_policy_decodes(policy):
    policy.decode = lambda x: 10 * x
    out = af.steer(policy, lambda x: x[:, 0], method="best_of_n", steps=1).sample(3)
    torch.testing.assert_close(out["reward"], 10 * out["state"][:, 0])


def test_the_steps_before_t_min_are_the_bases(policy):
    grid = torch.tensor([0.0, 0.2, 0.6, 1.0])
    steerer = af.steer(policy, smooth(), method="lookahead_weighted", grid=grid, t_min=0.2)
    out = steerer.sample(3, generator=torch.Generator().manual_seed(0), return_trajectory=True)
    base = policy.flow_map(policy.noise(3, torch.Generator().manual_seed(0)), 0.0, 0.2)
    torch.testing.assert_close(out["trajectory"][:, 1], base)
    assert (out["nfe"].item(), out["vjps"].item()) == (5, 2)


def test_the_printed_graph_shows_nodes_keys_and_cost(policy):
    text = str(af.steer(policy, smooth(), method="dps", transition="heun", strength=2.0, steps=4))
    rows = {line.split("  ")[0]: line.split() for line in text.splitlines()}
    assert rows["DenoiserPosterior()"][1:] == "1 0 0 0".split()
    assert "DenoiserPosterior() 1 0 0 0 state, time -> endpoint, denoiser, velocity" in (
        " ".join(text.split())
    )
    assert rows["Gradient(reward_function, strength=2)"][-4:] == ["0", "1", "1", "1"]
    assert "4 steps from noise to data, guided from t = 0.01; 1 particle a system" in text
    # a first step of the base; two guided ones of two evaluations; a last one of a single one
    assert rows["one system, all steps"][-4:] == ["7", "5", "6", "5"]


@pytest.mark.parametrize("method", list(METHODS))
def test_the_printed_graph_fits_80_columns_and_loses_nothing(policy, method):
    reward = af.Reward(reward_function, "a_reward_of_a_name_" * 4, differentiable=True)
    options = options_of(policy, reward, method) | ({"particles": 999} if method == "fk" else {})
    strength = 3.21456 if method == "value_guidance" else 123.456
    steerer = af.steer(policy, reward, method, strength=strength, steps=1000, **options)
    lines = str(steerer).splitlines()
    assert max(map(len, lines)) <= 80
    said = " ".join(str(steerer).split())
    keys = [key for group in steerer.groups(500) for node in group for key in node.makes]
    assert all(key in said for key in keys)
    totals = " ".join(str(value) for _, value in steerer.cost.items())
    assert said.endswith(f"one system, all steps {totals}")


def test_a_notebook_shows_it_as_a_table_with_its_text_escaped(policy):
    reward = af.Reward(reward_function, "<b>", differentiable=True)
    shown = af.steer(policy, reward, "dps", steps=4)._repr_html_()
    assert "<td>Gradient(&lt;b&gt;, strength=1)</td><td>state, endpoint</td>" in shown
    assert "<td>one system, all steps</td><td></td><td></td><td>4</td><td>3</td>" in shown
    assert shown.count("<tr>") == shown.count("</tr>") == 8


def test_the_flowchart_joins_each_reader_to_the_last_writer_of_a_key(policy):
    lines = af.steer(policy, smooth(), method="dps", steps=4).mermaid().splitlines()
    assert lines[0] == "flowchart LR"
    assert '    n0 -- "endpoint" --> n1' in lines and '    n0 -- "velocity" --> n4' in lines
    assert '    given -- "state" --> n1' in lines and '    n2 -- "correction" --> n4' in lines


READ = """
import pickle, sys, torch
for path in sys.argv[1:]:
    with open(path, "rb") as file:
        steerer, expected = pickle.load(file)
    out = steerer.sample(3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(out.to_dict(), expected, rtol=0, atol=0)
"""


def test_a_steerer_of_each_method_pickles_into_a_fresh_process(policy, tmp_path):
    """Whose reward is a function of a module that the process can import."""
    (tmp_path / "my_rewards.py").write_text("def wavy(x):\n    return x.sin().sum(-1)\n")
    spec = importlib.util.spec_from_file_location("my_rewards", tmp_path / "my_rewards.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules["my_rewards"] = module
    paths = []
    for method in METHODS:
        reward = af.Reward(module.wavy, differentiable=True)
        steerer = af.steer(policy, reward, method, steps=3, **options_of(policy, reward, method))
        out = steerer.sample(3, generator=torch.Generator().manual_seed(0))
        paths.append(tmp_path / method)
        paths[-1].write_bytes(pickle.dumps((steerer, out.to_dict())))
    del sys.modules["my_rewards"]
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-c", READ, *map(str, paths)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_custom_nodes_make_a_steerer(policy):
    def build(model, tilt):
        return Nodes(
            posterior=FlowMapPosterior(model),
            value=Gradient(model, tilt),
            corrections=(TiltCorrection(),),
            transition=Euler(),
            resampler=Single(),
            t_min=0.1,
        )

    custom = Steerer(policy, af.Tilt(smooth()), build, torch.linspace(0, 1, 5))
    named = af.steer(policy, smooth(), "lookahead_weighted", steps=4, t_min=0.1, transition="euler")
    steered, expected = (
        steerer.sample(3, generator=torch.Generator().manual_seed(0)) for steerer in (custom, named)
    )
    torch.testing.assert_close(steered["state"], expected["state"])


def test_a_graph_with_a_key_that_nobody_makes_is_refused_when_built(policy):
    def build(model, tilt):
        return Nodes(
            transition=Euler(), corrections=(TiltCorrection(),), resampler=Single(), t_min=0.1
        )

    with pytest.raises(
        ValueError, match=r"TiltCorrection\(\) lacks the key 'value_gradient'.*Gradient"
    ):
        Steerer(policy, af.Tilt(smooth()), build, torch.linspace(0, 1, 5))
