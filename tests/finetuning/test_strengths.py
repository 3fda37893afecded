"""One tuning for a range of strengths: exact at 0, the tilt at each, a policy like any other."""

import pytest
import torch

import alignflow as af
from alignflow.distillation import pretrain
from alignflow.finetuning import METHODS, Problem, TiltMatching
from alignflow.finetuning.pools.strength_pool import STRATA
from alignflow.policies import EGNN, MLP, DiT, FlowMapPolicy, TokenDiT, TokenMLP, UNet
from alignflow.policies.networks import StrengthNetwork
from alignflow.strengths import StrengthRange, strength_of
from alignflow.targets import GaussianMixture, Linear

RANGE = StrengthRange(0.0, 2.0)
FAST = {"batch_size": 256, "learning_rate": 3e-3, "ema_decay": 0.98}
TINY = {"steps": 12, "batch_size": 16, "checkpoint_every": 4, "pool": 64, "refresh_every": 5}
REWARD = Linear(0.5 * torch.ones(1))
NETWORKS = {
    "mlp": (MLP(2, width=16, depth=2), (2,)),
    "unet": (UNet(1, widths=(8, 8), blocks=1, attention=(False, True)), (1, 8, 8)),
    "dit": (DiT(1, 8, patch=4, width=16, depth=1, heads=2), (1, 8, 8)),
    "egnn": (EGNN(3, 2, width=8, depth=1), (2, 2)),
    "token_dit": (TokenDiT(4, 3, width=16, depth=1, heads=2), (4, 3)),
    "token_mlp": (TokenMLP(4, 3, width=16, depth=1), (4, 3)),
}


class Cut(Exception):
    pass


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@af.reward
def first(x):
    return x[:, 0]


def policy(**arguments):
    torch.manual_seed(0)
    return FlowMapPolicy(MLP(1, width=8, depth=2, **arguments), (1,)).eval()


def moved(base):
    """A policy with a strength, as if it had been tuned."""
    tuned = base.with_strengths(RANGE).eval()
    tuned.sample(2, 1, strength=1.0, differentiable=True).sum().backward()
    with torch.no_grad():
        for parameter in tuned.module.adapters.parameters():
            # a layer whose weights are read and which is not called, as of EGNN, does not change
            if parameter.grad is not None:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=seeded()))
            parameter.grad = None
    return tuned


@pytest.mark.parametrize("name", NETWORKS)
def test_strength_0_is_the_base_to_the_bit_and_others_are_its_network_with_other_weights(name):
    network, shape = NETWORKS[name]
    kind = "simplex" if name.startswith("token") else "average_velocity"
    base = FlowMapPolicy(network, shape, kind).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2, generator=seeded())
    untrained, tuned = base.with_strengths(RANGE).eval(), moved(base)
    drawn = base.sample(6, generator=0)
    for same in (
        untrained.sample(6, generator=0, strength=1.5),
        tuned.sample(6, generator=0, strength=0.0),
        tuned.at_strength(0.0).sample(6, generator=0),
    ):
        # EGNN multiplies by parts of a weight, and rounds by where a copy of it lies in memory
        torch.testing.assert_close(same, drawn, rtol=0, atol=1e-6 if name == "egnn" else 0)
    changed = tuned.sample(6, generator=0, strength=1.5)
    assert not torch.allclose(changed, drawn, atol=1e-3)
    fixed = tuned.at_strength(1.5)
    assert type(fixed.module) is type(network)
    torch.testing.assert_close(fixed.sample(6, generator=0), changed, atol=1e-4, rtol=1e-3)


def test_rows_have_strengths_of_their_own():
    tuned, strengths = moved(policy()), torch.tensor([0.0, 1.0, 2.0])
    together = tuned.sample(3, generator=0, strength=strengths)
    for row, strength in enumerate(strengths.tolist()):
        alone = tuned.sample(3, generator=0, strength=strength)
        torch.testing.assert_close(together[row], alone[row])


