"""The tuning methods by name."""

from typing import Literal, cast

from alignflow import checks
from alignflow.settings import Option, options

from .path_weights.log_variance import LogVariance
from .path_weights.proximal import Proximal
from .policy_gradient.grpo import GRPO
from .policy_gradient.rloo import RLOO
from .pools.mfm import MFM
from .pools.nft import NFT
from .pools.reinforce import AWM, RAM
from .pools.tilt_matching import ETM, ITM, TiltMatching
from .pools.weighted import Weighted
from .rollouts.adjoint_matching import AdjointMatching
from .rollouts.direct import Direct
from .tuner import Method

__all__ = ["METHODS", "MethodName", "method_options", "methods", "name_of"]

METHODS: dict[str, type[Method]] = {
    "direct": Direct,
    "weighted": Weighted,
    "etm": ETM,
    "itm": ITM,
    "tilt": TiltMatching,
    "mfm": MFM,
    "adjoint_matching": AdjointMatching,
    "grpo": GRPO,
    "rloo": RLOO,
    "log_variance": LogVariance,
    "proximal": Proximal,
    "nft": NFT,
    "ram": RAM,
    "awm": AWM,
}

# what METHODS holds, for type checkers and editors
MethodName = Literal[
    "direct", "weighted", "etm", "itm", "tilt", "mfm", "adjoint_matching", "grpo", "rloo",
    "log_variance", "proximal", "nft", "ram", "awm",
]  # fmt: skip


def methods() -> dict[MethodName, str]:
    """Name to one line of every method."""
    lines = {name: (kind.__doc__ or "").splitlines()[0] for name, kind in METHODS.items()}
    return cast(dict[MethodName, str], lines)


def method_options(method: MethodName | type[Method]) -> dict[str, Option]:
    """Options of a method, by name: `(type, default, meaning)`.

    Raises:
        ValueError: If there is no such method.
    """
    if isinstance(method, type) and issubclass(method, Method):
        return options(method)
    return options(METHODS[checks.choice("method", method, METHODS)])


def name_of(method: Method) -> str:
    """The name of a method; that of its class where it has none here."""
    kind = type(method)
    return next((name for name, known in METHODS.items() if known is kind), kind.__name__)
