"""In which precision networks run, and the word of it where a processor is slow at one."""

import warnings

import pytest
import torch

from alignflow import precision
from alignflow.precision import autocast


@pytest.mark.parametrize(("name", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_products_run_in_the_precision_asked_for(name, dtype, monkeypatch):
    monkeypatch.setattr(precision, "bf16_is_slow", lambda device: False)
    x = torch.ones(2, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with autocast(name):
            assert (x @ x).dtype == dtype


def test_a_processor_that_emulates_bf16_is_warned_of(monkeypatch):
    monkeypatch.setattr(precision, "bf16_is_slow", lambda device: True)
    with pytest.warns(UserWarning, match="emulates it, several times slower than fp32"):
        autocast("bf16")


def test_a_precision_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match="precision must be one of fp32, bf16, got 'fp8'"):
        autocast("fp8")


def test_a_gpu_is_not_the_processor_s_business():
    assert not precision.bf16_is_slow("cuda")
