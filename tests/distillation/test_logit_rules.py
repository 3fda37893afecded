"""The rules of logits are equalities at the exact map of a list of strings."""

import pytest
import torch

import alignflow as af
from alignflow.distillation import LSD, FlowMapLoss, LogitESD, LogitLSD, build_loss, logit_rules
from alignflow.distillation.rules import Learner
from alignflow.policies import MLP, FlowMapPolicy, TokenDiT
from alignflow.simplex import Logits
from alignflow.targets import Sequences

RULES = pytest.mark.parametrize("rule", [LogitLSD(), LogitESD()], ids=["lsd", "esd"])


def by_differences(function, primals, tangents, step=1e-4):
    """What jvp gives, of an ODE that has no forward-mode derivative."""
    ends = [
        function(*(p + sign * step * d for p, d in zip(primals, tangents, strict=True)))
        for sign in (1, -1)
    ]
    return function(*primals), (ends[0] - ends[1]) / (2 * step)


def exact_logits(target, x, s, t):
    with torch.no_grad():
        end = target.flow_map(x, s, t)
    s, t = s[:, None, None], t[:, None, None]
    return (((1 - s) * end - (1 - t) * x) / (t - s)).clamp(min=1e-12).log()


@RULES
def test_the_target_is_delta_at_the_exact_map(rule, generator, monkeypatch):
    monkeypatch.setattr(logit_rules, "jvp", by_differences)
    tokens = torch.cartesian_prod(torch.arange(3), torch.arange(3))
    target = Sequences(tokens, torch.rand(9, generator=generator) + 0.1, vocabulary=3)
    x = torch.randn(16, 2, 3, generator=generator, dtype=torch.float64)
    s, t = torch.full((16,), 0.2).double(), torch.full((16,), 0.5).double()
    learner = Learner(
        lambda x, s, t: exact_logits(target, x, s, t), target.velocity, target.denoiser, Logits()
    )
    logits, taught = rule(learner, x, s, t)
    # as far as the ODE's tolerance goes, over the step of the differences
    torch.testing.assert_close(taught, logits.softmax(-1), rtol=0, atol=2e-4)


@RULES
@pytest.mark.parametrize("taught", [True, False], ids=["teacher", "alone"])
def test_targets_are_distributions_to_the_end_of_the_path(rule, taught, generator):
    target = Sequences(torch.tensor([[0, 2], [1, 3]]), vocabulary=4)
    policy = FlowMapPolicy(TokenDiT(2, 4, 16, 1, 2), (2, 4), parametrization="simplex")
    for parameter in policy.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    loss = FlowMapLoss(policy, rule, teacher=target if taught else None)
    learner = loss._learner(torch.zeros(5, 2, 4), torch.zeros(5, 2, 4), None)
    x = policy.noise(5, generator)
    _, found = rule(learner, x, torch.linspace(0, 0.9, 5), torch.tensor([0.0, 0.3, 0.6, 0.9, 1.0]))
    torch.testing.assert_close(found.sum(-1), torch.ones(5, 2))
    assert found.min() >= 0 and not found.requires_grad


@pytest.mark.parametrize("name", ["lsd", "esd"])
def test_pretrain_finds_them_by_name(name):
    policy = FlowMapPolicy(TokenDiT(2, 4, 16, 1, 2), (2, 4), parametrization="simplex")
    assert type(build_loss(name, policy).rule).__name__ == f"Logit{name.upper()}"
    target = Sequences(torch.tensor([[0, 2], [1, 3]]), vocabulary=4)
    trained = af.pretrain(policy, target, name, steps=3, batch_size=16, generator=0)
    assert torch.isfinite(trained.sample(3)).all()


def test_rules_of_velocities_and_of_logits_are_told_apart():
    simplex = FlowMapPolicy(TokenDiT(2, 4, 16, 1, 2), (2, 4), parametrization="simplex")
    with pytest.raises(ValueError, match="Logits predicts something else"):
        FlowMapLoss(simplex, LSD())
    with pytest.raises(ValueError, match="LogitLSD learns logits, and AverageVelocity"):
        FlowMapLoss(FlowMapPolicy(MLP(2, 8, 1), (2,)), LogitLSD())
