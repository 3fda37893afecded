"""The stochastic flow map: its teacher in closed form, its start, its draws, steering by it."""

import pytest
import torch
from tensordict import TensorDict
from torch import nn

import alignflow as af
from alignflow.distillation.inner_flow import GLASSTeacher, in_context
from alignflow.policies import MLP, FlowMapPolicy
from alignflow.reward_module import reward
from alignflow.targets import GaussianMixture

STEERED = ("mfm_g", "mfm_gf", "diamond_smc", "search")


@pytest.fixture(scope="module")
def target():
    """N(1, 0.5)."""
    return GaussianMixture(torch.ones(1), torch.ones(1, 1), 0.5 * torch.ones(1, 1, 1))


@pytest.fixture(scope="module")
def base(target):
    torch.manual_seed(0)
    policy = FlowMapPolicy(MLP(1, width=64, depth=2, classes=2), (1,))
    seeded = torch.Generator().manual_seed(0)
    return af.pretrain(
        policy, target, steps=400, batch_size=256, learning_rate=3e-3, generator=seeded
    )


@pytest.fixture(
    scope="module", params=[("data", "data"), ("data", "glass"), ("samples", "glass")], ids="-".join
)
def learned(request, base, target):
    rows, teacher = request.param
    options = {"steps": 1000, "batch_size": 256, "learning_rate": 3e-3, "teacher": teacher}
    seeded = torch.Generator().manual_seed(1)
    return af.learn_posterior(base, target if rows == "data" else None, generator=seeded, **options)


def test_the_teacher_s_velocity_is_that_of_the_flow_to_the_posterior(generator):
    model = GaussianMixture(
        torch.tensor([0.3, 0.7], dtype=torch.float64),
        torch.tensor([[-1.5, 0.0], [1.0, 1.0]], dtype=torch.float64),
        torch.tensor([0.2, 0.4], dtype=torch.float64)[:, None, None] * torch.eye(2),
    )
    x, y = torch.randn(2, 50, 2, generator=generator, dtype=torch.float64)
    t, s = torch.rand(2, 50, generator=generator, dtype=torch.float64)
    context = TensorDict({"time": t, "state": x}, 50)
    exact = model.components.posterior(x, t).velocity(y, s)
    torch.testing.assert_close(GLASSTeacher(model).velocity(y, s, context), exact)
    mean = model.components.posterior(x, t).denoiser(y, s)
    torch.testing.assert_close(GLASSTeacher(model).denoiser(y, s, context), mean)


@pytest.mark.parametrize("parametrization", ["average_velocity", "mean_denoiser"])
def test_the_inner_denoiser_goes_with_the_inner_velocity(parametrization, generator):
    torch.manual_seed(0)
    network = MLP(2, width=16, depth=1, context=True).double()
    policy = FlowMapPolicy(network, (2,), parametrization, stochastic=True)
    x, y = torch.randn(2, 20, 2, generator=generator, dtype=torch.float64)
    t, s = torch.rand(2, 20, generator=generator, dtype=torch.float64)
    velocity = policy.inner_velocity(y, s, s, (t, x))
    mean = policy.inner_denoiser(y, s, (t, x))
    torch.testing.assert_close(mean, y + (1 - s)[:, None] * velocity)


@pytest.mark.parametrize("teacher", ["glass", "data"])
def test_steps_of_a_mean_denoiser_by_lsd_stay_finite_to_the_end_of_the_path(teacher, generator):
    policy = FlowMapPolicy(MLP(1, width=16, depth=1), (1,), "mean_denoiser")
    options = {"loss": "lsd", "steps": 5, "batch_size": 64, "teacher": teacher}
    learned = af.learn_posterior(policy, generator=generator, **options)
    assert all(p.isfinite().all() for p in learned.parameters())


@pytest.mark.parametrize("loss", ["psd_midpoint", "lsd", "esd"])
@pytest.mark.parametrize("teacher", ["glass", "data"])
def test_steps_by_any_loss_and_teacher_move_it_and_keep_it_finite(
    loss, teacher, base, target, generator
):
    """A few steps of each: jumps to the end of the inner flow are among them."""
    options = {"steps": 5, "batch_size": 64, "teacher": teacher, "generator": generator}
    learned = af.learn_posterior(base, target, loss, **options)
    noise, state = torch.randn(2, 4, 1, generator=generator)
    drawn = learned.posterior_flow(noise[:, None], state, 0.5)
    before = base.with_context(learned.data_std).posterior_flow(noise[:, None], state, 0.5)
    assert drawn.isfinite().all() and not torch.isclose(drawn, before).any()


def test_a_learned_one_can_learn_further(base, target, generator):
    options = {"steps": 2, "batch_size": 8, "generator": generator}
    once = af.learn_posterior(base, target, **options)
    twice = af.learn_posterior(once, target, **options)
    pairs = zip(once.parameters(), twice.parameters(), strict=True)
    assert any(not torch.equal(a, b) for a, b in pairs)


def test_a_context_changes_nothing_before_it_is_trained(base, generator):
    started = base.with_context()
    x = torch.randn(9, 1, generator=generator)
    torch.testing.assert_close(started.velocity(x, 0.4), base.velocity(x, 0.4))
    noise = torch.randn(9, 3, 1, generator=generator)
    drawn = started.posterior_flow(noise, x, 0.0)
    jumped = base.flow_map(noise.flatten(0, 1), 0.0, 1.0)
    torch.testing.assert_close(drawn.flatten(0, 1), jumped)


