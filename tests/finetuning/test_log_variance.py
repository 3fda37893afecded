"""Log-variance: nothing left at the optimum, its gradient beside that of each path, training."""

import copy

import pytest
import torch

import alignflow as af
from alignflow.finetuning import ESSRegion, LogVariance, MemorylessPaths
from alignflow.finetuning.path_weights.log_variance import group_variance
from alignflow.policies import MLP, FlowMapPolicy

FAST = {"batch_size": 128, "learning_rate": 1e-2, "ema_decay": 0.98}


@pytest.fixture(scope="module")
def exact(normal):
    """In float64: N(0, 1), and the policy that is N(0.7, 1) and can be tuned."""

    class Tilted(type(normal)):
        def velocity(self, x, t, condition=None):
            shift = (1 - t) / (t**2 + (1 - t) ** 2)
            return super().velocity(x, t) + 0.7 * shift.reshape(-1, 1)

    base = copy.deepcopy(normal).double()
    return base, Tilted(copy.deepcopy(normal.module).double(), (1,))


@pytest.mark.parametrize("region", [None, ESSRegion(0.3)], ids=["tilt", "trust region"])
@pytest.mark.parametrize("steps", [1, 3, 16])
def test_at_the_tilt_of_a_normal_all_paths_agree_and_no_path_has_a_gradient(
    steps, region, exact, first, bind
):
    """Reward x: log-ratio and reward differ by the same number on each path, the log of the
    partition function, at any number of steps; the weights are all equal."""
    base, tilted = exact
    loss = bind(
        LogVariance, tilted, first, 0.7, base=base, pool=50, trust_region=region,
        paths=MemorylessPaths(steps, 1.0), generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    batch = loss.sample_batch(50)
    found = loss(batch)
    assert found["loss_variance"] < 1e-25
    assert found["ess_fraction"] == pytest.approx(1) and found["exponent"] == 1
    left = loss.log_ratio(batch) - 0.7 * batch["data"][:, 0]
    torch.testing.assert_close(left, torch.full((50,), -(0.7**2) / 2).double())
    parameters = list(tilted.parameters())
    for gradient in torch.autograd.grad(found["loss_variance"], parameters):
        assert gradient.abs().max() < 1e-12


def test_what_is_left_of_a_quadratic_reward_falls_with_the_steps(first, bind):
    """-x^2/4 tilts N(0, 1) to N(0, 2/3): its steps are not quite Gaussian steps of the base's
    variance, and the variance of what is left falls with their length."""
    bowl = af.reward(lambda x: -x[:, 0].square() / 4)

    class Normal(FlowMapPolicy):
        variance = 1.0

        def velocity(self, x, t, condition=None):
            t = t.reshape(-1, 1)
            of_path = self.variance * t**2 + (1 - t) ** 2
            return (self.variance * t - (1 - t)) / of_path * x

    base, tilted = (Normal(MLP(1, width=4, depth=1), (1,)).double() for _ in range(2))
    tilted.variance = 2 / 3
    left = []
    for steps in (8, 16, 32):
        loss = bind(
            LogVariance, tilted, bowl, 1.0, base=base, pool=4000, trust_region=None,
            paths=MemorylessPaths(steps, 1.0), generator=torch.Generator().manual_seed(0),
        )  # fmt: skip
        left.append(loss(loss.sample_batch(4000))["loss_variance"].item())
    assert left[0] < 0.02 and left[1] < 0.7 * left[0] and left[2] < 0.7 * left[1]


@pytest.mark.parametrize("recompute", [False, True])
def test_its_gradient_is_that_of_each_path_times_what_it_is_off(recompute, exact, bind):
    """2 E[(L_i - mean L) grad l_i], the mean over n - 1, the paths held fixed."""
    base, policy = exact
    wavy = af.reward(lambda x: x[:, 0].sin())
    loss = bind(
        LogVariance, policy, wavy, 2.0, base=base, pool=9, trust_region=None, recompute=recompute,
        paths=MemorylessPaths(3, 1.0), generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    batch, parameters = loss.sample_batch(9), list(policy.parameters())
    found = torch.autograd.grad(loss(batch)["loss_variance"], parameters)
    log_ratio = loss.log_ratio(batch)
    off = (log_ratio - 2.0 * batch["data"][:, 0].sin()).detach()
    expected = torch.autograd.grad(log_ratio @ (2 * (off - off.mean()) / 8), parameters)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("recompute", [False, True])
def test_its_log_ratios_are_those_that_the_paths_were_drawn_with(recompute, first, bind):
    """Each step of 7 paths with its own state, times and condition, of three."""
    torch.manual_seed(0)
    base, policy = (
        FlowMapPolicy(MLP(2, width=8, depth=1, classes=3), (2,)).double() for _ in range(2)
    )
    loss = bind(
        LogVariance, policy, first, 1.0, base=base, condition=torch.arange(3), pool=7,
        trust_region=None, recompute=recompute, paths=MemorylessPaths(5, 1.0),
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    found, drawn = loss.log_ratio(loss.sample_batch(7)), loss.pool.log_ratio
    # rows come in another order
    torch.testing.assert_close(found.sort()[0], drawn.sort()[0], rtol=1e-10, atol=1e-12)
    assert drawn.std() > 0.1


def test_the_variance_is_within_groups_and_knows_no_constant_of_one():
    values = torch.tensor([1.0, 3.0, 10.0, 14.0, 18.0, 7.0]).double()
    groups = torch.tensor([4, 4, 2, 2, 2, 0])
    # variances 2 of two rows and 16 of three, nothing of the one
    assert group_variance(values, groups, 5).item() == pytest.approx((2 * 2 + 3 * 16) / 6)
    moved = values + 100 * groups
    assert group_variance(moved, groups, 5).item() == pytest.approx((2 * 2 + 3 * 16) / 6)


@pytest.mark.parametrize("behavior", ["the model", "the base"])
def test_a_normal_reaches_its_tilt_by_scores_alone(behavior, normal):
    """N(0, 1) and the reward x as a black box, by its own paths and by those of the base."""
    black_box = af.reward(lambda x: x[:, 0].tolist())
    options = {} if behavior == "the model" else {"behavior": normal, "trust_region": None}
    tuned = af.finetune(
        normal, black_box, "log_variance", 1.0, steps=250, pool=256, generator=0,
        paths=MemorylessPaths(6, 1.0), **options, **FAST,
    )  # fmt: skip
    for steps in (1, 4):
        drawn = tuned.sample(20_000, steps, generator=torch.Generator().manual_seed(1))
        # the tilt is N(1, 1); what remains is the training's own error
        assert drawn.mean().item() == pytest.approx(1, abs=0.08)
        assert drawn.std().item() == pytest.approx(1, abs=0.08)


def test_paths_of_one_condition_are_compared(bind):
    """A reward that differs by 100 between conditions has no variance of 100^2."""
    torch.manual_seed(0)
    policy = FlowMapPolicy(MLP(1, width=8, depth=1, classes=3), (1,))

    @af.reward
    def labelled(x, condition=None):
        return x[:, 0] + 100 * condition

    loss = bind(LogVariance, policy, labelled, 1.0, pool=200, condition=torch.tensor([0, 2]))
    batch = loss.sample_batch(150)
    assert set(batch["condition"].tolist()) == {0, 2}
    assert batch["goal"].abs().max() < 50
    assert loss(batch)["loss_variance"] < 10


def test_a_pool_is_replayed_until_it_is_due(normal, first, bind):
    loss = bind(LogVariance, normal, first, 1.0, pool=16, refresh_every=2)
    ends = [loss.sample_batch(16)["data"].flatten().sort().values for _ in range(3)]
    assert torch.equal(ends[0], ends[1]) and not torch.equal(ends[1], ends[2])


def test_what_makes_no_sense_is_refused(normal, first, bind):
    with pytest.raises(ValueError, match="trust_region is about the paths of the tuned model"):
        LogVariance(behavior=normal)
    with pytest.raises(ValueError, match="averaged would do nothing with a behavior"):
        LogVariance(behavior=normal, trust_region=None, averaged=True)
    with pytest.raises(ValueError, match="pool must be a whole number of at least 2, got 1"):
        LogVariance(pool=1)
    with pytest.raises(ValueError, match=r"paths must be a MemorylessPaths\(...\), got 8"):
        LogVariance(paths=8)
    loss = bind(LogVariance, normal, lambda x: x[:, 0] * torch.nan, 1.0, pool=4)
    with pytest.raises(af.RewardError, match="NaN|nan"):
        loss.sample_batch(4)
