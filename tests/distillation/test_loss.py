"""The loss of a flow map: what it counts, what it is anchored on, and what it leaves alone."""

import pytest
import torch
from tensordict import TensorDict

from alignflow.distillation import (
    ESD,
    LSD,
    PSD,
    Damped,
    FlowMapLoss,
    LogitNormalTimes,
    LossWeight,
    SquaredError,
    UniformTimes,
    build_loss,
)
from alignflow.interpolants import Trigonometric
from alignflow.policies import FlowMapPolicy
from alignflow.predictions import AverageVelocity


class Linear(torch.nn.Module):
    """v_{s,t}(x) = a x + b s + c t + d: a loss of it is a polynomial we can integrate by hand."""

    def __init__(self, a=0.3, b=-0.2, c=0.5, d=0.1):
        super().__init__()
        self.a, self.b, self.c, self.d = (torch.nn.Parameter(torch.tensor(v)) for v in (a, b, c, d))

    def forward(self, x, s, t):
        return self.a * x + self.b * s[:, None] + self.c * t[:, None] + self.d


class Recorder(torch.nn.Module):
    """v = 0, and the condition that it was asked with last."""

    prediction = AverageVelocity()
    null_condition = None

    def noise(self, n, generator):
        return torch.randn(n, 1, generator=generator)

    def average_velocity(self, x, s, t, condition):
        self.condition = condition
        return torch.zeros_like(x)


@pytest.fixture
def batch(generator):
    return TensorDict({"data": torch.randn(4096, 1, generator=generator)}, batch_size=4096)


def test_the_anchor_is_flow_matching_on_the_diagonal(batch, generator):
    policy = FlowMapPolicy(Linear(a=0.0, b=0.0, c=0.0, d=0.0), (1,))
    loss = FlowMapLoss(policy, generator=generator)(batch)
    # data and noise are standard normal, so E|x1 - x0|^2 = 2 with variance 8: n = 4096
    assert loss["loss_diagonal"].item() == pytest.approx(2, abs=5 * (8 / 4096) ** 0.5)
    assert "loss_map" not in loss.keys()


def test_the_two_terms_weigh_as_their_fractions_of_the_rows(batch):
    policy = FlowMapPolicy(Linear(), (1,))
    few = FlowMapLoss(policy, PSD(), diagonal_fraction=0.25, generator=seeded(1))(batch)
    many = FlowMapLoss(policy, PSD(), diagonal_fraction=0.75, generator=seeded(1))(batch)
    assert few["loss_diagonal"].item() == pytest.approx(many["loss_diagonal"].item() / 3, rel=0.15)
    assert few["loss_map"].item() == pytest.approx(3 * many["loss_map"].item(), rel=0.15)


def test_no_row_on_the_diagonal_leaves_the_rule_alone(batch, generator):
    policy = FlowMapPolicy(Linear(), (1,))
    loss = FlowMapLoss(policy, PSD(), diagonal_fraction=0.0, generator=generator)(batch)
    assert set(loss.keys()) == {"loss_map"}


def test_damped_down_weights_a_row_by_its_residual():
    """One row: its loss l and its gradient are multiplied by 1 / (1 + l / |x1 - x0|^2)."""
    row, x0 = TensorDict({"data": torch.ones(1, 1)}, 1), torch.randn(1, 1, generator=seeded(1))
    losses, gradients = [], []
    for regression in (SquaredError(), Damped()):
        policy = FlowMapPolicy(Linear(a=2.0), (1,))
        options = {"diagonal_fraction": 0.0, "regression": regression, "generator": seeded(1)}
        loss = FlowMapLoss(policy, LSD(), **options)(row)["loss_map"]
        loss.backward()
        losses.append(loss.item())
        gradients.append(policy.module.a.grad.item())
    factor = 1 / (1 + losses[0] / (1 - x0).square().item())
    assert factor < 0.9
    assert losses[1] / losses[0] == pytest.approx(factor, rel=1e-5)
    assert gradients[1] / gradients[0] == pytest.approx(factor, rel=1e-5)


