"""The front door: what `finetune` takes, leaves alone, logs and refuses."""

import json
from functools import partial
from pathlib import Path

import pytest
import torch
import yaml
from hydra.utils import instantiate

import alignflow as af
from alignflow.envs import DenoisingEnv
from alignflow.finetuning import METHODS, Method, Problem, Tuner
from alignflow.finetuning.runs.monitor import Monitor
from alignflow.ode import integrate
from alignflow.policies import MLP, FlowMapPolicy
from alignflow.targets import GaussianMixture, Linear

TINY = {"steps": 2, "batch_size": 8, "annealing_stages": 1}
# others draw tokens, and have tests of their own
OF_ANY_STATE = [name for name, kind in METHODS.items() if not kind.needs_logits]
NEEDED = {"grpo": {"environment": partial(DenoisingEnv, steps=2)}}
CONFIGS = Path(__file__).parents[2] / "configs" / "finetuner"


def tiny(method):
    """What the shortest run of a method takes."""
    return TINY | NEEDED.get(method, {})


@pytest.mark.parametrize("method", OF_ANY_STATE)
def test_a_tuned_policy_is_new_and_the_old_one_is_untouched(method, normal, first, generator):
    before = {k: v.clone() for k, v in normal.state_dict().items()}
    tuned = af.finetune(normal, first, method, generator=generator, **tiny(method))
    torch.testing.assert_close(dict(normal.state_dict()), before, rtol=0, atol=0)
    assert type(tuned) is type(normal) and not tuned.training
    moved = dict(tuned.named_parameters())
    assert any(not torch.equal(moved[name], p) for name, p in normal.named_parameters())
    assert all(p.requires_grad for p in tuned.parameters())


@pytest.mark.parametrize("method", OF_ANY_STATE)
def test_parameters_that_were_frozen_stay_where_they_are(method, first, generator):
    policy = FlowMapPolicy(MLP(1, width=8, depth=2), (1,))
    policy.module.first.requires_grad_(False)
    tuned = af.finetune(policy, first, method, generator=generator, **tiny(method))
    assert torch.equal(tuned.module.first.weight, policy.module.first.weight)
    assert not tuned.module.first.weight.requires_grad
    assert not torch.equal(tuned.module.rest[-1].weight, policy.module.rest[-1].weight)
    policy.requires_grad_(False)
    tuned = af.finetune(policy, first, method, generator=generator, **tiny(method))
    assert not torch.equal(tuned.module.first.weight, policy.module.first.weight)


@pytest.mark.parametrize("method", OF_ANY_STATE)
def test_build_checks_all_and_touches_nothing_and_run_is_the_call(
    method, normal, generator, tmp_path
):
    scored = []

    @af.reward(differentiable=True)
    def first(x):
        scored.append(len(x))
        return x[:, 0]

    options = tiny(method) | {"folder": tmp_path / "run"}
    options |= {"held_out": {"same": first}, "early_stop": 3.0}
    before = generator.get_state()
    built = af.finetune.build(normal, first, method, generator=generator, **options)
    assert not scored and not any(tmp_path.iterdir())
    assert torch.equal(generator.get_state(), before)
    with pytest.raises(ValueError, match="steps must be a whole number"):
        af.finetune.build(normal, first, method, generator=generator, **options | {"steps": 0})
    found, generator = built.run(), generator.set_state(before)
    options["folder"] = tmp_path / "again"
    called = af.finetune(normal, first, method, generator=generator, **options)
    torch.testing.assert_close(dict(found.state_dict()), dict(called.state_dict()), rtol=0, atol=0)
    assert scored


@pytest.mark.parametrize("method", OF_ANY_STATE)
def test_conditions_reach_policy_and_reward(method, generator):
    scored, trained, frozen = set(), set(), set()

    class Labelled(MLP):
        def forward(self, x, s, t, condition=None):
            assert condition.shape == (len(x),)
            learns = torch.is_grad_enabled() and self.first.weight.requires_grad
            (trained if learns else frozen).update(condition.tolist())
            return super().forward(x, s, t, condition)

    @af.reward(differentiable=True)
    def labelled(x, condition=None):
        assert condition.shape == (len(x),)
        scored.update(condition.tolist())
        return x[:, 0] / (1 + condition)

    policy = FlowMapPolicy(Labelled(1, width=8, depth=2, classes=3), (1,))
    for conditions, all_of_them in ((torch.tensor([0, 2]), {0, 2}), (1, {1})):
        for seen in (scored, trained, frozen):
            seen.clear()
        options = {"condition": conditions, "generator": generator} | tiny(method)
        af.finetune(policy, labelled, method, **options)
        assert scored == trained == frozen == all_of_them


@pytest.mark.parametrize("method", OF_ANY_STATE)
def test_half_precision_and_any_option_of_the_trainer_are_passed_on(method, normal, first):
    seen = []
    af.finetune(
        normal,
        first,
        method,
        precision="bf16",
        log_every=1,
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=1e-3),
        progress=lambda step, steps, metrics: seen.append((step, steps)),
        **tiny(method),
    )
    assert seen == [(1, 2), (2, 2)]


