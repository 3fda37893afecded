"""What can be found out about the methods and their options, by people and by type checkers."""

import copy
import inspect
import pickle
import types
import typing
from collections.abc import Mapping, Sequence

import pytest

import alignflow as af
from alignflow import finetuning
from alignflow.finetuning import MethodName as Tuner
from alignflow.steering import METHODS, Method


def test_the_names_that_a_type_checker_knows_are_those_that_there_are():
    assert typing.get_args(Method) == tuple(METHODS) == tuple(af.steer.methods())
    assert typing.get_args(Tuner) == tuple(finetuning.METHODS) == tuple(af.finetune.methods())


@pytest.mark.parametrize("call", [af.steer, af.finetune], ids=["steer", "finetune"])
def test_a_call_by_method_is_seen_as_the_function_that_it_is(call):
    parameters = inspect.signature(call).parameters
    assert "policy" in parameters and parameters["method"].default in call.methods()
    assert "Args:" in inspect.getdoc(call) and call.__name__ in repr(call)
    assert pickle.loads(pickle.dumps(call)) is call is copy.deepcopy(call)


def is_of(value, kind) -> bool:
    """Whether a default is of a type, as an annotation has it."""
    if kind is typing.Any:
        return True
    if isinstance(kind, types.UnionType):
        return any(is_of(value, one) for one in typing.get_args(kind))
    kind = typing.get_origin(kind) or kind
    if kind in (Sequence, Mapping):
        return isinstance(value, kind) and not isinstance(value, str)
    return value is None if kind is types.NoneType else type(value) is kind


@pytest.mark.parametrize("method", METHODS)
def test_each_option_has_a_type_a_default_and_a_meaning(method):
    parameters = inspect.signature(METHODS[method]).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    found = af.steer.options(method)
    assert list(found) == list(defaults)
    for name, (kind, default, meaning) in found.items():
        assert default == defaults[name] and len(meaning.split()) > 2
        if (method, name) not in {("custom", "corrections")} or default is not None:
            assert is_of(default, kind), (name, kind, default)


def test_options_of_a_method_that_there_is_not_are_refused_with_the_nearest():
    with pytest.raises(ValueError, match="method must be one of .*did you mean 'glass'"):
        af.steer.options("glas")
    assert af.steer.options("glass")["inner_steps"] == (
        int, 4, "steps of the flow that makes one draw of the posterior",
    )  # fmt: skip
