r"""Muon: momentum whose matrices are orthogonalized; AdamW for all other parameters.

.. math:: W \leftarrow W - 0.2\, \eta \sqrt{\max(m, n)}\; U V^\top,
    \qquad U S V^\top = \text{momentum}

The factor gives updates the size of AdamW's, so that learning rates of one serve the other. Unlike
`torch.optim.Muon` it takes all parameters of a network at once, computes in bf16 only where that is
fast, and orthogonalizes all matrices of a shape together.

Source: Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks"; Liu et al.
2025 (2502.16982) for the factor.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from alignflow import checks
from alignflow.precision import bf16_is_slow

__all__ = ["Muon", "orthogonalized"]

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic iteration, steepest at 0
ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """Muon for matrices whose sides are all at least `least`, AdamW for other parameters.

    Args:
        parameters: To train.
        lr: Learning rate of both.
        momentum: Of matrices.
        betas: Of AdamW.
        eps: Of AdamW.
        least: Shortest side of a matrix that counts as one; embeddings of few tokens and heads are
            narrower.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        lr: float = 3e-3,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
        least: int = 32,
    ):
        defaults = {
            "lr": checks.positive("lr", lr),
            "momentum": checks.fraction("momentum", momentum, one=False),
            "betas": tuple(checks.fraction("betas", beta, one=False) for beta in betas),
            "eps": checks.positive("eps", eps),
            "least": checks.count("least", least),
        }
        super().__init__(parameters, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One update of all parameters that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            by_shape: dict[Any, list[nn.Parameter]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                if _is_matrix(parameter, group["least"]):
                    by_shape[parameter.shape, parameter.device, parameter.dtype].append(parameter)
                else:
                    self._adamw(parameter, group)
            for parameters in by_shape.values():
                self._muon(parameters, group)
        return loss

    def _muon(self, parameters: list[nn.Parameter], group: dict[str, Any]) -> None:
        """Of matrices of one shape."""
        ahead = []
        for parameter in parameters:
            average, new = self._buffer(parameter, "momentum"), 1 - group["momentum"]
            average.lerp_(_gradient(parameter), new)
            # Nesterov: what the average will be if the gradient stays
            ahead.append(average.lerp(_gradient(parameter), new))
        length = 0.2 * max(ahead[0].shape) ** 0.5
        for parameter, direction in zip(
            parameters, orthogonalized(torch.stack(ahead)), strict=True
        ):
            parameter.add_(direction, alpha=-group["lr"] * length)

    def _adamw(self, parameter: nn.Parameter, group: dict[str, Any]) -> None:
        (first, second), gradient = group["betas"], _gradient(parameter)
        mean, square = self._buffer(parameter, "mean"), self._buffer(parameter, "square")
        mean.lerp_(gradient, 1 - first)
        square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
        step = self._count(parameter)
        root = (square / (1 - second**step)).sqrt_().add_(group["eps"])
        parameter.addcdiv_(mean, root, value=-group["lr"] / (1 - first**step))

    def _buffer(self, parameter: nn.Parameter, name: str) -> Tensor:
        state = self.state[parameter]
        if name not in state:
            state[name] = torch.zeros_like(parameter)
        return state[name]

    def _count(self, parameter: nn.Parameter) -> float:
        state = self.state[parameter]
        # on the CPU, as torch's optimizers have it, so that no GPU is waited for
        state["step"] = state.get("step", torch.zeros(())) + 1
        return state["step"].item()


def orthogonalized(matrices: Tensor) -> Tensor:
    """U V^T of matrices U S V^T, (B, m, n), up to about 30 % in its singular values."""
    fast = matrices.dtype == torch.float32 and not bf16_is_slow(matrices.device)
    found = matrices.bfloat16() if fast else matrices
    wide = found.shape[-2] <= found.shape[-1]
    found = found if wide else found.mT
    found = found / found.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    a, b, c = COEFFICIENTS
    for _ in range(ITERATIONS):
        square = found @ found.mT
        found = a * found + (b * square + c * square @ square) @ found
    return (found if wide else found.mT).to(matrices.dtype)


def _gradient(parameter: nn.Parameter) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


def _is_matrix(parameter: Tensor, least: int) -> bool:
    return parameter.ndim == 2 and min(parameter.shape) >= least
