"""Policies: networks and callables as flow maps, their gradients, their folders."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from alignflow import pretrain
from alignflow.checkpoint import CheckpointError
from alignflow.decoding import Particles
from alignflow.policies import (
    EGNN,
    MLP,
    DiT,
    FlowMapPolicy,
    UNet,
    from_flow_map,
    from_velocity,
    load,
    load_policy,
    zoo,
)

MEAN, VARIANCE = 0.7, 0.3
SHIPPED = zoo.shipped()


def std(t):
    return (t**2 * VARIANCE + (1 - t) ** 2).sqrt()


def gaussian_velocity(x, t, condition=None):
    t = t[:, None]
    return MEAN + (t * VARIANCE - (1 - t)) / std(t) ** 2 * (x - t * MEAN)


def gaussian_map(x, s, t, condition=None):
    s, t = s[:, None], t[:, None]
    return t * MEAN + std(t) / std(s) * (x - s * MEAN)


@pytest.fixture
def points(generator):
    x = torch.randn(63, 2, generator=generator, dtype=torch.float64)
    return x, *torch.rand(2, 63, generator=generator, dtype=torch.float64)


def test_a_velocity_is_integrated_to_its_exact_map_in_both_directions(points):
    policy = from_velocity(gaussian_velocity, (2,))
    x, s, t = points
    torch.testing.assert_close(policy.flow_map(x, s, t), gaussian_map(x, s, t), rtol=0, atol=1e-7)
    torch.testing.assert_close(policy.velocity(x, t), gaussian_velocity(x, t))


def test_the_velocity_of_a_map_is_its_derivative(points):
    policy = from_flow_map(gaussian_map, (2,))
    x, s, t = points
    torch.testing.assert_close(policy.velocity(x, t), gaussian_velocity(x, t), rtol=0, atol=1e-10)
    torch.testing.assert_close(policy.flow_map(x, s, t), gaussian_map(x, s, t))


@pytest.mark.parametrize("make", [from_velocity, from_flow_map])
def test_callables_are_differentiable_in_the_state(make, generator):
    policy = make(gaussian_velocity if make is from_velocity else gaussian_map, (2,))
    x = torch.randn(2, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: policy.flow_map(x, 0.2, 0.9), x, atol=1e-4)


NETWORKS = {
    "mlp": (lambda **k: MLP(2, 8, 2, **k), (2,)),
    "dit": (lambda **k: DiT(3, 8, 2, width=16, depth=2, heads=2, **k), (3, 8, 8)),
    "unet": (lambda **k: UNet(1, (8, 16), 1, (False, True), **k), (1, 8, 8)),
    "patched unet": (lambda **k: UNet(1, (8, 16), 1, (False, True), patch=2, **k), (1, 8, 8)),
}
networks = pytest.mark.parametrize("name", NETWORKS)


def randomize(module, generator):
    """Weights that start at zero hide mistakes, so all are drawn anew."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    return module.double().eval()


def build(name, generator, **options):
    make, shape = NETWORKS[name]
    return FlowMapPolicy(randomize(make(**options), generator), shape)


