"""Nodes of the steering graph: TensorDict modules that know their keys and their cost.

A node reads and writes keys of a flat batch (B rows; with M particles a system, B is n M). Keys:
`state` (B, *E), `time`, `target_time` and `step_length` (B,), `condition`, `endpoint` (B, K, *E),
`endpoint_log_weight` and `endpoint_reward` (B, K), `value` (B,), `value_gradient`, `velocity`,
`correction` and `tilted_velocity` (B, *E), `log_weight` (B,).
"""

from collections.abc import Container
from typing import Any

from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase

from alignflow.cost import Cost

__all__ = ["MAKERS", "Node"]

# who writes a key, for the node that lacks it
MAKERS = {
    "state": "the steerer",
    "time": "the steerer",
    "target_time": "the steerer",
    "step_length": "the steerer",
    "condition": "the steerer, where samples have one",
    "reward": "the steerer, once the samples are finished",
    "endpoint": "a posterior (DenoiserPosterior, FlowMapPosterior)",
    "denoiser": "DenoiserPosterior",
    "velocity": "Velocity or DenoiserPosterior",
    "endpoint_reward": "a value estimator (Value, PointGradient)",
    "value": "a value estimator (Value, PointGradient)",
    "value_gradient": "a gradient estimator (PointGradient)",
    "correction": "a correction (Ascent, Tilt, Normalized)",
    "start_state": "Heun",
    "tilted_velocity": "Euler or Heun",
}


class Node(TensorDictModuleBase):
    """A step of the graph. Subclasses name their keys, and read and write through `read`, `write`.

    Attributes:
        reads: Keys it needs.
        optional: Keys it uses where they are there.
        writes: Keys it makes.
        differentiates: Whether it takes a gradient back to the state, through the nodes before it.
        whole_batch: Whether its rows depend on each other, so that it is never cut into
            micro-batches.
    """

    reads: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    differentiates = False
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

    @property
    def cost(self) -> Cost:
        """Of one row; of one draw of it in a value estimator."""
        return Cost()

    def rename(self, **names: str) -> "Node":
        """Read or write other keys: `node.rename(endpoint="lookahead")`. Returns the node."""
        known = {*self.reads, *self.optional, *self.writes}
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
        value = tensordict.get(name, None)
        if value is None and key not in self.optional:
            raise ValueError(self.lacks(name))
        return value

    def write(self, tensordict: TensorDictBase, **values: Any) -> TensorDictBase:
        """Set keys, and give the TensorDict back."""
        for key, value in values.items():
            tensordict.set(self._names.get(key, key), value)
        return tensordict

    def lacks(self, name: str) -> str:
        """What to say when a key is not there."""
        return f"{self!r} lacks the key {name!r}; it is made by {MAKERS.get(name, 'another node')}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"
