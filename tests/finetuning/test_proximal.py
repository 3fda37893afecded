"""Proximal stages: the minimizer is the tilt whatever model draws, what is reported, training."""

import pytest
import torch

import alignflow as af
from alignflow.finetuning import ESSRegion, LogVariance, MemorylessPaths, Proximal
from alignflow.finetuning.path_weights.path_pool import PathPool
from alignflow.finetuning.path_weights.proximal import ProximalTuner
from alignflow.reward_module import reward
from alignflow.tilt import Tilt

from .test_paths import GaussianFlow

FAST = {"batch_size": 256, "learning_rate": 3e-3, "ema_decay": 0.98}


@pytest.mark.parametrize("drift", [0.0, 0.4, 1.2])
def test_the_minimizer_is_the_velocity_of_the_tilt_whatever_model_draws(drift):
    """Weighted least squares on (1, x) at time t, for ends of N(drift, 1), the base N(0, 1), the
    reward x at strength 0.7, so that the tilt is N(0.7, 1). 200,000 paths, five standard errors of
    a regression at weights w."""
    first, seeded = reward(name="first")(lambda x: x[:, 0]), torch.Generator().manual_seed(0)
    n, t = 200_000, 0.6
    pool = PathPool(
        MemorylessPaths(3, 1.0), GaussianFlow(drift), GaussianFlow(), Tilt(first, 0.7), n, 1, None,
        seeded,
    )  # fmt: skip
    pool.refresh()
    x1 = pool.state.double()[:, 0]
    x0 = torch.randn(n, generator=seeded).double()
    state, direction = (1 - t) * x0 + t * x1, x1 - x0
    weight, design = pool.log_weight.exp(), torch.stack([torch.ones(n).double(), state], 1)
    normal_matrix = design.T @ (weight[:, None] * design)
    found = torch.linalg.solve(normal_matrix, design.T @ (weight * direction))
    slope = (2 * t - 1) / (t**2 + (1 - t) ** 2)
    exact = torch.tensor([0.7 - slope * t * 0.7, slope]).double()
    ess = pool.ess_fraction.item() * n
    assert (found - exact).abs().max() < 5 * 2 / ess**0.5


def test_stages_go_as_far_as_the_trust_region_and_the_ess_of_the_tilt_grows(normal, first, bind):
    loss = bind(
        Proximal, normal, first, 2.0, pool=2000, trust_region=ESSRegion(0.5),
        paths=MemorylessPaths(4, 1.0), generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    found = loss(loss.sample_batch(64))
    assert found["ess_fraction"] < 0.1 and 0.2 < found["exponent"] < 0.8


@pytest.mark.parametrize("method", [LogVariance, Proximal])
@pytest.mark.parametrize("averaged", [False, True])
def test_the_averaged_model_draws_the_paths_where_it_is_to(method, averaged, normal, first, bind):
    """The model is N(0, 1), of whose paths the tilt by x at strength 0.7 leaves e^{-0.49}
    effective; its average is taken to be N(0.7, 1), the tilt itself. 4,000 paths."""
    loss = bind(
        method, normal, first, 0.7, pool=4000, trust_region=None, averaged=averaged,
        paths=MemorylessPaths(3, 1.0), generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    loss.follow(GaussianFlow(0.7))
    found = loss(loss.sample_batch(64))["ess_fraction"]
    assert found == pytest.approx(1.0 if averaged else 0.613, abs=1e-5 if averaged else 0.05)


def test_a_run_shows_its_tuner_the_averaged_policy_that_it_returns(normal, first):
    seen = []

    class WatchedTuner(ProximalTuner):
        def follow(self, average):
            seen.append(average)

    class Watched(Proximal):
        def bind(self, problem):
            return WatchedTuner(problem, self)

    method = Watched(pool=16, paths=MemorylessPaths(2, 1.0))
    tuned = af.finetune(normal, first, method, 1.0, steps=2, batch_size=8)
    assert len(seen) == 1 and seen[0] is tuned


def test_a_normal_reaches_its_tilt_by_scores_alone_and_says_so(normal, tmp_path):
    """N(0, 1) and the reward x as a black box at strength 2, of whose tilt the base's samples have
    an effective fraction of 2 %."""
    black_box = af.reward(lambda x: x[:, 0].tolist())
    seen = []
    tuned = af.finetune(
        normal, black_box, "proximal", 2.0, steps=300, pool=2048, refresh_every=50, generator=0,
        paths=MemorylessPaths(6, 1.0), log_every=50, **FAST,
        progress=lambda step, steps, metrics: seen.append(metrics.get("ess_fraction")),
    )  # fmt: skip
    for steps in (1, 4):
        drawn = tuned.sample(20_000, steps, generator=torch.Generator().manual_seed(1))
        # the tilt is N(2, 1); what remains is the training's own error
        assert drawn.mean().item() == pytest.approx(2, abs=0.12)
        assert drawn.std().item() == pytest.approx(1, abs=0.12)
    seen = [float(value) for value in seen if value is not None]
    assert seen[0] < 0.1 and seen[-1] > 0.8


def test_each_stage_is_one_for_the_whole_strength(normal, first):
    with pytest.raises(ValueError, match="proximal reaches its tilt at once"):
        af.finetune(normal, first, "proximal", steps=4, annealing_stages=2)
    with pytest.raises(ValueError, match="pool must be a whole number of at least 2, got 1"):
        Proximal(pool=1)