@networks
def test_a_network_is_the_identity_over_no_time_and_its_parametrizations_agree(name, generator):
    policy = build(name, generator)
    x = torch.randn(3, *policy.event_shape, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(policy.flow_map(x, 0.4, 0.4), x)
    s, t = torch.tensor([[0.2], [0.7]], dtype=torch.float64).expand(2, 3)
    average = policy.average_velocity(x, s, t)
    other = FlowMapPolicy(policy.module, policy.event_shape, "mean_denoiser")
    torch.testing.assert_close(other.mean_denoiser(x, s, t), average)
    torch.testing.assert_close(other.average_velocity(x, s, t), (average - x) / 0.8)
    torch.testing.assert_close(
        other.flow_map(x, 0.2, 0.7), x + 0.5 * other.average_velocity(x, s, t)
    )


@networks
def test_the_denoiser_of_a_network_is_exact_at_the_end_of_the_path(name, generator):
    policy = build(name, generator)
    x = torch.randn(3, *policy.event_shape, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(policy.denoiser(x, 1.0), x)


@networks
def test_a_network_has_forward_and_reverse_derivatives(name, generator):
    policy = build(name, generator)
    x = torch.randn(2, *policy.event_shape, generator=generator, dtype=torch.float64)
    s, t = torch.rand(2, 2, generator=generator, dtype=torch.float64)
    direction = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    one = torch.ones(2, dtype=torch.float64)

    def average(x, s, t):
        return policy.average_velocity(x, s, t)

    _, derivative = torch.func.jvp(average, (x, s, t), (direction, one, one))
    # a difference errs by step^2 times the third derivative, and times go up to 1,000 radians
    step = 1e-7
    ahead, behind = (average(x + h * direction, s + h, t + h) for h in (step, -step))
    torch.testing.assert_close(derivative, (ahead - behind) / (2 * step), rtol=1e-4, atol=1e-5)


@networks
def test_labels_matter_and_minus_one_is_no_label(name, generator):
    policy = build(name, generator, classes=3)
    x = torch.randn(2, *policy.event_shape, generator=generator, dtype=torch.float64)
    labelled = policy.velocity(x, 0.5, torch.tensor([0, 2]))
    none = policy.velocity(x, 0.5)
    torch.testing.assert_close(policy.velocity(x, 0.5, torch.tensor([-1, -1])), none)
    assert not torch.isclose(labelled, none).all(dim=1).any()
    with pytest.raises(ValueError, match="takes no condition"):
        build(name, generator).velocity(x, 0.5, torch.tensor([0, 1]))


@networks
def test_a_context_changes_nothing_until_it_is_trained(name):
    make, shape = NETWORKS[name]
    network = make(context=True)
    x, time = torch.randn(2, *shape), torch.full((2,), 0.5)
    plain = network(x, time, time)
    torch.testing.assert_close(network(x, time, time, None, (time, x)), plain)
    randomize(network, torch.Generator().manual_seed(0)).float()
    assert not torch.allclose(network(x, time, time, None, (time, x)), network(x, time, time))
    with pytest.raises(ValueError, match="build it with context=True"):
        make()(x, time, time, None, (time, x))


@networks
def test_a_saved_policy_is_loaded_from_its_folder_alone(name, generator, tmp_path):
    policy = build(name, generator, classes=3).float()
    policy.invertible = True
    policy.facts = {"license": "CC0"}
    loaded = load(policy.save(tmp_path / "model"))
    x = torch.randn(2, *policy.event_shape, generator=generator)
    torch.testing.assert_close(loaded.flow_map(x, 1.0, 0.0), policy.flow_map(x, 1.0, 0.0))
    assert loaded.facts == {"license": "CC0"} and loaded.event_shape == policy.event_shape


def test_half_precision_halves_the_file_and_loads_as_it_was_trained(generator, tmp_path):
    policy = build("dit", generator).float()
    whole = policy.save(tmp_path / "whole") / "tensors.safetensors"
    half = policy.save(tmp_path / "half", dtype=torch.float16) / "tensors.safetensors"
    assert half.stat().st_size < 0.7 * whole.stat().st_size
    loaded = load_policy(tmp_path / "half")
    assert loaded.dtype == torch.float32
    x = torch.randn(2, 3, 8, 8, generator=generator)
    torch.testing.assert_close(
        loaded.velocity(x, 0.5), policy.velocity(x, 0.5), rtol=0.05, atol=0.02
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("stored", [None, torch.bfloat16])
def test_a_policy_comes_back_in_its_dtype_whatever_it_is_stored_in(dtype, stored, tmp_path):
    policy = FlowMapPolicy(MLP(2, 8, 1).to(dtype), (2,))
    policy.save(tmp_path / "model", dtype=stored)
    for loaded in (load(tmp_path / "model"), load(tmp_path / "model", module=MLP(2, 8, 1))):
        assert loaded.dtype == dtype
        if stored is None:
            state = policy.state_dict()
            assert all(torch.equal(state[k], v) for k, v in loaded.state_dict().items())


def test_a_policy_of_float64_that_is_given_a_context_stays_one(generator):
    policy = build("mlp", generator)
    assert policy.with_context().dtype == torch.float64


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64, "float16", 16])
def test_weights_are_stored_as_floating_point_numbers_only(dtype, tmp_path):
    with pytest.raises(ValueError, match="dtype must be a floating-point one"):
        FlowMapPolicy(MLP(2, 8, 1), (2,)).save(tmp_path / "model", dtype=dtype)
    assert not list(tmp_path.iterdir())


def test_weights_that_are_no_numbers_are_refused_unless_they_are_meant(tmp_path):
    policy = FlowMapPolicy(MLP(2, 8, 1), (2,))
    with torch.no_grad():
        policy.module.first.weight[0, 0] = 1e5
    # beyond the largest number of half precision
    with pytest.raises(CheckpointError, match="first.weight has 1 of 32 numbers"):
        policy.save(tmp_path / "model", dtype=torch.float16)
    assert not list(tmp_path.iterdir())
    policy.save(tmp_path / "model", dtype=torch.float16, allow_nonfinite=True)
    with pytest.raises(CheckpointError, match="model: first.weight has 1 of 32 numbers"):
        load(tmp_path / "model")
    loaded = load(tmp_path / "model", allow_nonfinite=True)
    assert loaded.module.first.weight[0, 0].isinf()


def test_a_policy_is_not_saved_over_the_run_that_made_it(tmp_path):
    policy = FlowMapPolicy(MLP(2, 8, 1), (2,))
    pretrain(policy, torch.zeros(4, 2), steps=2, batch_size=2, folder=tmp_path / "run")
    before = sorted((tmp_path / "run").rglob("*"))
    with pytest.raises(CheckpointError, match="run holds more than a saved checkpoint .checkpoint"):
        policy.save(tmp_path / "run")
    assert sorted((tmp_path / "run").rglob("*")) == before


def test_a_model_folder_of_an_older_version_opens(tmp_path):
    policy = FlowMapPolicy(MLP(2, 8, 1), (2,))
    facts = json.loads((policy.save(tmp_path / "model") / "facts.json").read_text())
    for name in ("dtype", "stochastic", "data_std"):
        del facts[name]
    facts["sha256"] = facts["sha256"]["tensors"]
    (tmp_path / "model" / "facts.json").write_text(json.dumps(facts))
    loaded = load(tmp_path / "model")
    assert not loaded.stochastic and loaded.data_std == 1 and loaded.dtype == torch.float32


def test_the_standard_deviation_of_a_folder_of_an_older_version_is_read(tmp_path):
    policy = FlowMapPolicy(MLP(2, 8, 1), (2,), data_std=0.25)
    folder = policy.save(tmp_path / "model")
    assert load(folder).data_std == 0.25
    facts = json.loads((folder / "facts.json").read_text())
    facts["data_deviation"] = facts.pop("data_std")
    facts["sha256"] = facts["sha256"]["tensors"]
    (folder / "facts.json").write_text(json.dumps(facts))
    assert load(folder).data_std == 0.25


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_model_whose_card_is_altered_is_refused(name, tmp_path):
    shutil.copytree(Path(zoo.__file__).parent / "shipped" / name, tmp_path / name)
    facts = json.loads((tmp_path / name / "facts.json").read_text())
    facts["facts"]["parameters"] += 1
    (tmp_path / name / "facts.json").write_text(json.dumps(facts))
    with pytest.raises(CheckpointError, match="facts.json is altered"):
        load(tmp_path / name)


@pytest.mark.parametrize("name", ["", "a\0b", "x" * 5000, 3, None, ["ring"], "rign"], ids=str)
def test_a_name_that_is_none_is_refused(name):
    with pytest.raises(CheckpointError, match="by its path, got|neither a shipped model"):
        load(name)


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: MLP(2), (3,)),
        (lambda: DiT(3, 8, 2, 16, 1, 2), (3, 16, 16)),
        (lambda: UNet(1, (8, 16), 1, (False, True)), (1, 9, 8)),
        (lambda: UNet(1, (8, 16), 1, (False, True)), (3, 8, 8)),
        (lambda: EGNN(4, 2), (4, 2)),
    ],
)
def test_states_of_another_shape_than_the_network_takes_are_refused(make, shape):
    with pytest.raises(
        ValueError, match=r"event_shape \(.*\) must be one that the network takes, and does not fit"
    ):
        FlowMapPolicy(make(), shape)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("event_shape", 2), ("event_shape", "2"), ("event_shape", (2.5,))),
        *(("invertible", "no"), ("stochastic", 1), ("stochastic", True), ("facts", ["card"])),
        *(("data_std", 0.0), ("data_std", float("nan")), ("decode", None)),
    ],
)
def test_what_describes_a_policy_is_checked_where_it_enters(name, value):
    with pytest.raises(ValueError, match=name):
        FlowMapPolicy(**{"module": MLP(2), "event_shape": (2,)} | {name: value})


