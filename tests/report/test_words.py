"""The words of a report: its headline, outcomes and cautions, honest about error and overshoot."""

import re

import pytest

from alignflow.metrics import Estimate
from alignflow.report.run_folder import read_run
from alignflow.report.words import cautions, headline, line, listed, outcomes, targets, with_error


@pytest.fixture
def run(bare_run, make_result, write):
    """A call that changes the result by a function and reads the run."""

    def read(change=lambda content: None, n=50):
        content = make_result(n)
        change(content)
        write(bare_run, content)
        return read_run(bare_run)

    return read


def _only(content, rate, error=0.02):
    """One steered model whose rate of glasses is `rate`, against 20% and an exact 65%."""
    base, steered, _ = content["models"]
    content["models"] = [base, steered]
    base["rates"]["glasses"] = [0.20, 0.18, 0.22]
    steered["rates"]["glasses"] = [rate, rate - error, rate + error]
    content["tilt"]["rates"]["glasses"] = [0.65, 0.63, 0.67]


def test_the_headline_says_what_happened_in_one_sentence(run):
    assert headline(run(n=2000)) == (
        "At strength 2, the reward p(glasses) raised the fraction of samples with glasses, "
        "from 20.0% to 74.0% by lookahead steering and to 58.0% by weighted tuning; against the "
        "exact tilt’s 64.9%, lookahead steering overshoots by 9.1 points and weighted tuning "
        "falls 6.9 points short, at 16 and 4 network passes a sample (base: 4)."
    )


@pytest.mark.parametrize(
    ("rate", "verdict"),
    [
        (0.80, "lookahead steering overshoots by 15.0 points"),
        (0.50, "lookahead steering falls 15.0 points short"),
        (0.66, r"lookahead steering agrees within the error \(\+1.0 ± 2.8 points\)"),
        (0.64, r"lookahead steering agrees within the error \(−1.0 ± 2.8 points\)"),
        (0.10, "lookahead steering moves the wrong way and misses by 55.0 points"),
        (0.21, "did not clearly change .* falls 44.0 points short"),
    ],
)
def test_the_headline_is_honest_about_overshoot_and_shortfall(run, rate, verdict):
    assert re.search(verdict, headline(run(lambda content: _only(content, rate))))


def test_the_line_tells_a_mean_reward_by_its_name_and_a_base_alone_as_that(run):
    def rename(content):
        content["reward_name"] = "symmetry"
        content["models"] = content["models"][:2]
        for model, mean in zip(content["models"], (0.2, 0.7), strict=True):
            model["mean_reward"] = [mean, 0.01]
        content["tilt"] = None

    assert line(run(rename)) == "Reward symmetry: 0.2 → 0.7 lookahead"
    alone = run(lambda content: content.update(models=content["models"][:1]))
    assert line(alone) == "With glasses: 20.0%, nothing was aligned; exact tilt 64.9%"


def test_overshoot_is_told_from_the_base_when_the_tilt_lowers_a_rate(run):
    def lower(content):
        _only(content, 0.05, error=0.01)
        content["models"][0]["rates"]["glasses"] = [0.60, 0.58, 0.62]
        content["tilt"]["rates"]["glasses"] = [0.20, 0.18, 0.22]

    sentence = headline(run(lower))
    assert "lowered the fraction" in sentence
    assert "overshoots by 15.0 points" in sentence


def test_a_tilt_that_changes_nothing_has_no_direction_to_overshoot_in(run):
    def still(content):
        _only(content, 0.30)
        content["tilt"]["rates"]["glasses"] = [0.20, 0.18, 0.22]

    assert "lands 10.0 points above" in headline(run(still))


def test_a_reward_that_names_no_attribute_is_told_by_its_mean(run):
    def rename(content):
        content["reward_name"] = "symmetry"
        for model, mean in zip(content["models"], (0.2, 0.7, 0.5), strict=True):
            model["mean_reward"] = [mean, 0.01]
        content["tilt"]["mean_reward"] = [0.6, 0.01]

    sentence = headline(run(rename))
    assert "raised the mean reward, from 0.2 to 0.7 by lookahead steering" in sentence
    assert "lookahead steering overshoots by 0.1 and weighted tuning falls 0.1 short" in sentence


def test_without_a_tilt_the_headline_claims_no_comparison(run):
    run = run(lambda content: content.update(tilt=None))
    assert "no exact tilt is known to compare with" in headline(run)
    assert [name for name, _, _ in outcomes(run)] == [
        "base",
        "steered: lookahead",
        "tuned: weighted",
    ]


def test_a_method_without_a_strength_is_not_told_at_strength_0(run):
    sentence = headline(run(lambda content: content.update(tilt=None, strength=0.0)))
    assert sentence.startswith("The reward p(glasses) raised")


def test_a_run_of_the_base_alone_says_that_nothing_was_aligned(run):
    sentence = headline(run(lambda content: content.update(models=content["models"][:1])))
    assert sentence.startswith("Nothing was aligned")
    assert "20.0%" in sentence


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("p(glasses)", ["glasses"]),
        ("attribute_long_hair", ["long_hair"]),
        ("glasses + hat", ["glasses", "hat"]),
        ("what", []),
    ],
)
def test_targets_are_whole_words_of_the_reward_name(run, name, found):
    assert targets(run(lambda content: content.update(reward_name=name))) == found


def test_cautions_name_each_fall_beyond_its_error_and_nothing_else(run):
    found = cautions(run())
    assert found == [
        "Diversity fell from 0.4520 ± 0.0040 to 0.3920 ± 0.0040 under lookahead steering.",
        "The held-out reward brightness fell from 0.6100 ± 0.0030 to 0.5900 ± 0.0030 "
        "under lookahead steering.",
        "The held-out reward brightness fell from 0.6100 ± 0.0030 to 0.5900 ± 0.0030 "
        "under weighted tuning.",
    ]


def test_a_side_effect_and_a_thin_tilt_are_named(run):
    def change(content):
        content["models"][1]["rates"]["hat"] = [0.25, 0.23, 0.27]
        content["tilt"]["rates"]["hat"] = [0.05, 0.04, 0.06]
        content["tilt"]["ess"] = 31.4

    found = " ".join(cautions(run(change)))
    assert "Lookahead steering leaves hat at 25.0%, where the exact tilt has 5.0%." in found
    assert "effective sample of 31" in found


def test_numbers_are_shown_to_the_digits_that_their_error_allows():
    assert with_error(Estimate(0.58432, 0.0123)) == "0.584 ± 0.012"
    assert with_error(Estimate(1234.5, 45.0)) == "1234 ± 45"
    assert with_error(Estimate(0.5, 0.0)) == "0.5"
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "c"]) == "a, b and c"
