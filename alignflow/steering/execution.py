"""Runs nodes on rows of a batch, with errors that say where."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import torch
from tensordict import TensorDictBase

from alignflow.posteriors import Posterior
from alignflow.reward_module import RewardError
from alignflow.values import Estimator, Running

from .step import Group

__all__ = ["naming_step", "run_group"]


def run_group(
    group: Group,
    tensordict: TensorDictBase,
    micro_batch_size: int | None,
    generator: torch.Generator | None = None,
) -> TensorDictBase:
    """Run nodes one after the other, so many rows at a time; the result does not depend on it.

    A row of a lookahead counts as its number of draws, and these come in parts if they alone are
    more. Random numbers are drawn first, for all rows. A graph is built only for a gradient, and
    not stored.
    """
    for node in group:
        node.draw(tensordict, generator)
    draws = group[0].draws if isinstance(group[0], Posterior) else 1
    most = len(tensordict) * draws if micro_batch_size is None else micro_batch_size
    size = max(most // draws, 1)
    if size >= len(tensordict) or any(node.whole_batch for node in group):
        return _run_rows(group, tensordict, most)
    parts = []
    for index, part in enumerate(tensordict.split(size)):
        try:
            parts.append(_run_rows(group, part, most))
        except RewardError as error:
            message = f"{error}, counted from row {index * size} of {len(tensordict)}"
            raise type(error)(message) from (error.__cause__ or error)
    return cast(TensorDictBase, torch.cat(parts))


def _run_rows(group: Group, tensordict: TensorDictBase, most_draws: int) -> TensorDictBase:
    differentiates = any(node.differentiates for node in group)
    with torch.set_grad_enabled(differentiates):
        if differentiates:
            tensordict["state"] = tensordict["state"].detach().requires_grad_()
        if isinstance(group[0], Posterior) and most_draws < group[0].draws:
            posterior, value = cast(tuple[Posterior, Estimator], group)
            tensordict = _run_in_parts(posterior, value, tensordict, most_draws)
        else:
            for node in group:
                tensordict = node(tensordict)
    return tensordict.detach() if differentiates else tensordict


def _run_in_parts(
    posterior: Posterior, value: Estimator, tensordict: TensorDictBase, most_draws: int
) -> TensorDictBase:
    """A lookahead with its draws in parts, so that the memory of a gradient is that of one part."""
    running, endpoints = Running(), []
    for start in range(0, posterior.draws, most_draws):
        part = tensordict.copy()
        for key in posterior.noise:
            part[key] = tensordict[key][:, start : start + most_draws]
        part = posterior(part)
        value.take(running, part, alone=False)
        endpoints.append(part["endpoint"].detach())
    tensordict["endpoint"] = torch.cat(endpoints, dim=1)
    return value.finish(running, tensordict)


@contextmanager
def naming_step(where: str) -> Iterator[None]:
    """A reward's error inside, with the step that met it."""
    try:
        yield
    except RewardError as error:
        message = f"{where}: {error}"
        raise type(error)(message) from (error.__cause__ or error)