@pytest.mark.parametrize(
    ("make", "name"),
    [
        *((lambda: MLP(2.5), "dimension"), (lambda: MLP(2, width=0), "width")),
        *((lambda: MLP(2, depth=True), "depth"), (lambda: MLP(2, scale=0.0), "scale")),
        *((lambda: DiT(classes=-1), "classes"), (lambda: DiT(heads="6"), "heads")),
        (lambda: UNet(widths=(8.5,), attention=(True,)), "widths"),
        (lambda: UNet(widths=(8,), attention=(1,)), "attention"),
        *((lambda: EGNN(1), "particles"), (lambda: MLP(2, context=1), "context")),
    ],
)
def test_sizes_of_a_network_are_checked_where_they_enter(make, name):
    with pytest.raises(ValueError, match=f"^{name} must be"):
        make()


class Unregistered(torch.nn.Linear):
    def __init__(self):
        super().__init__(2, 2)

    def forward(self, x, s, t):
        return super().forward(x)


def test_a_network_that_is_not_registered_is_saved_and_needs_to_be_given_again(tmp_path):
    policy = FlowMapPolicy(Unregistered(), (2,))
    policy.save(tmp_path / "model")
    with pytest.raises(CheckpointError, match=r"module=MyNet\(\)"):
        load(tmp_path / "model")
    x = torch.ones(1, 2)
    loaded = load(tmp_path / "model", module=Unregistered())
    torch.testing.assert_close(loaded.velocity(x, 0.0), policy.velocity(x, 0.0))


