"""Nodes of the steering graph: TensorDict modules that know their keys.

A node reads and writes keys of a flat batch (B rows; with M particles a system, B is n M). Keys:
`state` (B, *E), `time`, `target_time` and `step_length` (B,), `condition`, `endpoint` (B, K, *E),
`endpoint_log_weight` and `endpoint_reward` (B, K), `value` (B,), `value_gradient`, `velocity`,
`correction` and `tilted_velocity` (B, *E), `log_weight` (B,); in a chain the finished `sample` and
its `source`, the noise (B, *E), its `reward` and whether a move was `accepted` (B,). Random numbers
are keys too (`endpoint_noise` (B, K, *E), `step_noise` (B, *E)): a node draws them before it runs,
for the whole batch at once, so that cutting the batch changes nothing.
"""

from collections.abc import Container
from typing import Any

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import Tensor

from alignflow import draws
from alignflow.conditions import as_given

__all__ = ["MAKERS", "Node", "noise_like"]

# who writes a key, for the node that lacks it
MAKERS = {
    "state": "the steerer",
    "time": "the steerer",
    "target_time": "the steerer",
    "step_length": "the steerer",
    "condition": "the steerer, where samples have one",
    "reward": "the steerer, once the samples are finished",
    "sample": "a proposal of a chain (Noising, CrankNicolson, Ellipse)",
    "source": "FirstSample, which starts a chain",
    "tilt_fraction": "the steerer of a chain",
    "endpoint_noise": "the posterior itself, by `draw`",
    "step_noise": "the transition itself, by `draw`",
    "resampling_noise": "the resampler itself, by `draw`",
    "endpoint": "a posterior (DenoiserPosterior, FlowMapPosterior, GLASSPosterior, ...)",
    "denoiser": "DenoiserPosterior",
    "velocity": "Velocity or DenoiserPosterior",
    "endpoint_reward": "a value estimator (Value, Gradient, GradientFree)",
    "value": "a value estimator (Value, Gradient, GradientFree, Learned)",
    "value_gradient": "a gradient estimator (Gradient, LearnedGradient)",
    "correction": "GradientFree, LearnedTilt, EndpointAscent or a correction (TiltCorrection, ...)",
    "start_state": "Heun",
    "log_ratio": "a transition with a density (SDE, Anchored), or MoveRatio",
    "tilted_velocity": "Euler or Heun",
}


class Node(TensorDictModuleBase):
    """A step of the graph. Subclasses name their keys, and read and write through `read`, `write`.

    Attributes:
        reads: Keys it needs.
        optional: Keys it uses where they are there.
        writes: Keys it writes.
        noise: Keys it draws for itself, before it runs.
        differentiates: Whether it backpropagates to the state, through the nodes before it.
        needs_reward_gradient: Whether it needs the gradient of the reward.
        whole_batch: Whether its rows depend on each other, so that it is never cut into
            micro-batches.
    """

    reads: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    noise: tuple[str, ...] = ()
    differentiates = False
    needs_reward_gradient = False
    whole_batch = False

    def __init__(self):
        super().__init__()
        self._names: dict[str, str] = {}
        self.rename()

    @property
    def needs(self) -> list[str]:
        """Names of the keys it needs: `in_keys`."""
        return [self._names.get(key, key) for key in self.reads]

    @property
    def makes(self) -> list[str]:
        """Names of the keys it makes: `out_keys`."""
        return [self._names.get(key, key) for key in self.writes]

    def may_use(self, made: Container[str]) -> list[str]:
        """Of the keys it can do without, the names of those that were made."""
        names = [self._names.get(key, key) for key in self.optional]
        return [name for name in names if name in made]

    def draw(self, tensordict: TensorDictBase, generator: torch.Generator | None = None) -> None:
        """Write the random numbers that it will read, for every row."""

    def rename(self, **names: str) -> "Node":
        """Read or write other keys: `node.rename(endpoint="lookahead")`. Returns the node."""
        known = {*self.reads, *self.optional, *self.writes, *self.noise}
        if unknown := sorted(set(names) - known):
            raise ValueError(
                f"{self!r} has no key {', '.join(unknown)} to rename; it has "
                f"{', '.join(sorted(known))}"
            )
        self._names.update(names)
        self.in_keys = [*self.needs]
        self.out_keys = [*self.makes]
        return self

    def read(self, tensordict: TensorDictBase, key: str) -> Any:
        """The value of a key; None for an optional one that is absent.

        Raises:
            ValueError: Naming this node, the key it lacks, and what makes it.
        """
        name = self._names.get(key, key)
        value = as_given(tensordict.get(name, None))
        if value is None and key not in self.optional:
            raise ValueError(self.lacks(name))
        return value

    def write(self, tensordict: TensorDictBase, **values: Any) -> TensorDictBase:
        """Set keys and return the TensorDict."""
        for key, value in values.items():
            tensordict.set(self._names.get(key, key), value)
        return tensordict

    def lacks(self, name: str) -> str:
        """What to say when a key is not there."""
        return f"{self!r} lacks the key {name!r}; it is made by {MAKERS.get(name, 'another node')}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"


def noise_like(state: Tensor, *extra: int, generator: torch.Generator | None = None) -> Tensor:
    """Standard normal (B, *extra, *E) for states (B, *E), of their dtype and on their device."""
    shape = (state.shape[0], *extra, *state.shape[1:])
    return draws.normal(shape, generator, state.dtype, state.device)
