"""A policy that decodes to strings: what its vocabulary must be, and how it is guided and infilled.

The network is the exact denoiser of a list of strings, so that what it does is known.
"""

import pytest
import torch
from torch import nn

import alignflow as af
from alignflow.checkpoint import CheckpointError
from alignflow.cost import MeteredFlowMap, metered
from alignflow.data import BPEVocabulary, Strings, Vocabulary
from alignflow.distillation import FlowMapLoss
from alignflow.finetuning.problem import Problem
from alignflow.flow_map import guided
from alignflow.policies import MLP, TokenDiT
from alignflow.targets import Sequences

WORDS = Sequences(["bad", "dab", "add", "cab", "ace"], [1.0, 2.0, 3.0, 1.0, 0.5])
LETTERS = WORDS.vocabulary


class Exact(nn.Module):
    """Logits of the denoiser of WORDS given fixed tokens; of longer jumps, the same."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))  # something to train

    def forward(self, x, s, t, condition=None):
        return self.weight + WORDS.denoiser(x, s, condition).clamp(min=1e-30).log()


@pytest.fixture
def policy():
    return af.FlowMapPolicy(Exact(), (3, LETTERS.size), "simplex", decode=LETTERS)


def small(vocabulary, length=3, **options):
    network = TokenDiT(length, vocabulary.size, width=16, depth=1, heads=2, **options)
    shape = (length, vocabulary.size)
    return af.FlowMapPolicy(network, shape, "simplex", decode=vocabulary)


@af.reward
def letters_d(endpoint):
    return torch.tensor([float(string.count("d")) for string in endpoint])


def test_states_are_decoded_by_the_likeliest_tokens_or_drawn(policy):
    soft = policy.sample(200, steps=1, generator=0)  # the denoiser at time 0, one of all rows
    assert len(set(policy.decode(soft))) == 1
    drawn = policy.decode(soft, temperature=1.0, generator=0)
    assert len(set(drawn)) > 10 and drawn == policy.decode(soft, temperature=1.0, generator=0)
    with pytest.raises(ValueError, match="temperature must be a positive number, got 0.0"):
        policy.decode(soft, temperature=0.0)
    with pytest.raises(ValueError, match="soft tokens must be finite"):
        policy.decode(soft * torch.nan, temperature=1.0)


def test_a_template_is_filled_in_as_the_exact_conditional_says(policy):
    n, template = 500, LETTERS.template("_a_", 3)
    with torch.no_grad():
        strings = policy.sample(n, 16, template, sampler=af.samplers.DenoiserODE(), generator=0)
    given = WORDS.given(template)
    assert set(policy.decode(strings)) <= {"bad", "dab", "cab"}
    floor = (given.weights * (1 - given.weights) / n).sqrt().sum()
    assert given.total_variation(strings) < 2 * floor


@pytest.mark.parametrize("scale", [0.0, 1.0, 2.0])
def test_a_guided_policy_stays_on_the_simplex_and_predicts_logits(policy, scale, generator):
    x, template = policy.noise(7, generator), LETTERS.template("d*", 3)
    t = torch.full((7,), 0.4)
    free, fixed = (policy.denoiser(x, 0.4, c).double() for c in (None, template))
    wanted = free ** (1 - scale) * fixed**scale
    wanted = (wanted / wanted.sum(-1, keepdim=True)).float()
    tuned = Problem(policy, af.Tilt(letters_d), condition=template, guidance=2.0).policy
    models = [guided(policy, scale), guided(MeteredFlowMap(policy), scale)]
    models += [tuned] if scale == 2.0 else []
    for model in models:
        assert model.prediction is policy.prediction
        found = model.denoiser(x, 0.4, template)
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-5)
        velocity = (found - x) / 0.6
        torch.testing.assert_close(model.velocity(x, t, template), velocity)
        ahead = x.lerp(found, 0.5)
        torch.testing.assert_close(model.flow_map(x, t, 0.7, template), ahead)
        logits = model.prediction.predict(model, x, t, t, template)
        torch.testing.assert_close(logits.softmax(-1), found)
    with metered() as meter:
        models[1].flow_map(x, 0.4, 0.7, template)
    assert meter.total.nfe == 14


def test_a_guided_policy_is_matched_by_cross_entropy(policy, generator):
    template = LETTERS.template("_a_", 3)
    model = Problem(policy, af.Tilt(letters_d), condition=template, guidance=2.0).policy
    x, t = policy.noise(5, generator), torch.full((5,), 0.3)
    loss = FlowMapLoss(model).match(x, t, lambda velocity: velocity, template.expand(5, 3))
    (gradient,) = torch.autograd.grad(loss, policy.module.weight)
    assert loss > 0 and gradient.abs() < 1e-5


def test_a_guided_model_is_steered_through_its_condition(policy):
    steerer = af.steer(policy, letters_d, "best_of_n", particles=2, steps=4, guidance=1.5)
    out = steerer.sample(9, condition=LETTERS.template("*b", 3), generator=0)
    assert set(policy.decode(out["state"])) <= {"dab", "cab"}
    assert out["nfe"] == 2 * 2 * 4


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((3, 6), r"a vocabulary of 6 symbols .* \(L, 6\), and event_shape is \(3, 7\)"),
        ((3,), r"of shape \(L, 6\), and event_shape is \(3,\)"),
    ],
)
def test_a_vocabulary_of_another_size_is_refused(shape, message):
    shape = (3, 7) if len(shape) == 2 else shape
    with pytest.raises(ValueError, match=message):
        af.FlowMapPolicy(MLP(3, 8, 1), shape, "simplex", decode=Vocabulary("abcdef"))


def test_a_vocabulary_of_another_checkpoint_is_refused(tmp_path):
    folder = small(LETTERS).save(tmp_path / "model")
    same = af.load(folder, decode=Vocabulary(LETTERS.symbols))
    assert same.decoder.symbols == LETTERS.symbols
    turned = Vocabulary([*LETTERS.symbols[:-2], LETTERS.symbols[-1], LETTERS.symbols[-2]])
    message = "saved with another decoder: there are two vocabularies, .* token 4 is 'e' .* and 'd'"
    with pytest.raises(CheckpointError, match=message):
        af.load(folder, decode=turned)
    with pytest.raises(CheckpointError, match="of 7 symbols here and 6 there: token 6 is 'z'"):
        af.load(folder, decode=Vocabulary([*LETTERS.symbols, "z"]))
    pieces = BPEVocabulary([*LETTERS.symbols[:-1], "ab"], [("a", "b")])
    with pytest.raises(CheckpointError, match="token 5 is 'ab' here and 'e' there"):
        af.load(folder, decode=pieces)
    # another decoder reads the states as they are
    assert af.load(folder, decode="identity").decode(torch.ones(1, 3, 6)).shape == (1, 3, 6)


def test_data_of_another_vocabulary_are_refused():
    cities = Strings.of(["abc", "abd"])
    train = {"steps": 1, "batch_size": 2, "generator": 0}
    af.pretrain(small(cities.vocabulary), cities, **train)
    other = small(Vocabulary(["<pad>", "a", "b", "d", "c"]))
    for data in (cities, Sequences(cities)):
        with pytest.raises(ValueError, match="token 3 is 'c' here and 'd' there"):
            af.pretrain(other, data, **train)


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ([[6, -1, -1]], "below 6, got some from -1 to 6"),
        ([[-3, -1, -1]], "below 6, got some from -3 to -1"),
        ([[1, -1]], r"whole numbers \(N, 3\), -1 where free"),
        ([[0.5, -1, -1]], "got torch.float32"),
        ("ab*", "a vocabulary's template writes them"),
    ],
)
def test_an_infilling_network_refuses_what_fixes_no_tokens(condition, message):
    policy = small(LETTERS, infill=True)
    with pytest.raises(ValueError, match=message):
        policy.sample(2, condition=condition)


@pytest.mark.parametrize("guidance", [0.5, 1.0, 3.0])
@pytest.mark.parametrize(
    "sampler", [None, af.samplers.TokenDraws(), af.samplers.DenoiserODE()], ids=repr
)
def test_fixed_tokens_stay_under_every_sampler_and_guidance(sampler, guidance):
    template = LETTERS.template(["_a_", "b*", "*de"], 3)
    template[2] = LETTERS.encode(["cab"])  # nothing is left to fill in
    drawn = small(LETTERS, infill=True).sample(
        3, 12, template, guidance, sampler=sampler, generator=0
    )
    tokens = drawn.argmax(-1)
    assert torch.equal(tokens[template >= 0], template[template >= 0])


def test_times_in_the_wrong_order_are_refused(policy):
    x = policy.noise(2, 0)
    with pytest.raises(ValueError, match="some target time lies before its start"):
        policy.flow_map(x, 0.5, 0.3)
    with pytest.raises(ValueError, match="some target time lies before its start"):
        guided(policy, 2.0).flow_map(x, 0.5, 0.3, LETTERS.template("d*", 3))
