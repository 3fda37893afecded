"""Conditions of any kind, and guidance: the tilt of each condition's distribution."""

import pytest
import torch
from torch import nn

import alignflow as af
from alignflow.finetuning import METHODS, MemorylessPaths, Problem, TiltMatching, Weighted
from alignflow.interpolants import expand_time
from alignflow.policies import MLP, FlowMapPolicy

WORDS = ["left", "right"]
TINY = {"steps": 4, "batch_size": 8, "checkpoint_every": 2, "generator": 0}
# others draw tokens, and have tests of their own
OF_ANY_STATE = [name for name, kind in METHODS.items() if not kind.needs_logits]
QUICK = {
    **dict.fromkeys(("weighted", "itm", "tilt", "mfm", "ram", "awm"), {"pool": 16}),
    **dict.fromkeys(("etm", "nft"), {"pool": 16, "annealing_stages": 1}),
    "grpo": {"episodes": 8},
    **dict.fromkeys(("log_variance", "proximal"), {"pool": 16, "paths": MemorylessPaths(2)}),
}


class Spoken(nn.Module):
    """A network whose conditions are texts."""

    def __init__(self):
        super().__init__()
        self.network = MLP(1, width=8, depth=2, classes=2)

    def forward(self, x, s, t, condition=None):
        labels = None
        if condition is not None:
            labels = torch.tensor([WORDS.index(word) for word in condition])
        return self.network(x, s, t, labels)


@pytest.fixture
def spoken():
    torch.manual_seed(0)
    return FlowMapPolicy(Spoken(), (1,))


@af.reward(differentiable=True)
def longer(x, condition=None):
    assert len(condition) == len(x) and set(condition) <= set(WORDS)
    return x[:, 0] * torch.tensor([float(len(word)) for word in condition])


class Cut(Exception):
    pass


@pytest.mark.parametrize("method", OF_ANY_STATE)
def test_texts_are_tuned_for_and_a_run_of_them_resumes_to_the_same_bits(method, spoken, tmp_path):
    def run(folder=None, cut=None):
        def progress(step, steps, metrics):
            if step == cut:
                raise Cut

        options = {"condition": WORDS, "recentering": 2, "progress": progress, "folder": folder}
        return af.finetune(spoken, longer, method, 0.5, **options, **TINY, **QUICK.get(method, {}))

    whole = run()
    with pytest.raises(Cut):
        run(tmp_path, cut=3)
    pairs = zip(whole.parameters(), run(tmp_path).parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_a_pool_of_data_refuses_conditions_that_are_no_numbers(spoken):
    data = [(torch.zeros(1), "left"), (torch.ones(1), "right")]
    with pytest.raises(ValueError, match="takes conditions that are numbers, got 'left'"):
        Weighted(data=data, pool=4).bind(Problem(spoken, af.Tilt(longer, 1.0)))


class Means(nn.Module):
    """The exact map of N(c, 1) for condition c and of N(0, 1) without, and an MLP from zero."""

    def __init__(self):
        super().__init__()
        self.change = MLP(1, width=32, depth=2)
        for parameter in self.change.rest[-1].parameters():
            nn.init.zeros_(parameter)

    def forward(self, x, s, t, condition=None):
        a, b = (time**2 + (1 - time) ** 2 for time in (s, t))
        slope = 2 * (s + t - 1) / (a.sqrt() * (a.sqrt() + b.sqrt()))
        average = expand_time(slope, x) * x + self.change(x, s, t)
        if condition is None:
            return average
        # x at t is N(t c, t^2 + (1-t)^2): the jump is sqrt(b/a) (x - s c) + t c
        return average + expand_time(condition * (1 - slope * s), x)


@pytest.fixture(scope="module")
def means():
    torch.manual_seed(0)
    return FlowMapPolicy(Means(), (1,))


def test_under_guidance_the_base_is_the_guided_distribution(means, generator):
    """For unit variances guidance g extrapolates the mean: N(g c, 1). 20,000 samples."""
    for steps in (1, 4):
        drawn = means.sample(20_000, steps, 1.0, guidance=2.5, generator=generator)
        assert drawn.mean().item() == pytest.approx(2.5, abs=5 / 20_000**0.5)
        assert drawn.std().item() == pytest.approx(1, abs=5 / 40_000**0.5)


@pytest.mark.parametrize("method", ["weighted", "tilt", "direct"])
def test_the_tilt_of_the_guided_distribution_is_reached_under_the_same_guidance(
    method, means, first, generator
):
    """The tilt of N(g c, 1) by the reward x is N(g c + strength, 1)."""
    options = {"steps": 300, "learning_rate": 3e-3, "ema_decay": 0.98, "generator": generator}
    tuned = af.finetune(means, first, method, 0.8, condition=1.0, guidance=2.5, **options)
    assert type(tuned) is FlowMapPolicy
    for steps in (1, 4):
        drawn = tuned.sample(20_000, steps, 1.0, guidance=2.5, generator=generator)
        # what remains is the training's error
        assert drawn.mean().item() == pytest.approx(2.5 + 0.8, abs=0.12)
        assert drawn.std().item() == pytest.approx(1, abs=0.1)


def test_at_strength_zero_guidance_leaves_the_policy_as_it_is(means, first, generator):
    """The target of tilt matching is then the base's velocity, whatever is drawn."""
    problem = Problem(means, af.Tilt(first, 0.0), condition=1.0, guidance=2.0, generator=generator)
    loss = TiltMatching(pool=64, memory=0.0).bind(problem)
    found = loss(loss.sample_batch(32))
    assert found["loss_diagonal"].item() == pytest.approx(0, abs=1e-8)


def test_guidance_without_a_condition_is_refused(means, first):
    with pytest.raises(ValueError, match="guidance needs a condition"):
        af.finetune(means, first, guidance=2.0, **TINY)
