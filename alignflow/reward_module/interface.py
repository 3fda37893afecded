r"""What a reward is: a function from what people see to one number a sample, maximized.

A reward is called on a batch at a time, as `function(endpoint, condition=None)`, and may answer
with a tensor (N,) or (N, 1), an array, or a list of floats. Whether its gradient is real is
declared by `differentiable`, not guessed; everything else is a black box and runs without a graph.
"""

import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Any

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import Tensor

from alignflow import checks
from alignflow.conditions import as_given
from alignflow.strengths import without_strength

from .answers import as_rewards
from .copies import copied

__all__ = ["NotFiniteError", "Reward", "RewardError", "check_callable"]

INVALID = ("raise", "drop", "worst")
SPACES = ("decoded", "state")


class RewardError(ValueError):
    """A reward raised, or returned what is not one finite number for each sample."""


class NotFiniteError(RewardError, FloatingPointError):
    """A reward, or its gradient back through the model, is NaN or infinite."""


class Reward(TensorDictModuleBase):
    """A named reward around a function.

    Called on tensors it is the function itself, checked. Called on a TensorDict it reads `endpoint`
    and `condition` and writes `endpoint_reward`. The function is given copies: what it writes into
    them changes nothing for anybody else.

    Args:
        function: `function(endpoint, condition=None)`, (N, *E) to N numbers. An nn.Module's
            parameters become this module's, and it stays in evaluation mode: with dropout or batch
            statistics the reward would change from call to call.
        name: What errors, logs and reports call it.
        differentiable: Whether its gradient in the endpoint is real.
        space: "decoded" to see `policy.decode` of the states, "state" to see the states themselves.
        on_invalid: What NaN or infinity does: "raise" a RewardError, "drop" to a reward of -inf
            (a log-weight of -inf), or take the "worst" valid reward of the batch. In the last two
            cases the sample has no gradient.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        name: str | None = None,
        differentiable: bool = False,
        space: str = "decoded",
        on_invalid: str = "raise",
    ):
        super().__init__()
        check_callable(function)
        if name is not None:
            checks.instance("name", name, str, "a text")
        self.function: Any = function
        self.name = name or getattr(function, "__name__", type(function).__name__)
        self.differentiable = checks.flag("differentiable", differentiable)
        self.space = checks.choice("space", space, SPACES)
        self.on_invalid = checks.choice("on_invalid", on_invalid, INVALID)
        self._takes_condition = _takes_condition(function)
        self.in_keys = ["endpoint"]
        self.out_keys = ["endpoint_reward"]
        self.eval()

    def train(self, mode: bool = True) -> "Reward":
        """Stay in evaluation mode, whatever the loss around the reward is switched to."""
        return super().train(False)

    def forward(self, endpoint: Tensor | list[str] | TensorDictBase, condition=None):
        """The function's answer for (N, *E), or for N texts, as (N,), or the TensorDict form.

        A TensorDict of several batch dimensions is scored as one flat batch.
        """
        if not isinstance(endpoint, TensorDictBase):
            return self.score(endpoint, condition)
        seen = endpoint.select("endpoint", "condition", strict=False)
        flat = seen.reshape(-1) if seen.batch_dims > 1 else seen
        condition = as_given(flat.get("condition", None))
        reward, terms = self.score_terms(flat.get("endpoint"), condition)
        shape = endpoint.batch_size if seen.batch_dims > 1 else reward.shape
        for name, term in terms.items():
            endpoint.set(f"endpoint_reward_{name}", term.view(shape))
        return endpoint.set("endpoint_reward", reward.view(shape))

    def score(
        self,
        states: Tensor | list[str],
        condition=None,
        decode: Callable[[Any], Any] = lambda x: x,
    ) -> Tensor:
        """Rewards (N,) of states (N, *E); with a graph only if the reward is differentiable.

        They come in the states' precision, but never in less than float32.

        Args:
            states: (N, *E), or N texts that need no decoding.
            condition: Passed on if the function takes one.
            decode: `policy.decode`, applied first unless the reward asks for the raw state.

        Raises:
            RewardError: If the function raises or answers in a wrong shape, and `NotFiniteError`
                if with NaN or infinity under on_invalid="raise", which names the samples.
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.differentiable):
            endpoint = states if self.space == "state" else decode(states)
            # a copy: it may be written into, a black box sees no graph, and a hook stays here
            endpoint = copied(endpoint, self.differentiable)
            try:
                answer = self.ask(endpoint, condition)
            except Exception as error:
                raise RewardError(
                    f"reward {self.name!r} raised {type(error).__name__} on a batch of "
                    f"{len(states)}: {error}"
                ) from error
            try:
                reward = as_rewards(answer, states)
            except (TypeError, ValueError) as error:
                raise RewardError(f"reward {self.name!r} must return {error}") from error
            reward = reward if self.differentiable else reward.detach()
            return self._settle_invalid(reward, endpoint)

    def score_terms(
        self,
        states: Tensor | list[str],
        condition=None,
        decode: Callable[[Any], Any] = lambda x: x,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """What `score` returns, and the rewards (N,) of each term by name, without a graph.

        Only a composite has terms.
        """
        return self.score(states, condition, decode), {}

    def __getstate__(self) -> dict[str, Any]:
        function: Any = self.__dict__.get("function")
        if _is_hidden(function):
            # a decorated function is found by its name no more, which is the reward's now, but
            # behind it: so pickle finds it
            function.__qualname__ += ".function"
        return super().__getstate__()

    def __repr__(self) -> str:
        kind = "differentiable" if self.differentiable else "black box"
        return f"{type(self).__name__}({self.name!r}, {kind})"

    def ask(self, endpoint: Any, condition) -> Any:
        """The function's answer as it comes; it may write into the endpoint.

        It is told the condition, and not what strength a policy has that was tuned for many.
        """
        given = {"condition": copied(without_strength(condition))} if self._takes_condition else {}
        default = torch.get_default_dtype()
        try:
            return self.function(endpoint, **given)
        finally:
            # a library that the function calls may have set it, and ours would go on in it
            if torch.get_default_dtype() != default:
                torch.set_default_dtype(default)

    def _settle_invalid(self, reward: Tensor, endpoint: Any) -> Tensor:
        valid = torch.isfinite(reward)
        if valid.all():
            return reward
        if self.on_invalid == "raise":
            invalid = (~valid).nonzero().flatten().tolist()
            shown = ", ".join(f"{i} ({reward[i].item()})" for i in invalid[:8])
            more = f" and {len(invalid) - 8} more" if len(invalid) > 8 else ""
            raise NotFiniteError(
                f"reward {self.name!r} is not finite for samples {shown}{more} of {len(reward)}"
            )
        if isinstance(endpoint, Tensor) and endpoint.requires_grad:
            # zero times a NaN derivative is NaN, so the invalid samples are cut out of the graph
            rows = valid.view(-1, *[1] * (endpoint.ndim - 1))
            endpoint.register_hook(lambda gradient: torch.where(rows, gradient, 0.0))
        if self.on_invalid == "worst" and valid.any():
            return torch.where(valid, reward, reward[valid].min().detach())
        return torch.where(valid, reward, -torch.inf)


def check_callable(candidate: Any) -> None:
    """Refuse what is no function, with the way to a reward where it is clear what was meant.

    Raises:
        TypeError: If the candidate is not callable, or is a class that was not instantiated.
    """
    if isinstance(candidate, type):
        raise TypeError(
            f"a reward must be an object, got the class {candidate.__name__}: "
            f"say {candidate.__name__}(...)"
        )
    if callable(candidate):
        return
    way = ""
    if isinstance(candidate, Mapping):
        way = ": several rewards are one by af.Sum({name: (reward, weight)})"
    elif isinstance(candidate, str):
        way = f" {candidate!r}: build it, such as af.rewards.Brightness()"
    raise TypeError(f"a reward must be callable, got {type(candidate).__name__}{way}")


def _is_hidden(function: Any) -> bool:
    """Whether a function's name leads to the reward that it was decorated as."""
    found: Any = sys.modules.get(getattr(function, "__module__", None) or "")
    for part in getattr(function, "__qualname__", "<locals>").split("."):
        found = getattr(found, part, None)
    return isinstance(found, Reward) and found.__dict__.get("function") is function


def _takes_condition(function: Callable[..., Any]) -> bool:
    try:
        called = function.forward if isinstance(function, torch.nn.Module) else function
        parameters = inspect.signature(called).parameters.values()
    except (TypeError, ValueError):
        return False
    return any(p.name == "condition" or p.kind is p.VAR_KEYWORD for p in parameters)
