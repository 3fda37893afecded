r"""What a jump and the jump back miss: small for a map that is one-to-one and runs both ways.

.. math:: \tfrac1d \lvert X_{t,s}(X_{s,t}(x)) - x \rvert^2

Source: FALCON (2512.09914), whose weights need invertible jumps.
"""

from torch import Tensor

from alignflow.predictions import Prediction

from .rules import Learner, Rule

__all__ = ["check_invertible", "inverse_error"]


def inverse_error(learner: Learner, x: Tensor, s: Tensor, t: Tensor) -> Tensor:
    """Mean square of what is missed of states (N, *E) at times s (N,), by way of t, (N,)."""

    def jump(x: Tensor, s: Tensor, t: Tensor) -> Tensor:
        return learner.prediction.jump(learner.predict(x, s, t), x, s, t)

    return (jump(jump(x, s, t), t, s) - x).float().square().flatten(1).mean(1)


def check_invertible(rule: Rule | None, prediction: Prediction) -> None:
    """Refuse what learns no jumps, and predictions that have none from data to noise."""
    if rule is None:
        raise ValueError(
            "invertibility is that of jumps, and flow matching learns none: take another loss, "
            "such as psd"
        )
    if not prediction.is_velocity:
        raise ValueError(
            f"invertibility needs jumps from time 1 backwards, which {type(prediction).__name__} "
            "has not: take parametrization='average_velocity'"
        )
