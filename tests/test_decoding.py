"""Decoders: what is seen of states, by name or as an object, frozen, and saved with a policy."""

import json

import pytest
import torch
from torch import nn

from alignflow.checkpoint import CheckpointError
from alignflow.coordinates import from_relative
from alignflow.decoding import (
    Decoder,
    Identity,
    Image,
    Particles,
    as_decoder,
    decoder_class,
    decoder_name,
    register_decoder,
)
from alignflow.policies import MLP, FlowMapPolicy, load


@register_decoder("test-scale")
class Scale(Decoder):
    """States times stored weights."""

    def __init__(self, size: int):
        super().__init__()
        self.arguments = {"size": size}
        self.weight = nn.Parameter(torch.randn(size))

    def forward(self, x):
        return self.weight * x


@register_decoder("test-signs")
class Signs(Decoder):
    """States as texts."""

    def forward(self, x):
        return ["".join("+" if number > 0 else "-" for number in row) for row in x.tolist()]


def test_states_are_seen_as_they_are_as_pixels_or_as_clusters(generator):
    x = torch.tensor([[-2.0, 0.0, 1.0]])
    assert torch.equal(Identity()(x), x)
    assert torch.equal(Image()(x), torch.tensor([[0.0, 0.5, 1.0]]))
    assert torch.equal(Image().encode(Image()(x)), x.clamp(-1, 1))
    y = torch.randn(2, 3, 2, generator=generator)
    assert torch.equal(Particles()(y), from_relative(y))


def test_a_name_is_short_for_a_decoder_that_needs_no_arguments():
    assert isinstance(as_decoder("image"), Image)
    decoder = Scale(2)
    assert as_decoder(decoder) is decoder
    assert decoder_name(decoder) == "test-scale" and decoder_class("test-scale") is Scale
    assert decoder_name(Decoder()) is None and decoder_class("nobody") is None


@pytest.mark.parametrize(
    ("decode", "message"),
    [
        ("jpeg", "decode must be one of identity, image, particles"),
        ("imgae", "did you mean 'image'"),
        ("test-scale", r"decode='test-scale' needs arguments: give a Scale\(\.\.\.\)"),
        *((value, "or an instance of a Decoder, got") for value in (None, 3, Image, torch.sin)),
    ],
)
def test_what_decodes_nothing_is_refused(decode, message):
    with pytest.raises(ValueError, match=message):
        FlowMapPolicy(MLP(2, 8, 1), (2,), decode=decode)


def test_a_name_belongs_to_one_class():
    with pytest.raises(ValueError, match="'image' is alignflow.decoding.Image already"):
        register_decoder("image")(Signs)
    assert register_decoder("test-signs")(Signs) is Signs
    with pytest.raises(ValueError, match="a decoder must be a subclass of Decoder"):
        register_decoder("test-sine")(torch.sin)


def test_a_decoder_is_frozen_and_passes_a_gradient_on():
    policy = FlowMapPolicy(MLP(2, 8, 1), (2,), decode=Scale(2))
    x = torch.zeros(1, 2, requires_grad=True)
    policy.decode(x).sum().backward()
    assert torch.equal(x.grad[0], policy.decoder.weight)
    assert not policy.decoder.weight.requires_grad and not policy.decoder.training
    policy.requires_grad_(True).train()
    assert not policy.decoder.weight.requires_grad and not policy.decoder.training


def test_a_decoder_is_no_part_of_what_is_trained():
    policy = FlowMapPolicy(MLP(2, 8, 1), (2,), decode=Scale(2))
    assert len(list(policy.parameters())) == len(list(policy.module.parameters()))
    assert policy.double().decoder.weight.dtype == torch.float64


def test_states_may_be_decoded_to_texts(tmp_path):
    policy = FlowMapPolicy(MLP(2, 8, 1), (2,), decode=Signs())
    assert policy.decode(torch.tensor([[1.0, -1.0], [-1.0, 1.0]])) == ["+-", "-+"]
    assert load(policy.save(tmp_path / "model")).decode(torch.ones(1, 2)) == ["++"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_and_arguments_travel_with_the_policy(dtype, tmp_path):
    policy = FlowMapPolicy(MLP(2, 8, 1), (2,), decode=Scale(2)).to(dtype)
    loaded = load(policy.save(tmp_path / "model"))
    x = torch.ones(1, 2, dtype=dtype)
    assert torch.equal(loaded.decode(x), policy.decode(x))


def test_a_folder_may_be_loaded_with_another_decoder(tmp_path):
    folder = FlowMapPolicy(MLP(2, 8, 1), (2,), decode="image").save(tmp_path / "model")
    assert isinstance(load(folder, decode="identity").decoder, Identity)
    scale = Scale(2)
    assert torch.equal(load(folder, decode=scale).decoder.weight, scale.weight)


def edited(folder, **changes):
    facts = json.loads((folder / "facts.json").read_text()) | changes
    facts["sha256"] = facts["sha256"]["tensors"]
    (folder / "facts.json").write_text(json.dumps(facts))


def test_a_folder_of_an_older_version_has_the_name_alone(tmp_path):
    folder = FlowMapPolicy(MLP(2, 8, 1), (2,)).save(tmp_path / "model")
    edited(folder, decode="image")
    assert isinstance(load(folder).decoder, Image)


@pytest.mark.parametrize(
    ("decode", "message"),
    [
        ({"name": "os.system", "arguments": {}}, "not registered .'os.system'.*register_decoder"),
        ({"name": "test-scale", "arguments": {"size": 3}}, "weight must be .3,., and is .2,."),
        ({"name": "image", "arguments": {}}, "weight must be absent, and is .2,."),
        ({"name": "test-scale", "arguments": []}, "arguments must be of type dict"),
        ({"name": "test-scale"}, "lacks 'arguments'"),
        ({"name": "test-scale", "arguments": {}, "dtype": "int64"}, "a dtype that is none of"),
        (None, "decode must be of type dict"),
    ],
)
def test_a_folder_that_describes_its_decoder_wrongly_is_refused(decode, message, tmp_path):
    folder = FlowMapPolicy(MLP(2, 8, 1), (2,), decode=Scale(2)).save(tmp_path / "model")
    edited(folder, decode=decode)
    with pytest.raises(CheckpointError, match=message):
        load(folder)
