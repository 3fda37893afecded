"""Policies read from folders. A folder may be anybody's: nothing in it is imported or executed."""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

import alignflow.data  # noqa: F401 (its vocabularies are decoders)
from alignflow import checks
from alignflow.checkpoint import (
    CheckpointError,
    build_without_memory,
    fact,
    load_folder,
    load_parameters,
    registered_network,
)
from alignflow.decoding import Decoder, as_decoder, decoder_class
from alignflow.values.learned_value import KIND

from .networks import StrengthNetwork
from .policy import FlowMapPolicy, StrengthPolicy
from .saving import DECODER, DTYPES, FORMAT

__all__ = ["load_policy"]

LARGEST = 2**31  # numbers of one state, of a model that is loaded

Value = TypeVar("Value")


def load_policy(
    folder: str | Path,
    module: nn.Module | None = None,
    decode: str | Decoder | None = None,
    *,
    allow_nonfinite: bool = False,
) -> FlowMapPolicy:
    """Read a policy that `FlowMapPolicy.save` wrote, in the dtype that it had.

    Args:
        folder: Its folder.
        module: A network to hold the weights; by default the registered network that the folder
            names, built with the arguments it holds.
        decode: A decoder to hold the decoder's weights, where the folder has any; by default the
            registered decoder that it names.
        allow_nonfinite: Whether weights that are NaN or infinite are let through.

    Raises:
        CheckpointError: If the folder is damaged, names no registered network or decoder and none
            is given, its weights do not fit, or one is NaN or infinite; or a vocabulary is given
            that is another one.
    """
    if module is not None:
        checks.instance("module", module, nn.Module, "an instance of a torch.nn.Module")
    decoder = None if decode is None else as_decoder(decode)

    def check(facts: dict[str, Any], shapes: dict[str, tuple[int, ...]]) -> None:
        if facts.get("kind") == KIND:
            raise CheckpointError(f"{folder} holds a learned value: af.load_value reads it")
        if fact(facts, "format", int, folder) != FORMAT:
            raise CheckpointError(f"{folder} has format {facts['format']}, expected {FORMAT}")
        of_network, of_decoder = _apart(shapes)
        decoding = _decoding(facts, folder)
        network, looks = module, decoder
        if network is None:
            network = build_without_memory(_network(facts, folder), of_network, folder)
        if looks is None:
            looks = build_without_memory(_decoder(decoding, folder), of_decoder, folder)
        elif decoder_class(decoding["name"]) is not None:
            saved = build_without_memory(_decoder(decoding, folder), of_decoder, folder)
            _check_same(looks, saved, folder)
        _described(network, looks, facts, folder)

    tensors, facts = load_folder(folder, check, allow_nonfinite=allow_nonfinite)
    of_network, of_decoder = _apart(tensors)
    decoding = _decoding(facts, folder)
    network = _network(facts, folder)() if module is None else module
    looks = _decoder(decoding, folder)() if decoder is None else decoder
    _fill(network, of_network, facts.get("dtype"), folder)
    if decoder is None or of_decoder:
        _fill(looks, of_decoder, decoding["dtype"], folder)
    return _described(network, looks, facts, folder).eval()


def _check_same(given: Decoder, saved: Decoder, folder: str | Path) -> None:
    try:
        given.check_same(saved)
    except ValueError as error:
        raise CheckpointError(f"{folder} was saved with another decoder: {error}") from error


def _apart(named: dict[str, Value]) -> tuple[dict[str, Value], dict[str, Value]]:
    """The tensors of the network and those of the decoder."""
    decoder = {k.removeprefix(DECODER): v for k, v in named.items() if k.startswith(DECODER)}
    return {k: v for k, v in named.items() if not k.startswith(DECODER)}, decoder


def _fill(
    part: nn.Module, tensors: dict[str, Tensor], dtype: str | None, folder: str | Path
) -> None:
    """Give a module the dtype that it was saved with, and its weights."""
    if dtype is not None:
        part.to(getattr(torch, dtype))
    load_parameters(part, tensors, folder)


def _network(facts: dict[str, Any], folder: str | Path) -> Callable[[], nn.Module]:
    """What makes the network that a folder names."""
    return registered_network(facts, folder, "af.load(folder, module=MyNet())")


def _decoder(decoding: dict[str, Any], folder: str | Path) -> partial[Decoder]:
    """What makes the decoder that a folder names."""
    decoder = decoder_class(decoding["name"])
    if decoder is None:
        raise CheckpointError(
            f"{folder} holds a decoder that is not registered ({checks.shown(decoding['name'])}): "
            "register its class by alignflow.decoding.register_decoder, or pass one, "
            "af.load(folder, decode=MyDecoder())"
        )
    return partial(decoder, **decoding["arguments"])


def _decoding(facts: dict[str, Any], folder: str | Path) -> dict[str, Any]:
    """Name, arguments and dtype of the decoder that a folder names."""
    if isinstance(facts.get("decode"), str):  # older versions had no arguments
        return {"name": facts["decode"], "arguments": {}, "dtype": None}
    decoding = fact(facts, "decode", dict, folder)
    fact(decoding, "arguments", dict, folder)
    _check_dtype(decoding, folder)
    return {"name": None} | decoding


def _check_dtype(facts: dict[str, Any], folder: str | Path) -> None:
    if facts.get("dtype") is not None and fact(facts, "dtype", str, folder) not in DTYPES:
        raise CheckpointError(f"{folder} names a dtype that is none of {', '.join(DTYPES)}")


def _described(
    network: nn.Module, decoder: Decoder, facts: dict[str, Any], folder: str | Path
) -> FlowMapPolicy:
    """The policy of a network and a decoder as the facts have it."""
    # what older versions did not write, or called otherwise
    facts = {"stochastic": False, "data_std": facts.get("data_deviation", 1.0)} | facts
    event_shape = fact(facts, "event_shape", list, folder)
    _check_dtype(facts, folder)
    kind = StrengthPolicy if isinstance(network, StrengthNetwork) else FlowMapPolicy
    try:
        policy = kind(
            network,
            event_shape,
            parametrization=fact(facts, "parametrization", str, folder),
            decode=decoder,
            invertible=fact(facts, "invertible", bool, folder),
            stochastic=fact(facts, "stochastic", bool, folder),
            data_std=fact(facts, "data_std", float, folder),
            facts=fact(facts, "facts", dict, folder),
        )
    except CheckpointError:
        raise
    except ValueError as error:
        raise CheckpointError(f"{folder} holds no policy: {error}") from error
    if math.prod(policy.event_shape) > LARGEST:
        raise CheckpointError(f"{folder} has states of shape {event_shape}: too large to be meant")
    return policy
