"""What is set without being registered stays outside of a module."""

import copy

import pytest
from torch import nn

from alignflow.modules import set_unregistered


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