def test_a_folder_never_names_what_is_imported(tmp_path):
    folder = FlowMapPolicy(MLP(2, 8, 1), (2,)).save(tmp_path / "model")
    facts = json.loads((folder / "facts.json").read_text())
    facts["network"] = "os.system"
    (folder / "facts.json").write_text(json.dumps(facts))
    with pytest.raises(CheckpointError, match="not registered .'os.system'"):
        load(folder)


def test_images_are_decoded_to_pixels_and_the_decoder_travels(tmp_path):
    policy = FlowMapPolicy(UNet(1, (8,), 1, (False,)), (1, 4, 4), decode="image")
    loaded = load(policy.save(tmp_path / "model"))
    x = torch.tensor([-3.0, -1.0, 0.0, 1.0]).reshape(1, 1, 2, 2)
    expected = torch.tensor([0.0, 0.0, 0.5, 1.0]).reshape(1, 1, 2, 2)
    torch.testing.assert_close(loaded.decode(x), expected)


def test_running_a_learned_map_backwards_is_refused_unless_it_was_trained_for_it(generator):
    policy = build("mlp", generator)
    x = torch.zeros(2, 2, dtype=torch.float64)
    with pytest.raises(ValueError, match="from noise to data only"):
        policy.flow_map(x, 0.5, 0.4)
    policy.invertible = True
    back = policy.flow_map(x, 0.5, 0.4)
    average = policy.average_velocity(x, *(torch.full((2,), t).double() for t in (0.5, 0.4)))
    torch.testing.assert_close(back, x - 0.1 * average)


def test_mistakes_at_the_door_are_named(tmp_path):
    with pytest.raises(ValueError, match="parametrization must be one of"):
        FlowMapPolicy(MLP(2), (2,), parametrization="epsilon")
    with pytest.raises(ValueError, match="decode must be one of identity, image, particles"):
        FlowMapPolicy(MLP(2), (2,), decode="jpeg")
    with pytest.raises(ValueError, match=r"\(N, 2\), got \(3, 4\)"):
        FlowMapPolicy(MLP(2), (2,)).flow_map(torch.zeros(3, 4), 0.0, 1.0)
    with pytest.raises(CheckpointError, match="neither a shipped model"):
        load("nobody")
    with pytest.raises(ValueError, match="patch must divide size"):
        DiT(size=15, patch=2)
    with pytest.raises(ValueError, match="equally long"):
        UNet(widths=(8, 16), attention=(True,))


@pytest.mark.parametrize("module", [3, None, "mlp", [], MLP])
def test_what_is_no_network_is_refused(module):
    with pytest.raises(ValueError, match="^module must be a torch.nn.Module .*, got "):
        FlowMapPolicy(module, (2,))


@pytest.mark.parametrize("module", [3, "mlp", MLP])
def test_what_is_no_network_holds_no_weights(module):
    with pytest.raises(ValueError, match="^module must be an instance of a torch.nn.Module, got "):
        load("ring", module=module)


@pytest.mark.parametrize("x", [3.0, torch.zeros(4, 2).bool(), torch.zeros(4, 3, 1)])
def test_only_states_are_decoded(x):
    with pytest.raises(ValueError, match="a state must be "):
        FlowMapPolicy(MLP(2, width=8), (2,)).decode(x)


class Weighted(Particles):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))


def test_a_decoder_goes_where_its_policy_goes_and_is_none_of_its_parameters():
    policy = FlowMapPolicy(torch.nn.Identity(), (2, 3), decode=Weighted())
    assert policy.to("meta").decoder.weight.device.type == "meta"
    assert not list(policy.parameters()) and not policy.state_dict()
