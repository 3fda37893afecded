"""A tuning method in one file of one's own, given as a value: nothing else is touched."""

import math
from dataclasses import dataclass

import pytest
import torch
from tensordict import TensorDict

import alignflow as af
from alignflow import checks
from alignflow.finetuning import Method, Tuner
from alignflow.settings import option


@dataclass(frozen=True, kw_only=True)
class RankWeighted(Method):
    """Distillation of the base's samples by the rank of their reward, at any strength."""

    candidates: int = option(4096, "samples of the base that are ranked", checks.count)

    def bind(self, problem):
        return RankWeightedTuner(problem, self)


class RankWeightedTuner(Tuner):
    """The loss of it."""

    def __init__(self, problem, method):
        super().__init__(problem, method, diagonal_fraction=0.75)
        drawn = self.base.sample(method.candidates, generator=self.generator)
        order = self.reward.score(drawn, None, self.base.decode).argsort()
        self.register_buffer("ascending", drawn[order])

    def sample_batch(self, n):
        rank = torch.arange(1.0, len(self.ascending) + 1)
        rows = torch.multinomial(rank, n, True, generator=self.generator)
        return TensorDict({"data": self.ascending[rows]}, batch_size=n)

    def forward(self, tensordict):
        return self.distil(tensordict["data"])


FAST = {"batch_size": 256, "learning_rate": 3e-3, "ema_decay": 0.98}


def test_a_normal_weighted_by_its_ranks_becomes_skew_normal(normal, generator):
    """Ranks of N(0, 1) weigh by its distribution function: the density is 2 phi(x) Phi(x), of mean
    1/sqrt(pi) and variance 1 - 1/pi. A black box, 4,096 candidates."""
    tuned = af.finetune(
        normal, lambda x: x[:, 0].tolist(), RankWeighted(), steps=400, generator=generator, **FAST
    )
    for steps in (1, 4):
        drawn = tuned.sample(20_000, steps, generator=generator)
        # five standard errors of the candidates are 0.07; the rest is the training's error
        assert drawn.mean().item() == pytest.approx(1 / math.sqrt(math.pi), abs=0.1)
        assert drawn.std().item() == pytest.approx(math.sqrt(1 - 1 / math.pi), abs=0.1)


class Cut(Exception):
    pass


def test_it_is_logged_and_resumed_as_any_other(normal, first, tmp_path):
    def run(folder=None, cut=None):
        def progress(step, steps, metrics):
            if step == cut:
                raise Cut

        return af.finetune(
            normal, first, RankWeighted(candidates=64), steps=6, batch_size=8, folder=folder,
            checkpoint_every=2, progress=progress, generator=0,
        )  # fmt: skip

    whole = run()
    with pytest.raises(Cut):
        run(tmp_path, cut=5)
    again = run(tmp_path)
    pairs = zip(whole.parameters(), again.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert "loss_map" in (tmp_path / "metrics.jsonl").read_text()


def test_its_options_are_read_and_refused_as_any_others(normal, first):
    found = af.finetune.options(RankWeighted)["candidates"]
    assert found == (int, 4096, "samples of the base that are ranked")
    with pytest.raises(ValueError, match="candidates must be a whole number of at least 1, got 0"):
        RankWeighted(candidates=0)
    with pytest.raises(ValueError, match="candidates beside a method that has its options"):
        af.finetune(normal, first, RankWeighted(), candidates=3)
    with pytest.raises(ValueError, match="RankWeighted reaches its tilt at once"):
        af.finetune(normal, first, RankWeighted(), steps=4, annealing_stages=2)
