"""Direct backpropagation: the tilt with the path KL, a collapse without, and its refusals."""

import pytest
import torch

import alignflow as af
from alignflow.finetuning import Direct, EndpointDistance, MapRollout, MemorylessRollout
from alignflow.reward_module import Reward, RewardError, reward
from alignflow.targets import GaussianMixture

FAST = {"batch_size": 64, "learning_rate": 1e-2, "ema_decay": 0.98}


def moments(policy, steps):
    x = policy.sample(20_000, steps, generator=torch.Generator().manual_seed(1))
    return x.mean().item(), x.std().item()


@pytest.fixture(scope="module")
def tuned(normal, first):
    """N(0, 1) tuned to the reward x by the path KL."""
    rollout, seeded = MemorylessRollout(6), torch.Generator().manual_seed(0)
    return af.finetune(
        normal, first, "direct", 1.0, steps=300, generator=seeded, rollout=rollout, **FAST
    )


@pytest.mark.parametrize("steps", [1, 4, 32])
def test_with_the_path_kl_a_normal_reaches_its_tilt_at_any_number_of_steps(steps, tuned):
    mean, spread = moments(tuned, steps)
    # the tilt of N(0, 1) is N(1, 1); what remains is the training's own error
    assert mean == pytest.approx(1, abs=0.08)
    assert spread == pytest.approx(1, abs=0.08)


@pytest.mark.parametrize("time", [0.1, 0.5, 0.9])
def test_the_tuned_velocity_is_the_tilted_one(time, tuned, normal):
    x = torch.linspace(-1, 2, 7)[:, None]
    # b* - b = c_t grad V_t = (1-t) / (t^2 + (1-t)^2) for the reward x
    shift = (1 - time) / (time**2 + (1 - time) ** 2)
    moved = tuned.velocity(x, time) - normal.velocity(x, time)
    assert moved.mean().item() == pytest.approx(shift, abs=0.12)


@pytest.fixture
def bump():
    @reward(differentiable=True)
    def bump(x):
        return (-(x[:, 0] - 1).square()).exp()

    return bump


def test_without_a_regularizer_diversity_collapses_and_with_the_kl_it_does_not(
    normal, bump, generator
):
    spreads = {}
    free = {"regularizer": None, "rollout": MapRollout(2)}
    for name, options in {"none": free, "kl": {"rollout": MemorylessRollout(6)}}.items():
        tuned = af.finetune(
            normal, bump, "direct", 2.0, steps=150, generator=generator, **FAST, **options
        )
        spreads[name] = moments(tuned, 2)[1]
    # the tilt itself, by quadrature, has a standard deviation of 0.79
    assert spreads["none"] < 0.4
    assert spreads["kl"] == pytest.approx(0.79, abs=0.1)


def test_an_endpoint_distance_stops_a_reward_without_a_top(normal, first, generator):
    tuned = af.finetune(
        normal,
        first,
        "direct",
        1.0,
        steps=100,
        generator=generator,
        regularizer=EndpointDistance(0.5),
        rollout=MapRollout(2),
        **FAST,
    )
    # strength r - beta |x - x_base|^2 is greatest 1 / (2 beta) further on, at every start
    assert moments(tuned, 2)[0] == pytest.approx(1, abs=0.1)


def test_gradients_reach_the_policy_alone(normal, first, generator, bind):
    network = torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.Flatten(0))
    scored = Reward(network, differentiable=True)
    loss = bind(Direct, normal, scored, 1.0, generator=generator)
    names = {name for name, p in loss.named_parameters() if p.requires_grad}
    assert len(names) == len(list(normal.parameters()))
    assert not any(p.requires_grad for p in loss.base.parameters())
    before = [p.requires_grad for p in network.parameters()]
    af.finetune(normal, scored, "direct", steps=2, batch_size=8, generator=generator)
    assert all(p.grad is None for p in network.parameters())
    assert [p.requires_grad for p in network.parameters()] == before


def test_the_losses_are_those_it_names_under_the_keys_it_reads(normal, first, generator, bind):
    loss = bind(Direct, normal, first, 1.0, generator=generator)
    loss.set_keys(state="x", time="s")
    batch = loss.sample_batch(9)
    assert {"x", "s"} == set(batch.keys()) and loss.in_keys[:2] == ["x", "s"]
    assert set(loss(batch).keys()) == set(loss.out_keys)
    plain = bind(Direct, normal, first, 1.0, regularizer=None, generator=generator)
    assert set(plain(plain.sample_batch(9)).keys()) == set(plain.out_keys)


@pytest.mark.parametrize("kind", [MapRollout, MemorylessRollout])
def test_states_on_the_path_lie_on_the_interpolant_to_the_data(
    kind, normal, first, generator, bind
):
    data = GaussianMixture(torch.ones(1), torch.full((1, 1), 5.0), 0.01 * torch.ones(1, 1, 1))
    regularizer = EndpointDistance()
    loss = bind(
        Direct,
        normal,
        first,
        1.0,
        regularizer=regularizer,
        rollout=kind(2, start="path"),
        data=data,
        generator=generator,
    )
    batch = loss.sample_batch(4000)
    late = batch["time"] > 0.9
    assert batch["state"][late].mean().item() == pytest.approx(4.75, abs=0.05)
    assert torch.isfinite(loss(batch)["loss_reward"])


def test_a_black_box_is_refused_with_the_methods_that_take_one(normal):
    with pytest.raises(ValueError, match="'mean' is a black box.*use one of weighted"):
        af.finetune(normal, reward(name="mean")(lambda x: x.mean(1)), "direct", steps=1)


def test_a_reward_without_a_graph_is_refused(normal):
    constant = reward(differentiable=True, name="one")(lambda x: torch.ones(len(x)))
    with pytest.raises(RewardError, match="'one' says differentiable, but its answer carries no"):
        af.finetune(normal, constant, "direct", steps=1, batch_size=4)


def test_a_constant_reward_with_a_graph_gives_the_base_back(normal, generator):
    constant = reward(differentiable=True)(lambda x: 0 * x[:, 0] + 3)
    tuned = af.finetune(normal, constant, "direct", steps=20, batch_size=64, generator=generator)
    x = torch.randn(50, 1, generator=generator)
    assert (tuned.velocity(x, 0.3) - normal.velocity(x, 0.3)).abs().max() < 0.05


def test_data_for_a_rollout_from_noise_is_refused(normal, first, bind):
    rollout = MemorylessRollout(2, start="noise")
    with pytest.raises(ValueError, match="data would do nothing"):
        bind(Direct, normal, first, 1.0, rollout=rollout, data=torch.ones(3, 1))
