"""The state of a training, as named tensors and facts, from which it resumes bit for bit.

Weights and the state of the optimizer are taken and set by `torch.distributed.checkpoint`, by the
names of the parameters: the one file that knows whether they are whole or sharded.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

from alignflow import checks
from alignflow.cost import Cost

from .descent import Descent
from .log import Means
from .nested import pack, unpack

__all__ = ["TrainingState", "cost_of"]

# torch asks for a state of each parameter, also of one that never had a gradient
OPTIMIZER = StateDictOptions(strict=False)


class TrainingState:
    """The parts of a training that its steps change.

    Args:
        descent: With weights, buffers, optimizer and randomness; whatever the optimizer's
            `state_dict` holds counts.
        means: Of the line of metrics that is not yet written.
    """

    def __init__(self, descent: Descent, means: Means):
        self.descent, self.means = descent, means

    def collect(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The state as `save_folder` takes it."""
        descent, average = self.descent, self.descent.average
        generator, random = descent.randomness.state
        tensors: dict[str, Any] = {
            **{f"loss.{k}": v for k, v in get_model_state_dict(descent.loss).items()},
            **{f"average.{k}": v for k, v in get_model_state_dict(average.module).items()},
            **{f"random.{k}": v for k, v in random.items()},
            "generator": generator,
        }
        means = vars(self.means) | {"since": None}  # of a clock that is another one then
        facts = {
            "step": descent.step,
            "averaged": int(average.n_averaged),
            "optimizer_state": pack(self._optimizer_state(), "optimizer", tensors),
            "means": pack(means, "means", tensors),
            "cost": dict(descent.meter.total.items()),
        }
        return tensors, facts

    def load(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Restore what `collect` returned, or an earlier version stored.

        Args:
            tensors: By name.
            facts: Beside them.
        """
        descent, average = self.descent, self.descent.average
        step = checks.count("step", facts["step"], least=0)
        # before the weights: torch prepares a new optimizer by a step
        if "optimizer_state" in facts:
            now = descent.optimizer.state_dict()
            self._load_optimizer(unpack(facts["optimizer_state"], tensors, now))
            means = unpack(facts["means"], tensors, vars(self.means))
            means["sums"] = {k: v.to(descent.device) for k, v in means["sums"].items()}
            vars(self.means).update(means)
        else:
            self._load_optimizer(_without_groups(descent.optimizer, tensors, facts["optimizer"]))
        set_model_state_dict(descent.loss, _under("loss.", tensors))
        set_model_state_dict(average.module, _under("average.", tensors))
        average.n_averaged.fill_(checks.count("averaged", facts["averaged"], least=0))
        descent.randomness.state = tensors["generator"], _under("random.", tensors)
        descent.meter.total = cost_of(facts, descent.meter.total)
        descent.go_on_from(step)

    def _optimizer_state(self) -> dict[str, Any]:
        optimizer = self.descent.optimizer
        if not optimizer.state:  # torch would fill it by a step
            return optimizer.state_dict()
        return get_optimizer_state_dict(self.descent.loss, optimizer)

    def _load_optimizer(self, state: dict[str, Any]) -> None:
        """Set a state by the names of parameters, or by their numbers as earlier versions had."""
        loss, optimizer = self.descent.loss, self.descent.optimizer
        groups = optimizer.state_dict()["param_groups"]
        for now, stored in zip(groups, state["param_groups"], strict=True):
            if strange := sorted(set(stored) - set(now)):
                raise ValueError(
                    f"it was stored by another optimizer than {type(optimizer).__name__}, "
                    f"which has no {', '.join(strange)}"
                )
            # a newer torch may have settings that were not stored
            stored |= {name: value for name, value in now.items() if name not in stored}
        set_optimizer_state_dict(loss, optimizer, state, options=OPTIMIZER)
        _restore_dtypes(optimizer, loss, state["state"])


def cost_of(facts: dict[str, Any], otherwise: Cost) -> Cost:
    """The cost that was stored; earlier versions stored none."""
    return Cost(**facts["cost"]) if "cost" in facts else otherwise


def _restore_dtypes(
    optimizer: torch.optim.Optimizer, loss: nn.Module, stored: dict[Any, dict[str, Any]]
) -> None:
    """Restore dtypes: torch casts what it loads to that of the parameter, which rounds counters."""
    owned = [p for group in optimizer.param_groups for p in group["params"]]
    parameters = dict(loss.named_parameters()) | dict(enumerate(owned))
    for key, state in stored.items():
        current = optimizer.state[parameters[key]]
        for name, value in state.items():
            loaded = current.get(name)
            if isinstance(loaded, Tensor) and loaded.dtype != value.dtype:
                current[name] = value.to(loaded.device)


def _without_groups(
    optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor], scalars: dict[str, Any]
) -> dict[str, Any]:
    """The optimizer's state as the first versions stored it: by parameter, without groups."""
    state: dict[int, dict[str, Any]] = {}
    for key, value in {**_under("optimizer.", tensors), **scalars}.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    return {**optimizer.state_dict(), "state": state}


def _under(prefix: str, mapping: dict[str, Any]) -> dict[str, Any]:
    return {k.removeprefix(prefix): v for k, v in mapping.items() if k.startswith(prefix)}
