"""Potentials telescope to the final reward, and work is the integral of the value."""

import pytest
import torch

from alignflow.resampling import AdaptiveResampling, Potential, Work
from alignflow.tilt import Tilt


def of_strength(strength: float) -> Tilt:
    return Tilt(lambda x: x, strength)


@pytest.mark.parametrize("kind", ["diff", "max", "add"])
def test_potentials_telescope_to_the_final_reward(weighed, generator, kind):
    values = torch.randn(4, 6, generator=generator, dtype=torch.float64)
    node = AdaptiveResampling(of_strength(2.0), 3, Potential(kind), threshold=0.0)
    tensordict = weighed(values[0], node)
    for value in values[1:]:
        tensordict = weighed(value, node, **tensordict.select(*node.carries, strict=False))
    tensordict["reward"] = values[0]
    torch.testing.assert_close(node.finish(tensordict)["log_weight"], 2 * values[0])


def test_work_is_the_integral_of_the_value(weighed):
    """Of a value that is linear in time the trapezoid is exact: int_0^1 (1 + 2t) dt = 2."""
    node = AdaptiveResampling(of_strength(1.0), 2, Work(), threshold=0.0)
    carried: dict = {}
    for t in (0.0, 0.3, 0.7):
        time = torch.full((2,), t, dtype=torch.float64)
        tensordict = weighed(1 + 2 * time, node, time=time, **carried)
        carried = dict(tensordict.select(*node.carries, strict=False).items())
    tensordict["time"] = torch.ones(2, dtype=torch.float64)
    tensordict["reward"] = torch.full((2,), 3.0, dtype=torch.float64)
    torch.testing.assert_close(
        node.finish(tensordict)["log_weight"], torch.full((2,), 2.0).double()
    )
