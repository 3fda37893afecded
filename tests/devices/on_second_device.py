"""Steering, tuning, distilling, the environment and judging on a device that refuses a mix.

Each is run with a generator of the CPU and with one of the device. Run by `test_devices.py` in a
process of its own.
"""

from collections.abc import Iterator

import pytest
import torch
from second_device import DEVICE, SecondGenerator, second_device

import alignflow as af
from alignflow.envs import DenoisingEnv
from alignflow.policies import MLP, FlowMapPolicy
from alignflow.targets import ring

GENERATORS = {"cpu": torch.Generator, "device": SecondGenerator}


@af.reward(differentiable=True)
def first(endpoint):
    return endpoint[:, 0]


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


def test_a_mix_of_devices_is_refused(waits):
    with pytest.raises(RuntimeError, match="aten::add mixes second:0 and cpu"):
        torch.ones(2, device=DEVICE) + torch.ones(2)


def test_a_generator_of_another_device_is_refused(waits):
    with pytest.raises(RuntimeError, match="of second:0 by a generator of cpu"):
        torch.randn(2, device=DEVICE, generator=torch.Generator())


def test_a_number_that_the_host_asks_for_is_noted(waits):
    torch.ones((), device=DEVICE).item()
    assert len(waits) == 1


# where a number is asked for, and why the wait is worth it
EXPECTED = {
    "alignflow/reward_module/": "a reward's answer is checked where it enters",
    "alignflow/training/": "a loss is checked once a step, and metrics are written",
    "alignflow/metrics/": "an estimate is a number",
    "alignflow/finetuning/runaway.py": "a tuned model is looked at from time to time",
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
    options = {"exact": {"target": ring(modes=3)}}.get(method, {})
    model = posterior if method in ("mfm_g", "mfm_gf", "search") else policy
    steerer = af.steer(model, first, method, steps=2, **options)
    waits.clear()
    out = steerer.sample(3, generator=generator)
    assert out["state"].device == DEVICE
    assert not unexpected(waits)


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
    options = {"grpo": {"episodes": 16}, "direct": {}, "adjoint_matching": {}}
    options = options.get(method, {"pool": 32})
    tuned = af.finetune(
        policy, first, method, steps=2, batch_size=8, generator=generator, **options
    )
    assert tuned.device == DEVICE
    assert not unexpected(waits)


def test_the_environment_mixes_nothing(policy, waits):
    rollout = DenoisingEnv(policy, first, num_envs=4).rollout(3)
    assert rollout["next", "reward"].device == DEVICE


def test_judging_mixes_nothing(policy, waits, generator):
    samples = policy.sample(64, generator=generator)
    found = af.evaluate(samples, reward=first, reference=policy, generator=generator)
    assert found
    assert not unexpected(waits)
