"""The digest of a model: the same on reading it again, another for other weights."""

import torch
from torch import nn

import alignflow as af
from alignflow.checkpoint import digest
from alignflow.targets import ring


def test_it_is_that_of_the_weights_and_of_nothing_else(tmp_path):
    policy = af.load("ring")
    again = af.load(policy.save(tmp_path / "ring"))
    assert digest(policy) == digest(again) == digest(af.load("ring").train())
    with torch.no_grad():
        next(again.parameters()).add_(1e-3)
    assert digest(again) != digest(policy)


def test_models_without_parameters_are_told_by_their_buffers_and_class():
    assert digest(ring()) == digest(ring()) != digest(ring(modes=4))
    assert digest(nn.Identity()) != digest(nn.Flatten())
