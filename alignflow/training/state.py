"""What a training resumes from to the same bits, as named tensors and facts."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from alignflow import checks
from alignflow.checkpoint import load_parameters

from .log import Means
from .nested import pack, unpack
from .randomness import global_state, set_global_state

__all__ = ["TrainingState"]


class TrainingState:
    """The parts of a training that its steps change.

    Args:
        loss: With the weights and buffers.
        average: Of the weights.
        optimizer: Whatever its `state_dict` holds counts.
        generator: Of the run; torch's global randomness counts beside it.
        device: Where the training runs.
        means: Of the line of metrics that is not yet written.
    """

    def __init__(
        self,
        loss: nn.Module,
        average: AveragedModel,
        optimizer: torch.optim.Optimizer,
        generator: torch.Generator,
        device: torch.device,
        means: Means,
    ):
        self.loss, self.average, self.optimizer = loss, average, optimizer
        self.generator, self.device, self.means = generator, device, means

    def collect(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """All of it, as `save_folder` takes it."""
        tensors = {f"loss.{k}": v for k, v in self.loss.state_dict().items()}
        tensors |= {f"average.{k}": v for k, v in self.average.module.state_dict().items()}
        tensors |= {f"random.{k}": v for k, v in global_state(self.device).items()}
        tensors["generator"] = self.generator.get_state()
        means = vars(self.means) | {"since": None}  # of a clock that is another one then
        facts = {
            "averaged": int(self.average.n_averaged),
            "optimizer_state": pack(self.optimizer.state_dict(), "optimizer", tensors),
            "means": pack(means, "means", tensors),
        }
        return tensors, facts

    def load(self, tensors: dict[str, Tensor], facts: dict[str, Any], source: str) -> None:
        """Set what `collect` gave, or what earlier versions kept, without the optimizer's groups.

        Args:
            tensors: By name.
            facts: Beside them.
            source: Named in errors.
        """
        load_parameters(self.loss, _under("loss.", tensors), source)
        load_parameters(self.average.module, _under("average.", tensors), source)
        self.average.n_averaged.fill_(checks.count("averaged", facts["averaged"], least=0))
        self.generator.set_state(tensors["generator"])
        set_global_state(_under("random.", tensors), self.device)
        now = self.optimizer.state_dict()
        if "optimizer_state" in facts:
            self._load_optimizer(unpack(facts["optimizer_state"], tensors, now))
            kept = unpack(facts["means"], tensors, vars(self.means))
            kept["sums"] = {name: value.to(self.device) for name, value in kept["sums"].items()}
            vars(self.means).update(kept)
        else:
            self._load_optimizer({**now, "state": _older_state(tensors, facts["optimizer"])})

    def _load_optimizer(self, state: dict[str, Any]) -> None:
        groups = self.optimizer.state_dict()["param_groups"]
        for now, kept in zip(groups, state["param_groups"], strict=True):
            if strange := sorted(set(kept) - set(now)):
                raise ValueError(
                    f"it was kept by another optimizer than {type(self.optimizer).__name__}, "
                    f"which has no {', '.join(strange)}"
                )
            # a newer torch may have settings that were not kept
            kept |= {name: value for name, value in now.items() if name not in kept}
        self.optimizer.load_state_dict(state)
        # torch gives what it loads the dtype of the parameter: a counter would be rounded
        owned = [p for group in self.optimizer.param_groups for p in group["params"]]
        for index, kept in state["state"].items():
            for name, value in kept.items():
                loaded = self.optimizer.state[owned[index]].get(name)
                if isinstance(loaded, Tensor) and loaded.dtype != value.dtype:
                    self.optimizer.state[owned[index]][name] = value.to(loaded.device)


def _older_state(
    tensors: dict[str, Tensor], scalars: dict[str, Any]
) -> dict[int, dict[str, Tensor]]:
    """The optimizer's state by parameter, as earlier versions kept it."""
    state: dict[int, dict[str, Any]] = {}
    for key, value in {**_under("optimizer.", tensors), **scalars}.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    return state


def _under(prefix: str, mapping: dict[str, Any]) -> dict[str, Any]:
    return {k.removeprefix(prefix): v for k, v in mapping.items() if k.startswith(prefix)}
