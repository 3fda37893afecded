"""Networks of soft tokens: denoisers at the start, differentiable, and saved like others."""

import pytest
import torch

import alignflow as af
from alignflow.policies import FlowMapPolicy, TokenDiT, TokenMLP
from alignflow.simplex import token_log_likelihood

L, V = 3, 5
SMALL = {TokenDiT: {"width": 16, "depth": 2, "heads": 2}, TokenMLP: {"width": 16, "depth": 2}}
BOTH = pytest.mark.parametrize("kind", [TokenDiT, TokenMLP])


def build(kind=TokenDiT, **options):
    torch.manual_seed(0)
    network = kind(L, V, **SMALL[kind], **options).double()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if not name.startswith("embed_times.length.mlp.2"):
                parameter.add_(0.1 * torch.randn_like(parameter))
    return network


@pytest.fixture
def inputs(generator):
    x = torch.randn(7, L, V, generator=generator, dtype=torch.float64)
    return x, *torch.rand(2, 7, generator=generator, dtype=torch.float64).sort(0).values


@pytest.mark.parametrize(
    ("kind", "options"), [(TokenDiT, {}), (TokenDiT, {"likelihood": False}), (TokenMLP, {})]
)
def test_each_jump_begins_as_the_denoiser(kind, options, inputs):
    network = build(kind, **options)
    x, s, t = inputs
    out = network(x, s, t)
    assert out.shape == (7, L, V)
    torch.testing.assert_close(out, network(x, s, s), rtol=0, atol=1e-12)
    assert not torch.allclose(out, network(x, t, t))


@BOTH
def test_a_new_network_is_the_posterior_of_each_token_by_itself(kind, inputs):
    network = kind(L, V, **SMALL[kind]).double()
    network.set_prior(torch.tensor([[0, 1, 2], [0, 1, 3]]), torch.tensor([3.0, 1.0]))
    x, s, t = inputs
    prior = network.log_prior.exp()
    torch.testing.assert_close(prior.sum(-1), torch.ones(L).double())
    torch.testing.assert_close(prior[2, 2:4], torch.tensor([1.7, 0.7]).double() / 3)
    expected = token_log_likelihood(x, s) + prior.log()
    torch.testing.assert_close(network(x, s, t), expected)


@BOTH
def test_positions_are_told_apart_and_seen_by_each_other(kind, inputs):
    network = build(kind)
    x, s, t = inputs
    turned = network(x.flip(1), s, t).flip(1)
    assert not torch.allclose(turned, network(x, s, t), atol=1e-3)
    moved = x.clone()
    moved[:, 0] += 1
    changed = (network(moved, s, t) - network(x, s, t)).abs().amax((0, 2))
    assert changed.min() > 1e-6


@BOTH
def test_it_has_gradients_and_forward_derivatives(kind, inputs):
    network = build(kind)
    x, s, t = inputs
    x = x.requires_grad_()
    network(x, s, t).square().sum().backward()
    assert x.grad is not None and all(p.grad is not None for p in network.parameters())
    step = 1e-6
    with torch.no_grad():
        torch.nn.init.normal_(network.get_parameter("embed_times.length.mlp.2.weight"))
        found = torch.func.jvp(lambda t: network(x, s, t), (t,), (torch.ones_like(t),))[1]
        expected = (network(x, s, t + step) - network(x, s, t - step)) / (2 * step)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    assert found.abs().max() > 1e-3


@BOTH
def test_it_is_saved_and_loaded_with_its_prior(kind, tmp_path):
    network = build(kind, infill=True).float()
    network.set_prior(torch.tensor([[0, 1, 2]]))
    policy = FlowMapPolicy(network, (L, V), parametrization="simplex")
    policy.save(tmp_path / "model")
    loaded = af.load(tmp_path / "model")
    assert torch.equal(loaded.sample(5, generator=0), policy.sample(5, generator=0))
    assert torch.equal(loaded.module.get_buffer("log_prior"), network.log_prior)


@BOTH
def test_fixed_tokens_stay_and_tell_the_others(kind, inputs):
    network = build(kind, infill=True)
    x, s, t = inputs
    free = network.null_condition.expand(7, L)
    torch.testing.assert_close(network(x, s, t, free), network(x, s, t), rtol=0, atol=1e-12)
    fixed = free.clone()
    fixed[:, 1] = 4
    out = network(x, s, t, fixed)
    assert (out.softmax(-1)[:, 1, 4] > 1 - 1e-12).all()
    assert (out - network(x, s, t))[:, [0, 2]].abs().amax((1, 2)).min() > 1e-6
    # what the state holds where a token is fixed says nothing
    moved = x.clone()
    moved[:, 1] += torch.randn(7, V).double()
    torch.testing.assert_close(network(moved, s, t, fixed), out, rtol=0, atol=1e-12)


@BOTH
def test_samples_have_the_fixed_tokens(kind):
    policy = FlowMapPolicy(build(kind, infill=True).float(), (L, V), parametrization="simplex")
    fixed = torch.tensor([[4, -1, 0]])
    tokens = policy.sample(6, steps=2, condition=fixed, generator=0).argmax(-1)
    assert torch.equal(tokens[:, [0, 2]], torch.tensor([[4, 0]]).expand(6, 2))
    with pytest.raises(ValueError, match="fixed tokens"):
        policy.sample(2, condition=torch.tensor([[4, 5, -1]]))
    with pytest.raises(ValueError, match="fixed tokens"):
        policy.sample(2, condition=torch.tensor([[0.5, -1.0, -1.0]]))


def test_labels_condition_it(inputs):
    network = build(classes=2)
    x, s, t = inputs
    label = torch.zeros(7).long()
    assert not torch.allclose(network(x, s, t, label), network(x, s, t, label + 1))


def test_bad_sizes_are_refused():
    with pytest.raises(ValueError, match="twice the heads must divide width"):
        TokenDiT(L, V, width=18, heads=4)
    with pytest.raises(ValueError, match="does not fit TokenDiT"):
        FlowMapPolicy(TokenDiT(L, V, width=16, heads=2), (V, L), parametrization="simplex")
    with pytest.raises(ValueError, match=r"tokens must be \(N, 3\)"):
        TokenDiT(L, V, width=16, heads=2).set_prior(torch.zeros(2, 4).long())
    with pytest.raises(ValueError, match="whole numbers from 0 to 4"):
        TokenMLP(L, V, width=16).set_prior(torch.tensor([[0, 1, 5]]))
    with pytest.raises(ValueError, match="a label or fixed tokens"):
        TokenDiT(L, V, width=16, heads=2, classes=2, infill=True)
    with pytest.raises(ValueError, match="takes no condition"):
        TokenMLP(L, V, width=16)(
            torch.zeros(1, L, V), torch.zeros(1), torch.ones(1), torch.zeros(1)
        )