def test_a_folder_gets_metrics_of_the_reward_the_distance_and_the_diversity(
    normal, first, tmp_path
):
    settings = {
        "checkpoint_every": 1,
        "log_every": 1,
        "held_out": {"square": lambda x: x[:, 0] ** 2},
    }
    af.finetune(
        normal,
        first,
        folder=tmp_path,
        evaluate=lambda step, model: {"mine": step},
        **TINY,
        **settings,
    )
    files = {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*")}
    assert files == {"metrics.jsonl", "tensorboard", "checkpoint", "evaluated"}
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    names = set().union(*rows)
    assert {"reward", "held_out_square", "diversity", "sliced_w2", "displacement"} <= names
    assert {"loss_diagonal", "loss_map", "ess_fraction", "gradient_norm", "mine"} <= names


def test_the_monitor_sees_a_shift_for_what_it_is(normal, first):
    moved = FlowMapPolicy(lambda x, s, t: normal.module(x, s, t), (1,))
    monitor = Monitor(normal, first)
    still = monitor(0, moved)
    assert still["displacement"] == 0 and still["sliced_w2"] == 0
    further = Monitor(normal, first, steps=1)(
        0, FlowMapPolicy(lambda x, s, t: normal.module(x, s, t) + 0.5, (1,))
    )
    assert further["displacement"] == pytest.approx(0.25, rel=1e-4)
    assert further["reward"] == pytest.approx(still["reward"] + 0.5, abs=1e-4)


def test_the_monitor_knows_how_far_the_exact_tilt_is(normal, first):
    """N(1, 1) is the tilt of N(0, 1), whose samples are 1 away, and whose own are at it: 256 of
    them and 2,048, in one dimension; distances of means are five standard errors off at most."""
    target = GaussianMixture(torch.ones(1), torch.zeros(1, 1), torch.ones(1, 1, 1))
    tilted = target.tilted(Linear(torch.ones(1)), 1.0)
    monitor = Monitor(normal, first, tilt=tilted)
    far = monitor(0, normal)["tilt_sliced_w2"]
    near = monitor(0, FlowMapPolicy(lambda x, s, t: normal.module(x, s, t) + 1.0, (1,)))
    assert far == pytest.approx(1.0, abs=5 / 256**0.5)
    assert near["tilt_sliced_w2"] < 5 / 256**0.5 and abs(near["tilt_mmd"]) < 0.05


def held_out_rewards():
    return {"negative": lambda x: -x[:, 0]}


@pytest.mark.parametrize("again", [False, True])
def test_a_fall_of_a_held_out_reward_stops_it_and_hands_back_what_was_before(
    again, normal, first, tmp_path
):
    calls = []
    options = {"steps": 400, "batch_size": 32, "learning_rate": 1e-2, "checkpoint_every": 10}
    options |= {"held_out": held_out_rewards(), "early_stop": 3.0, "ema_decay": 0.5}
    options |= {"folder": tmp_path, "progress": lambda step, steps, metrics: calls.append(step)}
    with pytest.warns(UserWarning, match="stopped: held_out_negative has fallen from"):
        tuned = af.finetune(normal, first, "tilt", 4.0, **options)
    assert max(calls) < 400
    if again:  # a run that has stopped is not trained on
        calls.clear()
        same = af.finetune(normal, first, "tilt", 4.0, **options)
        assert not calls
        torch.testing.assert_close(dict(same.state_dict()), dict(tuned.state_dict()))
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    means = [row["held_out_negative"] for row in rows if "held_out_negative" in row]
    found = Monitor(normal, first, held_out_rewards())(0, tuned)["held_out_negative"]
    # the checkpoint before the last, or the base where that was the first
    assert found == pytest.approx(means[-2] if len(means) > 1 else 0.0, abs=0.1)
    assert found > means[-1]


def test_without_a_fall_nothing_stops(normal, first, tmp_path):
    options = {"held_out": {"same": first}, "early_stop": 3.0, "checkpoint_every": 1}
    tuned = af.finetune(normal, first, folder=tmp_path, **TINY, **options)
    assert not torch.equal(tuned.module.change.first.weight, normal.module.change.first.weight)


@pytest.mark.parametrize("stages", [1, 2])
def test_recentering_learns_the_tuned_distribution_again(stages, normal, first, tmp_path):
    options = {
        "steps": 4,
        "batch_size": 8,
        "recentering": 3,
        "folder": tmp_path,
        "annealing_stages": stages,
    }
    tuned = af.finetune(normal, first, "tilt", 1.0, log_every=1, **options)
    place = tmp_path / "level_2" if stages == 2 else tmp_path
    lines = (place / "recentering" / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == 3 and "loss_diagonal" in lines[0]
    assert all(p.requires_grad for p in tuned.parameters())


def test_recentering_leaves_the_frozen_alone_and_knows_conditions(first, generator):
    policy = FlowMapPolicy(MLP(1, width=8, depth=2, classes=3), (1,))
    policy.module.first.requires_grad_(False)
    conditions = torch.tensor([0, 2])
    options = {"condition": conditions, "recentering": 2, "generator": generator}
    tuned = af.finetune(policy, first, "tilt", **options, **TINY)
    assert torch.equal(tuned.module.first.weight, policy.module.first.weight)
    assert not tuned.module.first.weight.requires_grad


def test_redistillation_makes_the_jump_that_of_the_tuned_velocity(first, generator, tmp_path):
    """A map whose jumps were never trained; 1,000 states."""
    options = {"batch_size": 128, "learning_rate": 3e-3, "generator": generator}
    data = torch.randn(4096, 1, generator=generator) / 2 + 1
    torch.manual_seed(0)
    policy = FlowMapPolicy(MLP(1, width=32, depth=2), (1,))
    base = af.pretrain(policy, data, "flow_matching", steps=300, **options)

    def error(**more):
        tuned = af.finetune(base, first, "weighted", 0.2, steps=5, **more, **options)
        noise = tuned.noise(1000, torch.Generator().manual_seed(0))
        with torch.no_grad():
            end = integrate(tuned.velocity, noise, 0.0, 1.0, steps=64)
            return (tuned.flow_map(noise, 0.0, 1.0) - end).square().mean().sqrt().item()

    assert error(redistillation=500, folder=tmp_path) < error() / 3
    assert (tmp_path / "redistillation" / "metrics.jsonl").exists()


def test_methods_are_listed_with_one_line_each():
    listed = af.finetune.methods()
    assert listed.keys() == METHODS.keys()
    assert all(line.endswith(".") and "\n" not in line for line in listed.values())


@pytest.mark.parametrize("method", OF_ANY_STATE)
def test_each_config_holds_the_defaults_and_runs(method, normal, first, generator):
    config = yaml.safe_load((CONFIGS / f"{method}.yaml").read_text())
    given = instantiate(config, _convert_="all")
    af.finetune(normal, first, generator=generator, **{**given, **tiny(method)})
    assert given.pop("method") == method
    # which is that of the import path, with steps that suit the data of this policy
    given.pop("environment", None)
    defaults = {name: option.default for name, option in af.finetune.options(method).items()}
    built = METHODS[method]().bind(Problem(normal, af.Tilt(first, 1.0)))
    for name, value in given.items():
        # None stands for what the method chooses itself
        default = getattr(built, name) if value is not None is defaults[name] else defaults[name]
        assert described(value) == described(default), name


def described(value):
    return (type(value), vars(value)) if hasattr(value, "__dict__") else value


@pytest.mark.parametrize("strength", [float("nan"), float("inf"), -1.0])
@pytest.mark.parametrize("method", OF_ANY_STATE)
def test_a_strength_that_is_none_is_refused(method, strength, normal, first):
    with pytest.raises(
        ValueError, match="strength must be a finite number of at least 0, got .*negate the reward"
    ):
        af.finetune(normal, first, method, strength, **tiny(method))


def test_what_would_do_nothing_is_refused(normal, first):
    refused = {
        "weighted has no option jumps; its own are": {"jumps": 3},
        "held_out would do nothing without a folder": {"held_out": {"a": first}},
        "target would do nothing without a folder": {"target": normal},
        "early_stop needs held_out rewards": {"early_stop": 1.0, "folder": "never made"},
        "target has one tilt, and a policy with conditions": {
            "target": normal,
            "condition": 1,
            "folder": "never made",
        },
        "target must have its exact tilt.*got 'ring'": {"target": "ring", "folder": "never made"},
        "langevin must be a Langevin.*got 3": {"langevin": 3, "recentering": 1},
        "learning_rate would do nothing with an optimizer": {
            "learning_rate": 1e-3,
            "optimizer": torch.optim.SGD,
        },
        "batch_size must be a whole number of at least 1": {"batch_size": 0},
        "annealing_stages must lie between 1 and steps=2": {"annealing_stages": 3},
        "annealing_stages is for weighted, etm, itm, tilt, mfm": {
            "method": "direct",
            "annealing_stages": 2,
        },
        "method must be one of direct, weighted, .*, got 'best'": {"method": "best"},
        "steps must be a whole number of at least 1": {"steps": 0},
    }
    for message, options in refused.items():
        with pytest.raises(ValueError, match=message):
            af.finetune(normal, first, **{**TINY, **options})


def test_a_policy_without_a_network_is_refused(first):
    with pytest.raises(ValueError, match="finetune needs a policy with a network.*VelocityPolicy"):
        af.finetune(af.from_velocity(lambda x, t: x, (1,)), first, **TINY)


def test_a_tuner_without_its_two_methods_says_so(normal, first, generator):
    problem = Problem(normal, af.Tilt(first, 1.0), generator=generator)
    with pytest.raises(NotImplementedError):
        Method().bind(problem)
    tuner = Tuner(problem, Method(), diagonal_fraction=0.5)
    with pytest.raises(NotImplementedError):
        tuner.sample_batch(1)
