"""Masked diffusion on the network of a flow map learns tokens that depend on each other."""

import pytest
import torch
from masked_pairs import train_masked

from alignflow.data import Vocabulary
from alignflow.targets import Sequences
from alignflow.training import TrainingOptions


@pytest.mark.parametrize(("steps", "wrong"), [(1, 0.5), (2, 0.0)])
def test_two_equal_letters_take_two_steps(steps, wrong, generator):
    target = Sequences(["aa", "bb"], None, Vocabulary(["a", "b"]))
    model = train_masked(target, 100, 64, TrainingOptions(learning_rate=1e-2), width=16, depth=1)
    drawn = model.sample(4000, steps, generator)
    unequal = (drawn[:, 0] != drawn[:, 1]).double().mean()
    assert abs(unequal - wrong) < 0.05
    # five standard errors
    assert abs(drawn.double().mean() - 0.5) < 0.05
    assert drawn.dtype == torch.int64
