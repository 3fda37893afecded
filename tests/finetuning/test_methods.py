"""Methods are values: the short form, the tilt, and the options that all derive from."""

import pytest
import torch

import alignflow as af
from alignflow.finetuning import METHODS, TiltMatching

QUICK = {"steps": 2, "batch_size": 8, "generator": 0}


def test_a_name_with_options_is_short_for_a_tilt_and_a_method(normal, first):
    short = af.finetune(normal, first, "tilt", strength=0.5, pool=64, **QUICK)
    value = af.finetune(normal, af.Tilt(first, 0.5), TiltMatching(pool=64), **QUICK)
    pairs = zip(short.parameters(), value.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_a_strength_beside_a_tilt_is_refused(normal, first):
    with pytest.raises(ValueError, match="strength=2.0 beside a tilt of strength 0.5"):
        af.finetune(normal, af.Tilt(first, 0.5), strength=2.0, **QUICK)


@pytest.mark.parametrize("method", METHODS)
def test_each_option_has_a_type_a_default_and_a_meaning(method):
    found = af.finetune.options(method)
    assert found == af.finetune.options(METHODS[method]) and {"rule", "times"} <= set(found)
    for name, (kind, default, meaning) in found.items():
        assert len(meaning.split()) > 2, name
        assert kind is not None and getattr(METHODS[method](), name, default) is not ...


def test_an_unknown_method_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match="method must be one of .*did you mean 'tilt'"):
        af.finetune.options("tlit")


def test_grpo_runs_by_name_in_the_environment_of_its_import_path(normal, first):
    tuned = af.finetune(normal, first, "grpo", 1.0, episodes=8, **QUICK)
    assert not torch.equal(tuned.module.change.first.weight, normal.module.change.first.weight)
