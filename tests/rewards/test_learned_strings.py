"""Learned rewards of strings: what they learned, their gradient, soundness, refusals."""

import pytest
import torch
from torch import nn

import alignflow as af
from alignflow.checkpoint import load_folder
from alignflow.rewards import LearnedProperty, LogP, Pattern, StringClassifier
from alignflow.rewards.molecule_properties import QED
from alignflow.rewards.string_network import FOLDER, PropertyNetwork, StringLabelNetwork

RULES = {"son": "son$", "man": "man$", "mc": "^mc", "vowel": "[aeiouy]$"}


@pytest.mark.parametrize(("label", "pattern"), RULES.items())
def test_a_label_of_names_is_that_of_its_rule(label, pattern):
    names = af.data.names()
    truth = names.label(Pattern(pattern)).bool()
    with torch.no_grad():
        probability = StringClassifier(label)(names.states())
    assert ((probability > 0.5) == truth).double().mean() > 0.99
    # of 1,000 names, 200 of which it did not learn from
    assert probability.mean() == pytest.approx(truth.double().mean().item(), abs=0.01)


@pytest.mark.parametrize(
    ("name", "property", "exact", "least"),
    [
        ("fragments", "qed", QED, 0.7),
        ("fragments", "logp", LogP, 0.8),
        ("molecules", "qed", QED, 0.3),
        ("molecules", "logp", LogP, 0.7),
    ],
)
def test_a_property_of_molecules_is_about_that_of_rdkit(name, property, exact, least):
    pytest.importorskip("rdkit")
    data = af.data.molecules("scaffolds", 300) if name == "molecules" else af.data.fragments()
    data = data.select(slice(0, 300))
    truth = data.label(exact())
    with torch.no_grad():
        found = LearnedProperty(property, name)(data.states()).double()
    assert 1 - (found - truth).square().mean() / truth.var() > least


def test_the_cards_tell_errors_on_strings_that_were_not_learned_from():
    for name, (measure, least) in {
        "names": ("accuracy", 0.99),
        "fragments": ("r2", 0.7),
        "molecules": ("r2", 0.4),
    }.items():
        card = load_folder(FOLDER / name)[1]["card"]
        assert all(found[measure] > least for found in card["measured"].values()), card
        assert sum(file.stat().st_size for file in (FOLDER / name).iterdir()) < 500_000


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (StringClassifier, ("son",)),
        (LearnedProperty, ("qed", "fragments")),
        (LearnedProperty, ("logp", "molecules")),
    ],
)
def test_its_gradient_is_right_inside_of_the_simplex(kind, arguments, generator):
    reward = kind(*arguments).double()
    length, vocabulary = reward.function.network.event_shape
    states = torch.randn(1, length, vocabulary, generator=generator, dtype=torch.float64)
    states = states.softmax(-1).requires_grad_()
    assert torch.autograd.gradcheck(reward, states, fast_mode=True)


def test_a_mixture_of_names_has_about_the_mean_of_their_labels():
    names = af.data.names()
    rows = [names.strings.index(name) for name in ("johnson", "johnston")]
    ends = names.states(rows)
    weight = torch.linspace(0, 1, 5)[:, None, None]
    found = StringClassifier("son")(weight * ends[0] + (1 - weight) * ends[1])
    torch.testing.assert_close(found, weight[:, 0, 0], atol=0.25, rtol=0)
    assert (found.diff() > 0).all()


class Still(nn.Module):
    """The velocity that takes every state to 0."""

    def forward(self, x, s, t):
        return -x


def test_it_is_sound():
    policy = af.FlowMapPolicy(Still(), (12, 27), decode=af.data.names().vocabulary)
    report = af.check_reward(StringClassifier("son"), policy)
    assert report.ok and report.differentiable and report.name == "son", str(report)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: StringClassifier("sun"), "no label 'sun': known are son, man, mc, vowel"),
        (lambda: StringClassifier("son", "towns"), "no string classifier 'towns': known are names"),
        (lambda: LearnedProperty("qed", nn.Linear(2, 2)), "Linear has no labels"),
        (lambda: StringLabelNetwork([], 3, 4), "labels must be names"),
    ],
)
def test_what_is_not_there_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_network_of_another_kind_is_refused():
    with pytest.raises(af.CheckpointError, match="holds no property network"):
        LearnedProperty("son", "names")


def test_states_of_another_length_are_refused():
    with pytest.raises(af.RewardError, match=r"takes soft tokens \(N, 12, 27\), got \(2, 11, 27\)"):
        StringClassifier("son")(torch.zeros(2, 11, 27))


def test_a_network_of_the_user_s_own_will_do():
    network = PropertyNetwork(["length"], 3, 4, width=8, depth=1)
    assert LearnedProperty("length", network, name="long").name == "long"
