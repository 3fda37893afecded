"""Steered samples in a notebook: their mean reward and what they cost."""

import pytest
import torch

import alignflow as af
from alignflow.steering.samples import Samples


def first(endpoint, condition=None):
    return endpoint[:, 0]


@pytest.fixture
def samples():
    standard = af.targets.GaussianMixture(torch.ones(1), torch.zeros(1, 2), torch.eye(2)[None])
    return af.steer(standard, first, "importance", particles=4, steps=2).sample(8, generator=0)


def test_a_notebook_shows_samples_by_their_mean_reward_and_what_they_cost(samples):
    shown = samples._repr_html_()
    mean = samples["reward"].mean().item()
    assert "<b>8 samples</b>" in shown and f"<td>{mean:.4g} ± " in shown
    assert "<td>nfe a sample</td><td>8</td>" in shown
    assert "<td>reward_calls a sample</td><td>4</td>" in shown


def test_a_part_of_samples_is_shown_as_it_is_printed(samples):
    part = samples.select("state")
    assert isinstance(part, Samples)
    assert part._repr_html_().startswith("<pre>Samples(")