def test_a_teacher_replaces_the_data_and_is_not_trained(batch, generator):
    teacher = FlowMapPolicy(Linear(), (1,))
    student = FlowMapPolicy(Linear(), (1,))
    loss = FlowMapLoss(student, teacher=teacher, generator=generator)
    assert loss(batch)["loss_diagonal"].item() == 0
    assert not set(teacher.parameters()) & set(loss.parameters())
    student.module.d.data += 0.5
    loss(batch)["loss_diagonal"].backward()
    assert student.module.d.grad is not None and teacher.module.d.grad is None


def test_a_teacher_drives_the_lagrangian_rule(batch, generator):
    student = FlowMapPolicy(Linear(a=0.0, b=0.0, c=0.0, d=0.4), (1,))
    teacher = FlowMapPolicy(Linear(a=0.0, b=0.0, c=0.0, d=0.4), (1,))
    loss = FlowMapLoss(student, LSD(), teacher=teacher, generator=generator)(batch)
    assert loss["loss_map"].item() == pytest.approx(0, abs=1e-12)
    teacher.module.d.data += 1.0
    loss = FlowMapLoss(student, LSD(), teacher=teacher, generator=generator)(batch)
    assert loss["loss_map"].item() == pytest.approx(0.25, rel=1e-5)


class NormalDenoiser(torch.nn.Module):
    """delta_{s,t} of standard normal data, exact, moved by a shift that is to be learned away."""

    def __init__(self):
        super().__init__()
        self.shift = torch.nn.Parameter(torch.zeros(()).double())

    def forward(self, x, s, t):
        a, b = (time**2 + (1 - time) ** 2 for time in (s, t))
        coefficient = 2 * (s + t - 1) / (a.sqrt() * (a.sqrt() + b.sqrt()))
        return x * (1 + (1 - s) * coefficient)[:, None] + self.shift


