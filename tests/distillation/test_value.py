"""A value learned from scored samples: close to the closed form, resumed, calibrated, refused."""

import pytest
import torch

import alignflow as af
from alignflow.distillation import UniformTimes
from alignflow.policies import MLP, FlowMapPolicy, UNet
from alignflow.targets import GaussianMixture
from alignflow.targets.rewards import Linear


@pytest.fixture(scope="module")
def target():
    means = torch.tensor([[-0.8], [0.8]], dtype=torch.float64)
    covariances = torch.tensor([0.3, 0.4], dtype=torch.float64)[:, None, None]
    return GaussianMixture(torch.tensor([0.4, 0.6], dtype=torch.float64), means, covariances)


@pytest.fixture(scope="module")
def reward():
    return Linear(torch.ones(1, dtype=torch.float64))


def small() -> MLP:
    torch.manual_seed(0)
    return MLP(1, width=32, depth=2).double()


@pytest.fixture(scope="module")
def learned(target, reward):
    options = {"batch_size": 128, "samples": 4096, "learning_rate": 1e-2, "network": small()}
    options |= {"ema_decay": 0.99, "times": UniformTimes()}
    return af.learn_value(target, reward, (0.0, 2.0), 600, generator=0, **options)


@pytest.mark.parametrize("time", [0.0, 0.3, 0.6, 0.9])
@pytest.mark.parametrize("strength", [0.5, 2.0])
def test_it_is_close_to_the_closed_form(time, strength, learned, target, reward, generator):
    """4,096 samples, of which the mean of e^{2r} has an error of .03; the rest is training's."""
    x1 = target.sample(500, generator=generator)
    noise = torch.randn(500, 1, generator=generator, dtype=torch.float64)
    x = time * x1 + (1 - time) * noise
    found = learned(x, x.new_full((500,), time), x.new_full((500,), strength))
    exact = target.value(x, time, reward, strength)
    assert (found - exact).square().mean().sqrt() < 0.08 * strength + 0.03


def test_guidance_by_it_samples_the_tilt(learned, target, reward, generator):
    steerer = af.steer(
        target, reward, "value_guidance", strength=2.0, steps=32, value=learned, transition="euler"
    )
    out = steerer.sample(2000, generator=generator)
    tilted = target.tilted(reward, 2.0)
    assert out["state"].mean().item() == pytest.approx(tilted.means.T @ tilted.weights, abs=0.1)
    assert (out["nfe"], out["vjps"]) == (64, 32) and out["reward_calls"] == 1


def test_its_card_has_the_calibration_on_samples_held_out(learned, tmp_path):
    card = af.load_value(learned.save(tmp_path / "value")).facts
    rows = card["calibration"]
    assert [row["time"] for row in rows] == [0.0, 0.1, 0.25, 0.5, 0.75, 0.9] * 2
    assert {row["strength"] for row in rows} == {1.0, 2.0} and card["samples"] == 4096
    for row in rows:
        # 512 samples; .2 is left to 600 steps of training
        assert abs(row["ratio"] - 1) < 5 * row["ratio_error"] + 0.2
    assert rows[6]["correlation"] is None and rows[6]["explained_variance"] is None
    assert rows[-1]["correlation"] > 0.9 and rows[-1]["explained_variance"] > 0.8


def test_a_black_box_is_scored_once_a_sample_and_a_resumed_run_is_the_same(target, tmp_path):
    calls = []

    def count(endpoint):
        calls.append(len(endpoint))
        return (endpoint[:, 0] > 0).double().tolist()

    options = {"samples": 64, "batch_size": 16, "network": small(), "generator": 3}
    whole = af.learn_value(target, count, (0.0, 1.0), 6, folder=tmp_path / "whole", **options)
    assert sum(calls) == 64

    def cut(step, steps, metrics):
        if step == 4:
            raise RuntimeError("cut")

    folder = tmp_path / "cut"
    with pytest.raises(RuntimeError, match="cut"):
        af.learn_value(target, count, (0.0, 1.0), 6, folder=folder, progress=cut,
                       checkpoint_every=2, **options)  # fmt: skip
    scored = sum(calls)
    again = af.learn_value(target, count, (0.0, 1.0), 6, folder=folder, checkpoint_every=2,
                           **options)  # fmt: skip
    assert sum(calls) == scored == 128
    for one, other in zip(whole.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)
    assert again.facts == whole.facts


