"""Steering, tuning, distilling, the environment and judging on a device that refuses a mix.

Each is run with a generator of the CPU and with one of the device. Run by `test_devices.py` in a
process of its own.
"""

from collections.abc import Iterator

import pytest
import torch
from second_device import DEVICE, REAL, SecondGenerator, second_device

import alignflow as af
from alignflow import finetuning
from alignflow.envs import DenoisingEnv
from alignflow.policies import MLP, FlowMapPolicy, TokenMLP
from alignflow.targets import ring

GENERATORS = {
    "cpu": torch.Generator,
    "device": (lambda: torch.Generator(DEVICE)) if REAL else SecondGenerator,
}
on_the_second_alone = pytest.mark.skipif(REAL, reason="of the device that there is not")


@af.reward(differentiable=True)
def first(endpoint):
    return endpoint[:, 0]


@af.reward
def first_letter(endpoint):
    return endpoint[:, 0, 0]


@pytest.fixture(params=GENERATORS)
def generator(request) -> torch.Generator:
    return GENERATORS[request.param]()


@pytest.fixture
def waits() -> Iterator[list[str]]:
    with second_device() as found:
        yield found


@pytest.fixture
def policy(waits) -> FlowMapPolicy:
    return FlowMapPolicy(MLP(2, width=8), (2,)).to(DEVICE)


@pytest.fixture
def posterior(waits) -> FlowMapPolicy:
    return FlowMapPolicy(MLP(2, width=8), (2,)).with_context().to(DEVICE)


@on_the_second_alone
def test_a_mix_of_devices_is_refused(waits):
    with pytest.raises(RuntimeError, match="aten::add mixes second:0 and cpu"):
        torch.ones(2, device=DEVICE) + torch.ones(2)


@on_the_second_alone
def test_a_generator_of_another_device_is_refused(waits):
    with pytest.raises(RuntimeError, match="of second:0 by a generator of cpu"):
        torch.randn(2, device=DEVICE, generator=torch.Generator())


@on_the_second_alone
def test_a_number_that_the_host_asks_for_is_noted(waits):
    torch.ones((), device=DEVICE).item()
    assert len(waits) == 1


# where a number is asked for, and why the wait is worth it
EXPECTED = {
    "alignflow/reward_module/": "a reward's answer is checked where it enters",
    "alignflow/training/": "a loss is checked once a step, and metrics are written",
    "alignflow/metrics/": "an estimate is a number",
    "alignflow/values/gradient.py": "a gradient through a reward is checked where it enters",
    "alignflow/resampling/schemes.py": "weights are checked once a sample, as particles are chosen",
    "alignflow/finetuning/runs/runaway.py": "a tuned model is looked at every 250 steps",
    "alignflow/finetuning/path_weights/": "paths are weighed once a pool",
    "alignflow/finetuning/pools/pool.py": "effective candidates are counted once a pool",
    "alignflow/distillation/posterior.py": "the std of the data is measured once",
    "alignflow/envs/": "an environment checks each action",
    "alignflow/finetuning/policy_gradient/episodes.py": "torchrl asks whether episodes are over",
    "alignflow/draws.py": "rows of data in CPU memory are drawn by a generator of the device",
}


def unexpected(waits: list[str]) -> set[str]:
    """Lines that waited and are not among those expected."""
    return {line for line in waits if not line.startswith(tuple(EXPECTED))}


def test_sampling_never_waits(policy, waits, generator):
    waits.clear()
    assert policy.sample(4, generator=generator).device == DEVICE
    assert not waits


@pytest.mark.parametrize("method", af.steer.methods())
def test_a_steerer_mixes_nothing_and_waits_for_its_reward_alone(
    method, policy, posterior, waits, generator
):
    options = {"exact": {"target": ring(modes=3).to(DEVICE)}}.get(method, {})
    if method == "value_guidance":
        network = MLP(2, width=8)
        options["value"] = af.learn_value.build(policy, first, network=network).value
    model = posterior if method in ("mfm_g", "mfm_gf", "search") else policy
    steerer = af.steer(model, first, method, steps=2, **options)
    waits.clear()
    out = steerer.sample(3, generator=generator)
    assert out["state"].device == DEVICE
    assert not unexpected(waits)