@pytest.mark.parametrize("boundary", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("taught", [False, True])
def test_lsd_trains_a_mean_denoiser_to_the_end_of_the_path(boundary, taught, generator):
    """Whose velocity there is 0/0: exact it has no residual, shifted one that is known."""
    data = torch.randn(64, 1, generator=generator, dtype=torch.float64)
    batch = TensorDict({"data": data}, batch_size=64)
    policy = FlowMapPolicy(NormalDenoiser(), (1,), "mean_denoiser")
    teacher = FlowMapPolicy(NormalDenoiser(), (1,), "mean_denoiser") if taught else None
    loss = FlowMapLoss(
        policy, LSD(), teacher=teacher, diagonal_fraction=0.0, times=UniformTimes(boundary),
        generator=generator,
    )  # fmt: skip
    assert loss(batch)["loss_map"].item() == pytest.approx(0, abs=1e-20)
    policy.module.shift.data += 0.1
    shifted = loss(batch)["loss_map"]
    shifted.backward()
    assert policy.module.shift.grad.isfinite()
    if taught and boundary == 1.0:  # the endpoint moves by the shift, and its denoiser with it
        assert shifted.item() == pytest.approx(0, abs=1e-20)
    elif taught:
        assert policy.module.shift.grad > 0


def test_times_of_the_diagonal_stay_before_the_end():
    """Where a mean denoiser has no velocity: a logistic of 17 is 1 in float32."""
    time = LogitNormalTimes(mean=17.0, std=5.0).diagonal(1000, torch.Generator().manual_seed(0))
    assert time.max() < 1 and (time > 0.99).sum() > 900


def test_meanflow_on_the_diagonal_is_flow_matching(batch):
    policy = FlowMapPolicy(Linear(), (1,))
    meanflow = build_loss("meanflow", policy, generator=seeded(2))
    meanflow.times.pairs = lambda n, generator: (torch.full((n,), 0.3), torch.full((n,), 0.3))
    meanflow.diagonal_fraction = 1e-9
    plain = build_loss("flow_matching", policy, generator=seeded(2))
    plain.times.diagonal = lambda n, generator: torch.full((n,), 0.3)
    torch.testing.assert_close(meanflow(batch)["loss_map"], plain(batch)["loss_diagonal"])


def test_meanflow_needs_its_placement():
    policy = FlowMapPolicy(Linear(), (1,))
    for rule in (PSD(), LSD(), ESD()):
        with pytest.raises(ValueError, match="MeanFlow"):
            FlowMapLoss(policy, rule, velocity="data")


def test_the_loss_weight_is_best_at_the_logarithm_of_the_loss():
    weight = LossWeight()
    loss = torch.full((8,), 0.2)
    s, t = torch.rand(2, 8)
    best = loss.log().mean().item()
    torch.testing.assert_close(weight(loss, s, t), loss)
    weight.out.bias.data.fill_(best)
    value = weight(loss, s, t).sum()
    (gradient,) = torch.autograd.grad(value, weight.out.bias)
    assert gradient.item() == pytest.approx(0, abs=1e-5)


def test_dropped_conditions_are_the_stated_fraction(generator):
    policy = Recorder()
    loss = FlowMapLoss(policy, condition_dropout=0.25, generator=generator)
    labels = torch.ones(10_000, dtype=torch.long)
    loss(TensorDict({"data": torch.zeros(10_000, 1), "condition": labels}))
    dropped = (policy.condition == -1).float().mean().item()
    assert dropped == pytest.approx(0.25, abs=5 * (0.25 * 0.75 / 10_000) ** 0.5)


def test_a_dropped_condition_is_dropped_as_a_whole(generator):
    policy, rows = Recorder(), 1_000
    loss = FlowMapLoss(policy, condition_dropout=0.25, generator=generator)
    vectors = TensorDict({"prompt": torch.rand(rows, 5), "label": torch.ones(rows).long()}, [rows])
    loss(TensorDict({"data": torch.zeros(rows, 1), "condition": vectors}, [rows]))
    lost = policy.condition["label"] == -1
    assert 0 < lost.sum() < rows
    assert (policy.condition["prompt"][lost] == -1).all()
    assert torch.equal(policy.condition["prompt"][~lost], vectors["prompt"][~lost])


def test_texts_are_conditions_too(generator):
    policy = Recorder()
    loss = FlowMapLoss(policy, PSD(), condition_dropout=0.5, generator=generator)
    texts = TensorDict({"data": torch.zeros(64, 1), "condition": ["a cat"] * 64}, [64])
    assert loss(texts)["loss_diagonal"] > 0
    assert set(policy.condition) == {"a cat", ""}
    policy.null_condition = "nothing"
    loss(texts)
    assert set(policy.condition) == {"a cat", "nothing"}


@pytest.mark.parametrize("times", [UniformTimes, LogitNormalTimes])
def test_pairs_are_uniform_on_the_triangle(times, generator):
    s, t = times().pairs(20_000, generator)
    assert (s <= t).all()
    # E s = 1/3, E t = 2/3, both with variance 1/18: n = 20,000
    error = 5 * (1 / 18 / 20_000) ** 0.5
    assert s.mean().item() == pytest.approx(1 / 3, abs=error)
    assert t.mean().item() == pytest.approx(2 / 3, abs=error)


def test_boundary_rows_span_the_whole_path_and_both_directions_turn_half(generator):
    s, t = UniformTimes(boundary=1.0, both_directions=True).pairs(10_000, generator)
    assert set(s.tolist()) == {0.0, 1.0} and torch.equal(t, 1 - s)
    assert s.mean().item() == pytest.approx(0.5, abs=5 * 0.5 / 100)


def test_logit_normal_times_have_the_median_of_their_normal(generator):
    t = LogitNormalTimes(mean=1.0, std=0.5).diagonal(20_001, generator)
    # the median of n draws errs by about 1 / (2 f sqrt(n)), f the density there
    assert t.median().item() == pytest.approx(0.7311, abs=5 * 0.5 * 2.5066 * 0.1966 / 2 / 141)


def test_another_interpolant_is_another_loss(batch):
    policy = FlowMapPolicy(Linear(), (1,))
    linear = FlowMapLoss(policy, generator=seeded(1))(batch)
    bent = FlowMapLoss(policy, path=Trigonometric(), generator=seeded(1))(batch)
    assert not torch.allclose(linear["loss_diagonal"], bent["loss_diagonal"])


def test_unknown_losses_and_fractions_are_refused():
    policy = FlowMapPolicy(Linear(), (1,))
    with pytest.raises(ValueError, match="loss must be one of flow_matching, psd.*got 'magic'"):
        build_loss("magic", policy)
    with pytest.raises(ValueError, match="diagonal_fraction"):
        FlowMapLoss(policy, PSD(), diagonal_fraction=1.5)
    with pytest.raises(ValueError, match="boundary"):
        UniformTimes(boundary=1.5)


def seeded(seed):
    return torch.Generator().manual_seed(seed)
