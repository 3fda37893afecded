"""Did it reach the tilt? Samples against the reweighted base, by numbers and by `af.evaluate`."""

import json
import math
from html import escape

import pytest
import torch
from tensordict import TensorDict

import alignflow as af
from alignflow.metrics.against_tilt import check_tilt, mmd_to_tilt, particle_ess
from alignflow.metrics.pairwise import mmd
from alignflow.metrics.reweighting import TiltRows, pilot_ess, reweighted_mean

RING, REWARD = af.targets.ring(), af.targets.ring_reward()
TILT = af.Tilt(REWARD, 1.0)


class Normal(af.FlowMap):
    """Unit normals around the condition: the noise is moved along a line."""

    def flow_map(self, x, s, t, condition=None):
        return x if condition is None else x + (t - s) * condition[:, None]


def linear(endpoint, condition=None):
    return endpoint[:, 0]


def normals(n, generator, mean=0.0):
    return mean + torch.randn(n, generator=generator, dtype=torch.float64)


def checked(samples, base, strength=1.0, exact=False):
    """The check of normal samples (n,) whose reward is their value."""
    rows = TiltRows.reweighted({"reward": base}, strength * base)
    if exact:
        rows = TiltRows({"reward": base}, (strength * base).softmax(0))
    return check_tilt(strength, {"reward": samples}, {"reward": base}, rows)


# --- the numbers ---


def test_a_normal_under_a_linear_reward_is_compared_with_the_shifted_one(generator):
    base, samples = normals(4000, generator), normals(1000, generator, mean=0.25)
    check = checked(samples, base, 0.5)
    found = check.numbers["reward"]
    assert abs(found.tilt.value - 0.5) < 5 * found.tilt.standard_error
    error = math.hypot(found.samples.standard_error, found.tilt.standard_error)
    assert found.z == pytest.approx((found.samples.value - found.tilt.value) / error, rel=0.05)
    assert check.progress is not None
    assert abs(check.progress.value - 0.5) < 5 * check.progress.standard_error
    assert check.base_ess is not None
    assert abs(check.base_ess.value / 4000 - math.exp(-0.25)) < 0.1


def test_the_errors_of_progress_and_ess_are_their_std_over_repetitions(generator):
    """400 repetitions: their std is known to about 4 %."""
    progress, ess = [], []
    for _ in range(400):
        check = checked(normals(200, generator, mean=0.25), normals(600, generator), 0.5)
        assert check.progress is not None and check.base_ess is not None
        progress.append((check.progress.value, check.progress.standard_error))
        ess.append((check.base_ess.value, check.base_ess.standard_error))
    for found in (progress, ess):
        values, errors = torch.tensor(found, dtype=torch.float64).T
        assert errors.median().item() == pytest.approx(values.std().item(), rel=0.2)
    values = torch.tensor(progress)[:, 0]
    assert abs(values.mean() - 0.5) < 5 * values.std() / 20 + 0.01


def test_a_rate_of_0_has_the_error_of_the_tilt_s_rate():
    """As in a score test: 0 of 50 is 1.6 standard errors below a rate of 5 %, not infinitely."""
    base = torch.tensor([1.0] * 5 + [0.0] * 95)
    rows = TiltRows({"reward": base}, torch.full((100,), 0.01, dtype=torch.float64))
    check = check_tilt(1.0, {"reward": torch.zeros(50)}, {"reward": base}, rows)
    assert check.numbers["reward"].z == pytest.approx(-0.05 / math.sqrt(0.05 * 0.95 / 50))
    same = check_tilt(1.0, {"reward": torch.ones(9)}, {"reward": torch.ones(4)},
                      TiltRows.reweighted({"reward": torch.ones(4)}, torch.zeros(4)))  # fmt: skip
    assert same.numbers["reward"].z == 0 and same.progress is None


def test_dropped_samples_count_nothing(generator):
    base, samples = normals(300, generator), normals(40, generator, mean=1.0)
    dropped = torch.full((7,), -torch.inf, dtype=torch.float64)
    plain, more = checked(samples, base), checked(samples, torch.cat([base, dropped]))
    for ours, theirs in ((more.numbers["reward"].tilt, plain.numbers["reward"].tilt),
                         (more.progress, plain.progress)):  # fmt: skip
        assert ours is not None and theirs is not None
        assert ours.value == pytest.approx(theirs.value, abs=1e-12)
        assert ours.standard_error == pytest.approx(theirs.standard_error, rel=1e-9)
    assert checked(torch.cat([samples, dropped]), base) == plain
    with pytest.raises(ValueError, match="reward is -inf .* for all but 1 of the 8 samples"):
        checked(torch.cat([samples[:1], dropped]), base)


