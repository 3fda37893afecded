"""What a comparison of samples with the exact tilt holds."""

import msgspec

from .estimate import Estimate, Finite

__all__ = ["Comparison", "TiltCheck"]


class Comparison(msgspec.Struct, frozen=True):
    """A mean over the samples, under the exact tilt, and over the base, with `z`, the gap of the
    first two in combined standard errors."""

    samples: Estimate
    tilt: Estimate
    base: Estimate
    z: Finite


class TiltCheck(msgspec.Struct, frozen=True):
    """Whether samples are of the tilt, as far as samples of the base can tell."""

    strength: Finite
    numbers: dict[str, Comparison]
    """Of `reward`, and of other rewards and judges by name."""
    reached: bool | None = None
    """None where it cannot be told."""
    verdict: str = ""
    """The same in a sentence, with the numbers that it rests on."""
    mmd: Estimate | None = None
    """Squared MMD to the tilt; None where a condition has too few samples."""
    base_ess: Estimate | None = None
    """Of the base's samples at full strength; None where the tilt is known without samples."""
    progress: Estimate | None = None
    """Fraction of the way from the base's mean reward to the tilt's; None where these agree."""
    particle_ess: Estimate | None = None
    """Of a system's particles by their final weights, the mean over systems."""