def test_a_strength_stands_beside_a_condition_and_under_guidance():
    base = policy(classes=2)
    tuned = moved(base)
    labels = torch.tensor([0, 1, 1])
    given = {"condition": labels, "guidance": 2.0, "generator": 0}
    assert torch.equal(tuned.sample(3, strength=0.0, **given), base.sample(3, **given))
    changed = tuned.sample(3, strength=1.0, **given)
    torch.testing.assert_close(changed, tuned.at_strength(1.0).sample(3, **given))
    with pytest.raises(ValueError, match="labels must be"):
        tuned.sample(1, condition=torch.tensor([5]), strength=1.0)


def test_it_is_saved_and_loaded(tmp_path):
    tuned = moved(policy())
    tuned.save(tmp_path / "tuned")
    loaded = af.load(str(tmp_path / "tuned"))
    drawn = [each.sample(4, generator=0, strength=1.5) for each in (tuned, loaded)]
    assert torch.equal(*drawn)
    assert loaded.strengths == RANGE
    tuned.at_strength(1.5).save(tmp_path / "fixed")
    torch.testing.assert_close(af.load(str(tmp_path / "fixed")).sample(4, generator=0), drawn[0])


def test_it_is_steered_at_one_strength_or_at_one_for_each_system():
    tuned = moved(policy())
    fixed = af.steer(tuned.at_strength(1.5), first, "best_of_n", steps=2, particles=4)
    given = af.steer(tuned, first, "best_of_n", steps=2, particles=4)
    torch.testing.assert_close(
        given.sample(3, condition={"strength": 1.5}, generator=0)["state"],
        fixed.sample(3, generator=0)["state"],
    )
    rows = {"strength": torch.tensor([0.0, 1.5, 2.0])}
    torch.testing.assert_close(
        given.sample(3, condition=rows, generator=0)["state"][1],
        fixed.sample(3, generator=0)["state"][1],
    )
    with pytest.raises(ValueError, match="needs a strength"):
        given.sample(3)


@pytest.fixture(scope="module")
def mixture():
    means, covariances = torch.tensor([[-2.0], [2.0]]), 0.25 * torch.ones(2, 1, 1)
    return GaussianMixture(torch.tensor([0.5, 0.5]), means, covariances)


@pytest.fixture(scope="module")
def base(mixture):
    torch.manual_seed(0)
    start = FlowMapPolicy(MLP(1, width=64, depth=2, scale=2.0), (1,))
    return pretrain(start, mixture, steps=500, generator=seeded(), **FAST)


@pytest.mark.parametrize("method", ["weighted", "tilt"])
def test_one_tuning_reaches_the_tilt_at_each_strength(method, base, mixture):
    tuned = af.finetune(base, REWARD, method, (0.0, 2.0), steps=400, generator=seeded(2), **FAST)
    n, found = 8192, []
    for strength in (0.0, 0.5, 1.0, 2.0):
        drawn = tuned.sample(n, 8, generator=seeded(5), strength=strength)
        found.append(REWARD(drawn).mean().item())
        exact = REWARD(mixture.tilted(REWARD, strength).sample(n, generator=seeded(3))).mean()
        # rewards scatter by 1, the mean of so many by .01; the rest is a training of seconds
        assert found[-1] == pytest.approx(exact.item(), abs=0.12)
    assert found == sorted(found)
    assert torch.equal(tuned.sample(9, generator=1, strength=0.0), base.sample(9, generator=1))


@pytest.mark.parametrize("method", ["weighted", "tilt"])
def test_a_run_that_was_cut_ends_at_the_same_bits(method, tmp_path):
    def run(folder, cut=None):
        def progress(step, steps, metrics):
            if step == cut:
                raise Cut

        return af.finetune(
            policy(), first, method, (0.0, 2.0), folder=folder, generator=1, progress=progress,
            **TINY,
        )  # fmt: skip

    whole = run(tmp_path / "whole")
    with pytest.raises(Cut):
        run(tmp_path / "cut", cut=6)
    resumed = run(tmp_path / "cut")
    for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)


def test_tuning_leaves_the_global_numbers_and_the_policy_alone():
    base = policy()
    before = [parameter.clone() for parameter in base.parameters()]
    torch.manual_seed(3)
    state = torch.get_rng_state()
    af.finetune(base, first, "weighted", (0.0, 2.0), generator=1, **TINY)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(map(torch.equal, before, base.parameters()))


