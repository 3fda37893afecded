"""New York and San Diego, learned of their tokens by the shipped parts; and every kind of data."""

import pytest
import torch

import alignflow as af
from alignflow.data.vocabulary import Vocabulary
from alignflow.distillation import DecodingTimes
from alignflow.policies import TokenDiT
from alignflow.targets import Sequences

WORDS = Vocabulary(["New ", "San ", "York", "Diego"])
SAMPLES = 4000


def build(strings):
    torch.manual_seed(0)
    tokens = WORDS.encode(strings)
    network = TokenDiT(2, 4, width=32, depth=1, heads=2).set_prior(tokens)
    return af.FlowMapPolicy(network, (2, 4), parametrization="simplex", decode=WORDS), tokens


@pytest.fixture(scope="module")
def policy():
    torch.set_num_threads(1)  # which the tests' own fixture sets only later
    policy, tokens = build(["New York", "San Diego"])
    return af.pretrain(
        policy, tokens, "psd", steps=400, batch_size=128, learning_rate=1e-2, ema_decay=0.98,
        diagonal_fraction=0.5, times=DecodingTimes(4, boundary=0.25), generator=0,
    )  # fmt: skip


def test_one_step_writes_the_two_names(policy, generator):
    strings = policy.decode(policy.sample(SAMPLES, steps=1, generator=generator))
    found = [strings.count(name) / SAMPLES for name in ("New York", "San Diego")]
    # five standard errors of 4,000 draws are 0.04; the rest is what 400 steps leave
    assert found == pytest.approx([0.5, 0.5], abs=0.1)
    assert sum(found) > 0.9


def test_tokens_drawn_each_for_itself_make_four_pairs(policy, generator):
    noise = policy.noise(SAMPLES, generator)
    drawn = WORDS.draw(policy.denoiser(noise, 0.0).detach(), generator=generator)
    found = [WORDS.decode(drawn).count(name) / SAMPLES for name in ("New York", "San Diego")]
    assert found == pytest.approx([0.25, 0.25], abs=0.06)


def test_tokens_and_their_states_are_the_same_data():
    policy, tokens = build(["New York", "San Diego"])
    for data in (tokens, WORDS.one_hot(tokens), WORDS.one_hot(tokens).numpy(), list(tokens)):
        trained = af.pretrain(policy, data, steps=2, batch_size=8, generator=0)
        reference = af.pretrain(policy, tokens, steps=2, batch_size=8, generator=0)
        # up to rounding: of tokens no one-hot states are made
        torch.testing.assert_close(
            trained.sample(3, generator=0), reference.sample(3, generator=0), rtol=0, atol=1e-5
        )


def test_an_exact_teacher_is_distilled():
    policy, tokens = build(["New York", "San Diego"])
    target = Sequences(tokens, vocabulary=WORDS)
    trained = af.pretrain(policy, target, steps=5, batch_size=8, teacher=target, generator=0)
    assert set(trained.decode(trained.sample(9))) <= {
        first + second for first in ("New ", "San ", "York", "Diego") for second in WORDS.symbols
    }


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (torch.tensor([[0, 4]]), "tokens must be whole numbers from 0 to 3, got some from 0 to 4"),
        (torch.tensor([[0, 1, 2]]), r"of shape \(2, 4\), the data's of shape \(3, 4\)"),
    ],
)
def test_tokens_that_do_not_fit_are_refused(tokens, message):
    policy, _ = build(["New York"])
    with pytest.raises(ValueError, match=message):
        af.pretrain(policy, tokens, steps=1, batch_size=1)


def test_a_tuner_moves_the_one_step_map_to_the_tilt(policy, generator):
    """By a black box that reads strings: New York at e / (1 + e) = 0.73."""

    def is_new_york(strings):
        return torch.tensor([float(string == "New York") for string in strings])

    tuned = af.finetune(
        policy, is_new_york, "weighted", strength=1.0, steps=150, batch_size=128, pool=2048,
        learning_rate=3e-3, ema_decay=0.97, generator=0,
    )  # fmt: skip
    strings = tuned.decode(tuned.sample(SAMPLES, steps=1, generator=generator))
    assert strings.count("New York") / SAMPLES == pytest.approx(0.73, abs=0.08)
    assert strings.count("San Diego") / SAMPLES == pytest.approx(0.27, abs=0.08)