@pytest.mark.parametrize("transition", ["heun", "sde", "anchored", "glass", "straight", "renoise"])
def test_a_transition_mixes_nothing(transition, policy, waits, generator):
    steerer = af.steer(
        policy, first, "custom", steps=3, posterior="flow_map", transition=transition
    )
    waits.clear()
    assert steerer.sample(3, generator=generator)["state"].device == DEVICE
    assert not unexpected(waits)


def test_guidance_draws_of_a_posterior_and_decoding_mix_nothing(waits, generator):
    network = MLP(2, width=8, classes=3)
    policy = FlowMapPolicy(network, (2,), decode="image").with_context().to(DEVICE)
    samples = policy.sample(4, condition=[0, 1, 2, 0], guidance=2.0, generator=generator)
    noise = torch.ones(4, 5, 2, device=DEVICE)
    draws = policy.posterior_flow(noise, samples, 0.5, torch.tensor([0, 1, 2, 0], device=DEVICE))
    assert policy.decode(samples).device == draws.device == DEVICE


@pytest.mark.parametrize("loss", ["flow_matching", "psd", "lsd", "esd", "meanflow"])
def test_pretraining_mixes_nothing_and_waits_once_a_step(loss, policy, waits, generator):
    options = {"loss": loss, "steps": 2, "batch_size": 8, "generator": generator}
    trained = af.pretrain(policy, torch.randn(64, 2), **options)
    assert trained.device == DEVICE
    assert not unexpected(waits)


def test_a_posterior_map_is_learned_without_a_mix(policy, waits, generator):
    learned = af.learn_posterior(policy, steps=2, batch_size=8, generator=generator)
    assert learned.device == DEVICE
    assert not unexpected(waits)


@pytest.mark.parametrize("method", af.finetune.methods())
def test_a_tuner_mixes_nothing(method, policy, waits, generator):
    options = {"grpo": {"episodes": 16}, "direct": {}, "adjoint_matching": {}, "rloo": {}}
    options = options.get(method, {"pool": 32})
    reward = first
    if finetuning.METHODS[method].needs_logits:
        reward = first_letter
        policy = FlowMapPolicy(TokenMLP(2, 3, width=8), (2, 3), "simplex").to(DEVICE)
    tuned = af.finetune(
        policy, reward, method, steps=2, batch_size=8, generator=generator, **options
    )
    assert tuned.device == DEVICE
    assert not unexpected(waits)


@pytest.mark.parametrize(
    ("rollout", "regularizer"),
    [
        (finetuning.MapRollout(2), finetuning.EndpointDistance()),
        (finetuning.MapRollout(2), finetuning.MMD()),
        (finetuning.ODERollout(2), finetuning.EndpointKL()),
        (finetuning.MemorylessRollout(2), finetuning.PathKL()),
    ],
    ids=["distance", "mmd", "endpoint kl", "path kl"],
)
def test_a_rollout_and_its_regularizer_mix_nothing(rollout, regularizer, policy, generator):
    options = {"rollout": rollout, "regularizer": regularizer, "generator": generator}
    tuned = af.finetune(policy, first, "direct", steps=2, batch_size=8, **options)
    assert tuned.device == DEVICE


def test_the_environment_mixes_nothing(policy, waits):
    rollout = DenoisingEnv(policy, first, num_envs=4).rollout(3)
    assert rollout["next", "reward"].device == DEVICE


def test_judging_mixes_nothing(policy, waits, generator):
    samples = policy.sample(64, generator=generator)
    found = af.evaluate(samples, reward=first, reference=policy, generator=generator)
    assert found
    assert not unexpected(waits)