def test_weights_are_normalized_within_conditions(generator):
    """Conditions of means 0 and 3: the tilt moves each by .5, and their mixture by more."""
    groups = torch.arange(4000) % 2
    values = normals(4000, generator) + 3 * groups
    found = reweighted_mean(values, 0.5 * values, groups)
    assert abs(found.value - 2.0) < 5 * found.standard_error
    assert reweighted_mean(values, 0.5 * values).value > 2.5
    alone = [reweighted_mean(values[groups == g], 0.5 * values[groups == g]) for g in (0, 1)]
    assert found.value == pytest.approx(sum(each.value for each in alone) / 2)
    error = math.hypot(*(each.standard_error for each in alone)) / 2
    assert found.standard_error == pytest.approx(error)
    least = [pilot_ess(0.5 * values[groups == g]).value for g in (0, 1)]
    assert pilot_ess(0.5 * values, groups).value == min(least)


def test_mmd_to_the_tilt_compares_samples_of_one_condition(generator):
    groups = torch.arange(400) % 2
    base = (normals(400, generator) + 5 * groups)[:, None]
    right = (normals(400, generator, mean=0.5) + 5 * groups)[:, None]
    swapped = (normals(400, generator, mean=0.5) + 5 * (1 - groups))[:, None]
    log_weight = 0.5 * base[:, 0]
    found = mmd_to_tilt(right, base, log_weight, groups, groups)
    wrong = mmd_to_tilt(swapped, base, log_weight, groups, groups)
    assert found is not None and wrong is not None
    assert abs(found.value) < 3 * found.standard_error
    assert wrong.value > 30 * wrong.standard_error
    assert mmd_to_tilt(right, base, log_weight) == mmd(right, base, log_weight=log_weight)
    few = torch.tensor([0] * 398 + [1] * 2)
    assert mmd_to_tilt(right, base, log_weight, few, groups) is None


def test_particles_have_the_mean_effective_sample_size_of_their_systems():
    log_weight = torch.tensor([[0.0, 0.0], [0.0, -torch.inf]])
    particles = TensorDict({"log_weight": log_weight}, [2, 2])
    found = particle_ess(TensorDict({"state": torch.zeros(2, 1), "particles": particles}, [2]))
    assert found is not None and (found.value, found.standard_error) == (1.5, 0.5)
    single = TensorDict({"log_weight": log_weight[:, :1]}, [2, 1])
    assert particle_ess(TensorDict({"particles": single}, [2])) is None
    assert particle_ess(TensorDict({"particles": torch.zeros(2)}, [2])) is None
    assert particle_ess(torch.zeros(2, 1)) is None


# --- the verdict ---


def test_exact_samples_reach_the_tilt_at_the_rate_that_three_errors_allow(generator):
    """200 repetitions, reward alone: 3 standard errors are passed .3 % of the time."""
    missed = [
        checked(normals(100, generator, mean=0.7), normals(500, generator), 0.7).reached is False
        for _ in range(200)
    ]
    assert sum(missed) <= 4


def test_a_verdict_names_what_is_off_by_how_much_and_how_much_of_the_way_was_made(generator):
    base = normals(4000, generator)
    short = checked(normals(1000, generator, mean=0.3), base)
    assert short.reached is False
    assert short.verdict.startswith("Did not reach the tilt of strength 1: mean reward is 0.")
    assert "standard errors below" in short.verdict
    assert "% of the way from the base's mean reward" in short.verdict
    over = checked(normals(1000, generator, mean=1.4), base)
    assert over.reached is False and "standard errors above" in over.verdict
    assert over.progress is not None and over.progress.value > 1.2


def test_a_verdict_names_a_judge_that_is_off_and_what_else():
    values = {"reward": torch.tensor([0.0, 1.0] * 100), "hat": torch.tensor([0.0, 1.0] * 100)}
    off = values | {"hat": torch.tensor([0.0, 0.0, 0.0, 1.0] * 50)}
    rows = TiltRows.reweighted(values, torch.zeros(200))
    check = check_tilt(2.0, off, values, rows)
    assert check.reached is False
    assert check.verdict == (
        "Did not reach the tilt of strength 2: hat is 0.25 ± 0.031, 5 standard errors below the "
        "tilt's 0.5 ± 0.035."
    )
    far = check_tilt(2.0, off, values, rows, af.metrics.Estimate(0.5, 0.01))
    assert "MMD² is 0.5 ± 0.01, 50 standard errors above 0; also off: hat." in far.verdict
    near = check_tilt(2.0, values, values, rows, af.metrics.Estimate(-0.5, 0.01))
    assert near.reached is True and "the mean reward and 2 other measures are" in near.verdict
    unknown = check_tilt(2.0, values, values, rows, af.metrics.Estimate(math.nan, math.nan))
    assert unknown.mmd is None and "and 1 other measure are within 3" in unknown.verdict


