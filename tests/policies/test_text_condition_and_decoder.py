"""A policy that takes texts and draws images, by parts that this file alone defines.

The network reads texts letter by letter; the decoder is a small network from a latent to an image,
as that of a VAE is. Nothing of the library knows of either.
"""

import pytest
import torch
from torch import nn

import alignflow as af
from alignflow.checkpoint import CheckpointError
from alignflow.decoding import Decoder, register_decoder
from alignflow.envs import DenoisingEnv, DenoisingGym, DenoisingVectorGym

PROMPTS = ["a cat", "a dog", ""]
LATENT = (4,)


class ByLetters(nn.Module):
    """Average velocity of a latent given a text, which it embeds as the mean of its letters."""

    null_condition = ""

    def __init__(self, width: int = 8):
        super().__init__()
        self.letters = nn.Embedding(32, width)
        self.body = nn.Sequential(nn.Linear(4 + 2 + width, 32), nn.SiLU(), nn.Linear(32, 4))

    def forward(self, x, s, t, condition=None):
        texts = [""] * len(x) if condition is None else condition
        codes = [torch.tensor([0, *(ord(letter) % 32 for letter in text)]) for text in texts]
        text = torch.stack([self.letters(code).mean(0) for code in codes])
        return self.body(torch.cat([x, s[:, None], t[:, None], text], dim=1))


@register_decoder("toy-vae")
class ToyVAE(Decoder):
    """Latents (N, 4) as images (N, 1, size, size) in [0, 1]."""

    def __init__(self, size: int = 3):
        super().__init__()
        self.arguments = {"size": size}
        self.net = nn.Sequential(nn.Linear(4, size**2), nn.Unflatten(1, (1, size, size)))

    def forward(self, x):
        return self.net(x).sigmoid()


class Unregistered(ToyVAE):
    """The same under no name."""


@af.reward(differentiable=True)
def bright(images, condition=None):
    """Brightness, and a little more for a cat."""
    assert images.shape[1:] == (1, 3, 3)
    assert all(isinstance(text, str) for text in condition) and len(condition) == len(images)
    return images.flatten(1).mean(1) * torch.tensor([1 + 0.1 * ("cat" in c) for c in condition])


@pytest.fixture
def policy():
    torch.manual_seed(0)
    return af.FlowMapPolicy(ByLetters(), LATENT, decode=ToyVAE()).eval()


def test_it_samples_for_one_text_or_for_one_each(policy):
    each = policy.sample(3, condition=PROMPTS, generator=0)
    one = policy.sample(3, condition="a cat", generator=0)
    assert torch.equal(each[0], one[0]) and not torch.equal(each[1], one[1])
    assert policy.decode(each).shape == (3, 1, 3, 3)


def test_guidance_moves_away_from_the_null_text_of_the_network(policy):
    text, null = (policy.sample(1, 1, condition=c, generator=0) for c in ("a cat", ""))
    guided = policy.sample(1, 1, condition="a cat", guidance=3.0, generator=0)
    torch.testing.assert_close(guided, null.lerp(text, 3.0))


@pytest.mark.parametrize(
    ("method", "options"),
    [("best_of_n", {"particles": 2}), ("fmtt", {"particles": 2}), ("dps", {}), ("lookahead", {})],
)
def test_it_is_steered_through_its_decoder(policy, method, options):
    steerer = af.steer(policy, bright, method, strength=1.0, steps=3, **options)
    out = steerer.sample(3, condition=PROMPTS, generator=torch.Generator().manual_seed(0))
    expected = bright(policy.decode(out["state"]), PROMPTS)
    torch.testing.assert_close(out["reward"], expected)


def test_it_is_pretrained_with_texts_that_are_dropped(policy, monkeypatch):
    seen, forward = set(), ByLetters.forward

    def recorded(network, x, s, t, condition=None):
        seen.update(condition or [])
        return forward(network, x, s, t, condition)

    monkeypatch.setattr(ByLetters, "forward", recorded)

    def drawn(n):
        return torch.zeros(n, *LATENT), ["a cat"] * n

    options = {"steps": 2, "batch_size": 8, "condition_dropout": 0.5}
    trained = af.pretrain(policy, drawn, **options, generator=torch.Generator().manual_seed(0))
    assert seen == {"a cat", ""}
    before, after = (model.sample(2, condition="a cat", generator=0) for model in (policy, trained))
    assert not torch.equal(before, after)


@pytest.mark.parametrize("method", ["itm", "direct"])
def test_it_is_tuned_for_texts_and_its_decoder_stays(policy, method):
    options = {"pool": 16} if method == "itm" else {}
    tuned = af.finetune(
        policy,
        bright,
        method,
        strength=1.0,
        steps=2,
        batch_size=8,
        condition=PROMPTS,
        generator=torch.Generator().manual_seed(0),
        **options,
    )
    before, after = (model.sample(2, condition="a cat", generator=0) for model in (policy, tuned))
    assert not torch.equal(before, after)
    assert torch.equal(policy.decode(before), tuned.decode(before))


def test_its_samples_are_evaluated(policy):
    texts = PROMPTS * 10
    samples = policy.sample(len(texts), condition=texts, generator=0)
    measured = af.evaluate(samples, reward=bright, reference=policy, condition=texts)
    expected = bright(policy.decode(samples), texts).mean().item()
    assert measured["reward"].value == pytest.approx(expected)


def test_it_acts_in_the_torchrl_environment(policy):
    environment = DenoisingEnv(policy, bright, steps=3, condition=PROMPTS, num_envs=5)
    path = environment.rollout(3, environment.actor())
    texts = path.get("condition").tolist()
    assert all(len(set(episode)) == 1 and episode[0] in PROMPTS for episode in texts)
    final = policy.decode(path["next", "state"][:, -1])
    expected = bright(final, [episode[0] for episode in texts])
    torch.testing.assert_close(path["next", "reward"][:, -1, 0], expected)


def test_it_is_observed_by_gymnasium(policy):
    one = DenoisingGym(policy, bright, steps=1, condition=PROMPTS)
    observed, _ = one.reset(seed=0)
    assert one.observation_space.contains(observed) and observed["condition"] in PROMPTS
    many = DenoisingVectorGym(3, policy, bright, steps=1, condition=PROMPTS)
    observed, _ = many.reset(seed=0)
    assert many.observation_space.contains(observed) and set(observed["condition"]) <= {*PROMPTS}
    reward = many.step(observed["state"])[1]
    expected = bright(policy.decode(torch.tensor(observed["state"])), observed["condition"])
    torch.testing.assert_close(torch.tensor(reward).float(), expected)


def test_it_comes_back_from_its_folder_with_its_decoder(policy, tmp_path):
    loaded = af.load(policy.save(tmp_path / "model"), module=ByLetters())
    latents = policy.sample(3, condition=PROMPTS, generator=0)
    assert torch.equal(loaded.sample(3, condition=PROMPTS, generator=0), latents)
    assert torch.equal(loaded.decode(latents), policy.decode(latents))


def test_a_decoder_without_a_name_is_given_again(policy, tmp_path):
    policy = af.FlowMapPolicy(policy.module, LATENT, decode=Unregistered())
    folder = policy.save(tmp_path / "model")
    with pytest.raises(CheckpointError, match=r"decoder that is not registered .*decode=MyDecoder"):
        af.load(folder, module=ByLetters())
    loaded = af.load(folder, module=ByLetters(), decode=Unregistered())
    latents = torch.randn(2, *LATENT)
    assert torch.equal(loaded.decode(latents), policy.decode(latents))
