"""A step of training and a steered run with the kernels: the numbers of those without."""

import sys

import pytest
import torch
from tensordict import TensorDict

import alignflow as af
from alignflow import kernels
from alignflow.benchmark import ExactLogits
from alignflow.data import Vocabulary
from alignflow.distillation import PSD, FlowMapLoss, SquaredError
from alignflow.kernels import backend
from alignflow.policies import FlowMapPolicy
from alignflow.policies.networks import TokenDiT
from alignflow.regressions import FrugalCrossEntropy, SoftTarget
from alignflow.rewards import TokenCount
from alignflow.targets import Sequences

L, V, BATCH = 6, 27, 8
LETTERS = Vocabulary(["a", "b", "c"])


@pytest.fixture(
    params=[
        pytest.param("cpu", marks=pytest.mark.skipif(not backend.INTERPRETED, reason="no Triton")),
        pytest.param(
            "cuda",
            marks=[
                pytest.mark.gpu,
                pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
            ],
        ),
    ]
)
def device(request):
    return request.param


def close(found, wanted, tolerance=1e-5):
    torch.testing.assert_close(found, wanted, rtol=tolerance, atol=tolerance)


@pytest.fixture
def policy(device, generator):
    torch.manual_seed(0)
    network = TokenDiT(L, V, width=16, depth=1, heads=2)
    for parameter in network.parameters():  # whose last layers are zero at the start
        parameter.data += 0.2 * torch.randn(parameter.shape, generator=generator)
    return FlowMapPolicy(network, (L, V), parametrization="simplex").to(device)


@pytest.fixture
def batch(device, generator):
    tokens = torch.randint(V, (BATCH, L), generator=generator).to(device)
    return TensorDict({"data": tokens}, batch_size=BATCH)


def test_a_step_of_training_has_the_losses_and_gradients_of_torch(policy, batch, monkeypatch):
    def step():
        loss = FlowMapLoss(policy, PSD(), diagonal_fraction=0.5, generator=0)
        losses = loss(batch)
        total = losses["loss_diagonal"] + losses["loss_map"]
        gradients = torch.autograd.grad(total, list(policy.parameters()), allow_unused=True)
        return [*losses.values(), *(g for g in gradients if g is not None)]

    with kernels.use("reference"):
        wanted = step()

    def stored(*_):
        raise AssertionError("a distribution is stored")

    monkeypatch.setattr(FrugalCrossEntropy, "_against", stored)
    with kernels.use("triton"):
        found = step()
    assert max(gradient.norm() for gradient in wanted[2:]) > 0.01
    for one, other in zip(found, wanted, strict=True):
        close(one, other)


def test_a_regression_on_probabilities_is_given_them(policy, batch):
    def losses():
        options = {"diagonal_fraction": 0.0, "regression": SquaredError(), "generator": 0}
        return FlowMapLoss(policy, PSD(), **options)(batch)["loss_map"]

    with kernels.use("reference"):
        wanted = losses()
    with kernels.use("triton"):
        close(losses(), wanted)


def test_two_jumps_are_two_teachers_where_no_gradient_flows_through_them(policy, device):
    x = policy.noise(BATCH, 0)
    s, u, t = (torch.full((BATCH,), time, device=device) for time in (0.1, 0.4, 0.9))
    through = (policy.output, x, (u - s) / (t - s), s, u, t)
    with kernels.use("triton"):
        with torch.no_grad():
            target = policy.prediction.through(*through)
        assert isinstance(target, SoftTarget)
        wanted = policy.prediction.through(*through)
    assert wanted.requires_grad
    close(target.distribution(), wanted.detach())


def exact_policy():
    """A policy of the exact logits of a list of strings."""
    network = ExactLogits(Sequences.random(2, LETTERS, seed=0, std=1.5))
    return FlowMapPolicy(network, (2, 3), parametrization="simplex", decode=LETTERS)


MODELS = {"list": lambda: Sequences.random(2, LETTERS, seed=0, std=1.5), "policy": exact_policy}
STEERED = {
    "mfm_gf": {"posterior": "exact", "draws": 4, "steps": 4},
    "fmtt": {"particles": 4, "steps": 4, "noise": 0.0},
    "lookahead": {"steps": 4},
}


@pytest.mark.parametrize(
    ("kind", "method"),
    [("list", "mfm_gf"), ("list", "fmtt"), ("policy", "fmtt"), ("policy", "lookahead")],
)
def test_a_steered_run_has_the_numbers_of_torch(kind, method, device, monkeypatch):
    """From the posterior of the stored strings, and by jumps and looks ahead of a policy."""
    where, steps = sys.modules["alignflow.kernels.simplex_step"], []
    forward = where._triton_forward
    monkeypatch.setattr(where, "_triton_forward", lambda *a: (steps.append(1), forward(*a)))
    model, reward = MODELS[kind]().to(device), TokenCount(LETTERS, "a")
    steerer = af.steer(model, reward, method, strength=2.0, **STEERED[method])
    found = {}
    for mode in ("reference", "triton"):
        with kernels.use(mode):
            found[mode] = steerer.sample(4, generator=0)
    assert found["reference"]["state"].std() > 0.1
    assert bool(steps) == (kind == "policy")
    for one, other in zip(found["triton"].values(), found["reference"].values(), strict=True):
        close(one, other, 1e-4)