def test_of_many_measures_the_largest_gap_is_as_rare_as_that_of_one(generator):
    """200 repetitions of 30 normal numbers, of which 8 % would pass 3 standard errors."""
    missed = 0
    for _ in range(200):
        names = [f"judge_{k}" for k in range(30)]
        samples, base = (
            dict(zip(["reward", *names], normals(31 * 400, generator).view(31, 400), strict=True))
            for _ in "ab"
        )
        check = check_tilt(0.0, samples, base, TiltRows.reweighted(base, torch.zeros(400)))
        missed += check.reached is False
    assert missed <= 4


def test_few_effective_samples_of_the_base_tell_nothing(generator):
    check = checked(normals(100, generator, mean=3.0), normals(500, generator), 3.0)
    assert check.reached is None
    assert "cannot be told: the 500 samples of the base have an effective sample" in check.verdict
    assert "below 30; draw more of the base" in check.verdict and "lower the str" in check.verdict


def test_a_known_list_has_no_effective_sample_size(generator):
    values = torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64)
    weights = (2 * values).softmax(0)
    drawn = values[torch.multinomial(weights, 400, replacement=True, generator=generator)]
    check = checked(drawn, values, 2.0, exact=True)
    assert check.reached and check.base_ess is None and "effective" not in check.verdict
    assert check.numbers["reward"].tilt.standard_error == 0
    assert not checked(values.repeat(100), values, 2.0, exact=True).reached


# --- af.evaluate ---


def test_samples_of_the_exact_tilt_reach_it_and_samples_of_the_base_do_not(generator):
    tilted = RING.tilted(REWARD, 1.0).sample(500, generator=generator)
    judges = {"mode": af.targets.ring_judge()}
    options = {"tilt": TILT, "base": RING, "base_samples": 2000, "judges": judges}
    found = af.evaluate(tilted, **options, generator=0)
    assert found.tilt_check is not None and found.tilt_check.reached is True
    assert found.verdict is not None and found.verdict.startswith("Reached the tilt of strength 1")
    assert abs(found["tilt_mmd"].value) < 3 * found["tilt_mmd"].standard_error
    assert found["reward"].value > found["base_reward"].value
    assert "tilt_mode_mode 3" in found and "base_mode_mode 3" in found
    assert 30 < found["tilt_ess"].value < 2000
    assert abs(found["tilt_progress"].value - 1) < 3 * found["tilt_progress"].standard_error
    base = af.evaluate(RING.sample(500, generator=generator), **options, generator=0)
    assert base.verdict is not None and base.verdict.startswith("Did not reach")
    assert abs(base["tilt_progress"].value) < 5 * base["tilt_progress"].standard_error
    strong = af.evaluate(tilted, tilt=af.Tilt(REWARD, 50.0), base=RING, base_samples=64)
    assert strong.tilt_check is not None and strong.tilt_check.reached is None


def test_the_verdict_is_printed_shown_and_stored(generator):
    samples = RING.sample(64, generator=generator)
    found = af.evaluate(samples, tilt=TILT, base=samples)
    assert found.verdict is not None
    assert " ".join(str(found).split()).endswith(found.verdict)
    assert found._repr_html_().endswith(f"<p>{escape(found.verdict)}</p>")
    stored = json.loads(json.dumps(found.to_dict()))
    assert stored["verdict"] == found.verdict and stored["tilt_ess"]["value"] > 1
    assert af.evaluate(samples).verdict is None and "verdict" not in af.evaluate(samples).to_dict()


def test_the_tilt_s_reward_may_be_given_again_and_others_by_name(generator):
    samples = RING.sample(64, generator=generator)
    options = {"tilt": TILT, "base": samples}
    assert af.evaluate(samples, reward=REWARD, **options) == af.evaluate(samples, **options)
    plain = {"tilt": af.Tilt(linear), "base": samples}
    assert af.evaluate(samples, reward=linear, **plain) == af.evaluate(samples, **plain)
    named = af.evaluate(samples, reward={"right": linear}, **options)
    assert {"reward", "reward_right", "tilt_reward_right", "base_reward"} <= set(named)
    with pytest.raises(ValueError, match="reward 'linear' is not the tilt's.*reward={'other'"):
        af.evaluate(samples, reward=linear, **options)