def test_draws_of_normal_data_are_right_before_they_are_trained(base, target, generator):
    """20,000 draws; what is allowed is the base's error, and that of no training."""
    started = base.with_context(0.5**0.5)
    for time in (0.3, 0.7):
        state = torch.tensor([[0.0], [1.2]])
        noise = torch.randn(2, 20_000, 1, generator=generator)
        drawn = started.posterior_flow(noise, state, time)
        posterior = target.posterior(state, torch.full((2,), time))
        assert (drawn.mean(1) - posterior.means[:, 0]).abs().max() < 0.1
        assert (drawn.std(1) - posterior.covariances[:, 0, 0].sqrt()).abs().max() < 0.1


def test_the_standard_deviation_of_the_data_is_measured(base, target, generator):
    learned = af.learn_posterior(base, target, steps=1, batch_size=20_000, generator=generator)
    assert learned.data_std == pytest.approx(0.5**0.5, abs=0.02)


def test_what_was_trained_keeps_its_standard_deviation(base, target, generator):
    started = base.with_context(0.3)
    learned = af.learn_posterior(started, target, steps=1, batch_size=64, generator=generator)
    assert learned.data_std == 0.3


def test_contexts_are_states_of_the_path_to_their_row(base, generator):
    rows = in_context(TensorDict({"data": torch.full((4000, 1), 3.0)}, 4000), base, generator)
    time, state = rows["condition", "time"], rows["condition", "state"]
    rest = (state[:, 0] - 3 * time) / (1 - time)
    assert rest.mean().abs() < 5 / 4000**0.5 and abs(rest.std() - 1) < 0.06
    assert (time == 0).double().mean().item() == pytest.approx(0.1, abs=0.024)


@pytest.mark.parametrize("time", [0.0, 0.3, 0.7])
def test_one_forward_draws_the_posterior(time, learned, target, generator):
    """Mean and standard deviation at three states; what is allowed is the training's error."""
    state = torch.tensor([[0.0], [0.5], [1.2]])
    noise = torch.randn(3, 20_000, 1, generator=generator)
    drawn = learned.posterior_flow(noise, state, time)
    posterior = target.posterior(state, torch.full((3,), time))
    assert (drawn.mean(1) - posterior.means[:, 0]).abs().max() < 0.2
    assert (drawn.std(1) - posterior.covariances[:, 0, 0].sqrt()).abs().max() < 0.15


def test_the_unconditional_map_stays_one(learned, generator):
    drawn = learned.sample(20_000, 2, generator=generator)
    assert drawn.mean().item() == pytest.approx(1, abs=0.1)
    assert drawn.std().item() == pytest.approx(0.5**0.5, abs=0.08)


def test_it_is_saved_and_loaded_as_what_it_is(learned, tmp_path, generator):
    again = af.load(learned.save(tmp_path / "model"))
    noise, state = torch.randn(2, 4, 1, generator=generator)
    assert again.has_posterior_flow and again.data_std == learned.data_std
    torch.testing.assert_close(
        again.posterior_flow(noise[:, None], state, 0.5),
        learned.posterior_flow(noise[:, None], state, 0.5),
    )


@pytest.mark.parametrize("method", STEERED)
def test_steerers_take_it_as_their_posterior(method, learned, generator):
    first = reward(differentiable=True)(lambda x: x[:, 0])
    options = {"posterior": "stochastic_map"} if method == "diamond_smc" else {}
    steerer = af.steer(learned, first, method, strength=1.0, steps=8, **options)
    out = steerer.sample(500, generator=generator)
    # the tilt of N(1, 0.5) is N(1.5, 0.5); search goes beyond
    assert out["reward"].mean() > 1.25


def test_labels_reach_the_network(base, generator):
    learned = af.learn_posterior(
        base, [(torch.ones(1), 1)] * 8, steps=2, batch_size=4, generator=generator
    )
    noise, state = torch.randn(1, 2, 1, generator=generator), torch.ones(4, 1)
    labels = torch.tensor([0, 1, 0, 1])
    drawn = learned.posterior_flow(noise.expand(4, 2, 1), state, 0.5, labels)
    torch.testing.assert_close(drawn[:2], drawn[2:])
    assert not torch.isclose(drawn[0], drawn[1]).any()


def test_dropout_takes_labels_and_leaves_times_and_states(base, generator):
    rows = TensorDict({"data": torch.randn(500, 1), "condition": torch.ones(500).long()}, [500])
    context = in_context(rows, base, generator, dropout=0.25)["condition"]
    assert set(context["label"].tolist()) == {-1, 1}
    assert (context["time"] >= 0).all() and not (context["state"] == -1).any()
    whole = in_context(rows, base, torch.Generator().manual_seed(1))["condition"]
    assert torch.equal(whole["label"], rows["condition"])


def test_a_teacher_that_there_is_not_is_refused(base):
    with pytest.raises(ValueError, match="teacher must be one of glass, data, got 'model'"):
        af.learn_posterior(base, teacher="model", steps=1)


def test_a_custom_network_is_refused_with_the_way_out():
    class Custom(nn.Module):
        def forward(self, x, s, t):
            return x

    with pytest.raises(ValueError, match=r"this network \(Custom\) cannot.*stochastic=True"):
        af.learn_posterior(FlowMapPolicy(Custom(), (1,)), torch.zeros(4, 1), steps=1)


def test_a_model_without_a_network_cannot_learn_one(target):
    with pytest.raises(ValueError, match="learn_posterior needs a policy with a network"):
        af.learn_posterior(target)


def test_a_plain_policy_has_no_posterior(base):
    with pytest.raises(NotImplementedError, match="no stochastic flow map"):
        base.posterior_flow(torch.zeros(1, 1, 1), torch.zeros(1, 1), 0.5)