def test_rows_of_a_batch_are_weighed_at_their_strength_within_their_condition():
    base = policy(classes=2)
    problem = Problem(
        base.with_strengths(RANGE), af.Tilt(first, 2.0), base, torch.tensor([0, 1]),
        strengths=RANGE,
    )  # fmt: skip
    pool = TiltMatching(pool=64).bind(problem).pool
    batch = pool.draw(4 * STRATA, 4 * STRATA)
    strength = strength_of(batch["condition"])
    assert strength is not None
    parts = (strength / 2.0 * STRATA).long()
    assert torch.equal(parts, torch.arange(4 * STRATA) % STRATA)
    label = batch["condition", "condition"]
    for row in (0, 21, 50):
        rewards = pool.reward[int(label[row]) :: 2]
        weights = (strength[row].double() * rewards).exp()
        exact = (strength[row].double() * first(batch["data"])[row].double()).exp()
        expected = exact / weights.mean()
        torch.testing.assert_close(batch["weight"][row].double(), expected, rtol=1e-3, atol=1e-4)
        least = weights.min() / weights.mean()
        torch.testing.assert_close(batch["least_weight"][row].double(), least, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("method", [name for name in METHODS if name not in ("weighted", "tilt")])
def test_other_methods_tune_for_one_strength(method):
    with pytest.raises(ValueError, match="a range of them is for weighted, tilt"):
        af.finetune(policy(), REWARD, method, (0.0, 2.0), steps=1)


@pytest.mark.parametrize("option", ["annealing_stages", "recentering", "redistillation"])
def test_what_is_for_one_strength_is_refused_with_a_range(option):
    with pytest.raises(ValueError, match=f"{option} is for one strength"):
        af.finetune(policy(), first, "weighted", (0.0, 2.0), steps=4, **{option: 2})


@pytest.mark.parametrize(
    ("strength", "message"),
    [
        ((2.0, 2.0), "from a lower to a larger"),
        ((3.0, 1.0), "from a lower to a larger"),
        ((-1.0, 1.0), "the lower strength"),
        ((0.0, float("inf")), "the upper strength"),
        ((0.0, 1.0, 2.0), "the least and the largest"),
    ],
)
def test_a_range_that_is_none_is_refused(strength, message):
    with pytest.raises(ValueError, match=message):
        af.finetune(policy(), first, "weighted", strength, steps=1)


@pytest.mark.parametrize(
    ("strength", "message"),
    [
        (2.5, "strengths from 0 to 2, got 2.5"),
        (-0.5, "got -0.5"),
        (float("nan"), "got nan"),
        (torch.tensor([0.0, 3.0]), "got 3"),
        (torch.zeros(3), "2 samples need one condition or 2, got 3"),
        (torch.zeros(2, 1), "a number, or one for each sample"),
        ("much", "must be a tensor"),
        (None, "choose one"),
    ],
)
def test_a_strength_that_was_not_trained_is_refused(strength, message):
    with pytest.raises(ValueError, match=message):
        moved(policy()).sample(2, strength=strength)


def test_a_policy_of_one_strength_takes_none():
    with pytest.raises(ValueError, match="takes no strength"):
        policy().sample(2, strength=1.0)


def test_a_tilt_has_its_strength_already():
    with pytest.raises(ValueError, match="say it once"):
        af.finetune(policy(), af.Tilt(first, 1.0), "weighted", (0.0, 2.0), steps=1)


def test_networks_without_a_strength_are_refused():
    with pytest.raises(ValueError, match="is not registered"):
        own = FlowMapPolicy(torch.nn.Identity(), (1,))
        own.with_strengths(RANGE)
    with pytest.raises(ValueError, match="has a strength"):
        moved(policy()).with_strengths(RANGE)
    with pytest.raises(ValueError, match="a stochastic map"):
        policy().with_context().with_strengths(RANGE)
    with pytest.raises(ValueError, match="needs a strength"):
        StrengthNetwork.around(MLP(1), RANGE)(torch.zeros(1, 1), torch.zeros(1), torch.ones(1))