def test_a_comparison_with_the_tilt_leaves_all_other_numbers_as_they_are(generator):
    samples = RING.sample(64, generator=generator)
    plain = af.evaluate(samples, reward=REWARD, reference=RING, generator=3)
    found = af.evaluate(samples, reference=RING, tilt=TILT, base=RING, base_samples=50, generator=3)
    assert {name: found[name] for name in plain} == plain


def test_samples_of_a_steerer_have_the_effective_sample_size_of_their_particles():
    out = af.steer(RING, TILT, "importance", steps=2, particles=4).sample(32, generator=0)
    found = af.evaluate(out, tilt=TILT, base=RING, base_samples=64, generator=0)
    assert 1 < found["particle_ess"].value < 4


@pytest.mark.parametrize("given", [False, True], ids=["model", "samples"])
def test_the_base_has_the_conditions_of_the_samples(given, generator):
    """Each condition's tilt is moved by the strength; one over all would favor the larger."""
    model, condition = Normal((1,)), torch.tensor([0.0] * 150 + [4.0] * 150)
    tilted = model.sample(300, condition=condition, generator=generator) + 0.5
    base = model.sample(1200, condition=condition.repeat(4), generator=generator)
    found = af.evaluate(
        tilted,
        tilt=af.Tilt(linear, 0.5),
        base=base if given else model,
        base_samples=1000,
        condition=condition,
        batch_size=70,
        generator=1,
    )
    assert found.tilt_check is not None and found.tilt_check.reached, found.verdict
    assert abs(found["tilt_reward"].value - 2.5) < 5 * found["tilt_reward"].standard_error
    assert 30 < found["tilt_ess"].value < 600 and "tilt_mmd" in found


def test_one_sample_of_each_condition_is_compared_by_its_numbers_alone(generator):
    model, condition = Normal((1,)), torch.arange(5.0)
    samples = model.sample(5, condition=condition, generator=generator)
    tilt = af.Tilt(linear, 0.5)
    found = af.evaluate(samples, tilt=tilt, base=model, condition=condition, base_samples=400)
    assert "tilt_mmd" not in found and found["tilt_ess"].value > 30
    with pytest.raises(ValueError, match="conditions of the 5 samples in turn.*5, 10.*got 7"):
        af.evaluate(samples, tilt=tilt, base=torch.zeros(7, 1), condition=condition)


def test_texts_are_compared_as_states_are(generator):
    target = af.targets.Sequences(["ab", "b", "abb"], weights=[1, 2, 1])
    tilt = af.Tilt(lambda texts: [float(text.startswith("ab")) for text in texts], 1.5)
    texts = target.decode(target.tilted(tilt).sample(300, generator=generator))
    options = {"tilt": tilt, "base_samples": 400, "generator": 0}
    found = af.evaluate(texts, base=target, **options)
    assert found.tilt_check is not None and found.tilt_check.reached, found.verdict
    weight = math.exp(1.5) / (1 + math.exp(1.5))
    assert abs(found["tilt_reward"].value - weight) < 5 * found["tilt_reward"].standard_error
    base = target.decode(target.sample(400, generator=generator))
    far = af.evaluate(base[:200], base=base, **options)
    assert far.tilt_check is not None and far.tilt_check.reached is False
    with pytest.raises(ValueError, match="samples and base must be both states or both texts"):
        af.evaluate(texts, base=RING, tilt=af.Tilt(lambda x: [0.0] * len(x)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tilt": TILT}, "a tilt is compared with by samples of its base: give base="),
        ({"base": RING}, r"base is what a tilt is a tilt of: say which, tilt=af\.Tilt"),
        ({"tilt": REWARD, "base": RING}, "tilt must be a tilt, af.Tilt"),
        ({"tilt": TILT, "base": "avatars"}, r"base must be a flow map.*af\.load\('avatars'\)"),
        ({"tilt": TILT, "base": RING, "base_samples": 1}, "base_samples must be .* at least 2"),
        ({"tilt": TILT, "base": torch.zeros(4, 3)}, "event shape"),
        ({"judges": {"tilt_mmd": linear}}, "would replace the measure 'tilt_mmd'"),
    ],
)
def test_what_cannot_be_compared_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        af.evaluate(torch.zeros(4, 2), **options)