def test_nothing_is_drawn_or_scored_before_it_runs(target, tmp_path):
    def never(endpoint):
        raise AssertionError("called")

    training = af.learn_value.build(target, never, network=small(), folder=tmp_path / "run")
    assert not (tmp_path / "run").exists() and training.value.reward == "never"


def test_the_network_and_the_policy_that_are_given_stay_as_they_are(target, reward):
    network = small()
    before = [p.clone() for p in network.parameters()]
    af.learn_value(target, reward, steps=2, samples=16, batch_size=4, network=network)
    assert all(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))


@pytest.mark.parametrize("name", ["ring", "avatars", "names"])
def test_a_shipped_policy_has_a_small_network_of_its_kind(name):
    policy = af.load(name)
    value = af.learn_value.build(policy, lambda x: [0.0] * len(x)).value
    assert type(value.network) is type(policy.module)
    size = sum(p.numel() for p in value.parameters())
    assert size <= sum(p.numel() for p in policy.parameters()) * 1.1
    x, time = policy.noise(3, 0), torch.full((3,), 0.5)
    found = value(x, time, torch.ones(3))
    assert found.shape == (3,) and found.isfinite().all()


def test_a_network_of_ones_own_is_followed_by_the_shape_of_its_states():
    def kind(shape):
        policy = FlowMapPolicy(torch.nn.Identity(), shape)
        return type(af.learn_value.build(policy, lambda x: x).value.network)

    assert kind((3,)) is MLP and kind((3, 16, 16)) is UNet
    with pytest.raises(ValueError, match="no network for values on states of FlowMapPolicy"):
        kind((3, 4))


def test_labels_reach_the_network(generator):
    torch.manual_seed(0)
    policy = FlowMapPolicy(MLP(2, width=8, depth=1, classes=3), (2,))
    value = af.learn_value(
        policy, lambda x, condition: condition.double(), (0.0, 1.0), 3, samples=48, batch_size=8,
        condition=torch.tensor([0, 1, 2]), generator=generator,
    )  # fmt: skip
    x, half = torch.zeros(3, 2), torch.full((3,), 0.5)
    found = value(x, half, torch.ones(3), torch.tensor([0, 1, 2]))
    assert len(found.unique()) == 3


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_it_trains_in_either_precision(precision, generator):
    policy = FlowMapPolicy(MLP(2, width=8, depth=1), (2,))
    options = {"steps": 2, "samples": 16, "batch_size": 4, "precision": precision}
    value = af.learn_value(policy, lambda x: x[:, 0], generator=generator, **options)
    assert all(p.isfinite().all() and p.dtype == torch.float32 for p in value.parameters())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"strengths": (2.0, 1.0)}, "strengths must be the least and the largest strength"),
        ({"samples": 3}, "samples must be a whole number of at least 16, got 3"),
        ({"steps": 0}, "steps must be a whole number of at least 1"),
        ({"sample": 64}, "learn_value does not take sample.*did you mean 'samples'"),
        ({"network": MLP(2)}, r"network MLP does not take states of shape \(1,\)"),
        ({"network": "mlp"}, "network must be a torch.nn.Module"),
        ({"network": None}, r"no network for values on states of GaussianMixture.*network=af.pol"),
        ({"condition": ["a cat"]}, "condition must be numbers"),
        ({"policy": 3}, "policy must be a flow map"),
    ],
    ids=str,
)
def test_what_cannot_be_learned_is_refused(given, message, target, reward):
    known = {"policy": target, "reward": reward, "network": small()}
    with pytest.raises(ValueError, match=message):
        af.learn_value.build(**known | given)


def test_a_reward_that_drops_everything_is_an_error(target):
    never = af.reward(lambda x: torch.full((len(x),), torch.nan), on_invalid="drop")
    with pytest.raises(af.RewardError, match="drops all but one of 16 samples"):
        af.learn_value(target, never, steps=1, samples=16, network=small())
