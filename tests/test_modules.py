"""Attributes outside of a module, and its first parameter."""

import copy

import pytest
from torch import nn

from alignflow.modules import first_parameter, set_unregistered


def test_what_is_unregistered_is_neither_trained_saved_nor_switched():
    module, teacher = nn.Linear(1, 1), nn.Linear(2, 2)
    set_unregistered(module, teacher=teacher, number=3)
    assert module.teacher is teacher and module.number == 3
    assert set(module.state_dict()) == {"weight", "bias"}
    assert len(list(module.parameters())) == 2 and len(list(module.modules())) == 1
    assert not module.eval().training and teacher.training


def test_a_copy_has_a_copy_of_it():
    module = nn.Linear(1, 1)
    set_unregistered(module, teacher=nn.Linear(2, 2))
    copied = copy.deepcopy(module)
    assert isinstance(copied.teacher, nn.Linear) and copied.teacher is not module.teacher


def test_what_is_registered_is_not_hidden():
    with pytest.raises(ValueError, match="weight is already registered with Linear"):
        set_unregistered(nn.Linear(1, 1), weight=3)


@pytest.mark.parametrize(
    "module",
    [
        nn.Linear(2, 3),
        nn.Sequential(nn.ReLU(), nn.Sequential(nn.BatchNorm1d(2, affine=False), nn.Linear(1, 2))),
        nn.Sequential(nn.ReLU()),
    ],
)
def test_the_first_parameter_is_that_of_parameters(module):
    assert first_parameter(module) is next(module.parameters(), None)
