"""Decoders: what people and rewards see of states.

A decoder belongs to a policy and is saved with it: the name of its class, the arguments of its
constructor, and its weights. It is never trained, but a gradient passes through it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from torch import Tensor, nn

from alignflow import checks
from alignflow.coordinates import from_relative

__all__ = [
    "Decoder",
    "Identity",
    "Image",
    "Particles",
    "as_decoder",
    "decoder_class",
    "decoder_name",
    "register_decoder",
]

_CLASSES: dict[str, "type[Decoder]"] = {}

AnyDecoder = TypeVar("AnyDecoder", bound="type[Decoder]")


class Decoder(nn.Module):
    """From states (N, *E) to what they stand for: a tensor of N rows, or a list of N texts.

    Subclasses implement `forward`. One that can go back has `encode`, the inverse.

    Attributes:
        arguments: What the constructor was given, as JSON can hold it.
    """

    arguments: Mapping[str, Any] = {}

    def forward(self, x: Tensor) -> Any:
        """N of what states (N, *E) stand for."""
        raise NotImplementedError

    def check_event_shape(self, event_shape: Sequence[int]) -> None:
        """Refuse states of a shape that it cannot decode; by default it is not known."""

    def check_same(self, other: "Decoder") -> None:
        """Refuse another decoder for which the same states mean something else, where that is
        known: one that data were encoded by, or that a policy was saved with."""


def register_decoder(name: str) -> Callable[[AnyDecoder], AnyDecoder]:
    """Give a class of decoders the name by which a saved policy is loaded with it.

    Args:
        name: Of the class, in `decode="name"` and in a saved policy.

    Raises:
        ValueError: If another class has this name, or it is no class of decoders.
    """
    checks.instance("name", name, str, "a text")

    def register(decoder: AnyDecoder) -> AnyDecoder:
        if not (isinstance(decoder, type) and issubclass(decoder, Decoder)):
            raise ValueError(
                f"a decoder must be a subclass of Decoder, got {checks.shown(decoder)}"
            )
        # the same class again is one whose module was loaded again
        if _place(_CLASSES.setdefault(name, decoder)) != _place(decoder):
            raise ValueError(f"the decoder {name!r} is {_place(_CLASSES[name])} already")
        _CLASSES[name] = decoder
        return decoder

    return register


def _place(decoder: type) -> str:
    return f"{decoder.__module__}.{decoder.__qualname__}"


@register_decoder("identity")
class Identity(Decoder):
    """States as they are."""

    def forward(self, x: Tensor) -> Tensor:
        return x


@register_decoder("image")
class Image(Decoder):
    """States in [-1, 1] as pixels in [0, 1], of any size; what lies outside is clamped."""

    def forward(self, x: Tensor) -> Tensor:
        return ((x + 1) / 2).clamp(0, 1)

    def encode(self, images: Tensor) -> Tensor:
        """States of images in [0, 1]."""
        return 2 * images - 1


@register_decoder("particles")
class Particles(Decoder):
    """Relative coordinates (N, n-1, D) as clusters (N, n, D) of mean 0."""

    def forward(self, x: Tensor) -> Tensor:
        return from_relative(x)


def as_decoder(decode: Any) -> Decoder:
    """A decoder as it is, or a new one of a registered class that needs no arguments.

    Raises:
        ValueError: If it is neither.
    """
    if isinstance(decode, Decoder):
        return decode
    if isinstance(decode, str):
        decoder = _CLASSES[checks.choice("decode", decode, _CLASSES)]
        try:
            return decoder()
        except TypeError as error:
            raise ValueError(
                f"decode={decode!r} needs arguments: give a {decoder.__name__}(...) ({error})"
            ) from error
    raise ValueError(
        f"decode must be one of {', '.join(_CLASSES)}, or an instance of a Decoder, "
        f"got {checks.shown(decode)}"
    )


def decoder_class(name: Any) -> "type[Decoder] | None":
    """The class that is registered by a name; None if there is none."""
    return _CLASSES.get(name) if isinstance(name, str) else None


def decoder_name(decoder: Decoder) -> str | None:
    """The name that a decoder's class is registered by; None if it is not."""
    return next((name for name, known in _CLASSES.items() if known is type(decoder)), None)
