r"""Muon: momentum whose matrices are orthogonalized; AdamW for all other parameters.

.. math:: W \leftarrow W - 0.2\, \eta \sqrt{\max(m, n)}\; U V^\top,
    \qquad U S V^\top = \text{momentum}

The factor gives updates the size of AdamW's, so that learning rates of one serve the other. Unlike
`torch.optim.Muon` it takes all parameters of a network at once, computes in float32 where bf16 is
emulated, and orthogonalizes all matrices of a shape together.

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
            with_gradient = [p for p in group["params"] if p.grad is not None]
            matrices = [p for p in with_gradient if _is_matrix(p, group["least"])]
            chosen = set(map(id, matrices))
            others = [p for p in with_gradient if id(p) not in chosen]
            self._step_of_matrices(matrices, group)
            self._step_of_others(others, group)
        return loss

    def _step_of_matrices(self, matrices: list[Tensor], group: dict[str, Any]) -> None:
        by_shape: dict[Any, list[Tensor]] = defaultdict(list)
        for parameter in matrices:
            by_shape[parameter.shape, parameter.device, parameter.dtype].append(parameter)
        for (shape, *_), parameters in by_shape.items():
            gradients = [p.grad for p in parameters]
            averages = [self._buffer(p, "momentum") for p in parameters]
            torch._foreach_lerp_(averages, gradients, 1 - group["momentum"])
            # Nesterov: what the average will be if the gradient stays
            ahead = torch._foreach_lerp(averages, gradients, 1 - group["momentum"])
            directions = orthogonalized(torch.stack(ahead)).unbind()
            length = 0.2 * max(shape) ** 0.5
            torch._foreach_add_(parameters, directions, alpha=-group["lr"] * length)

    def _step_of_others(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        if not parameters:
            return
        (first, second), gradients = group["betas"], [p.grad for p in parameters]
        means = [self._buffer(p, "mean") for p in parameters]
        squares = [self._buffer(p, "square") for p in parameters]
        steps = [self._count(p) for p in parameters]
        torch._foreach_lerp_(means, gradients, 1 - first)
        torch._foreach_mul_(squares, second)
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - second)
        roots = torch._foreach_sqrt(squares)
        torch._foreach_div_(roots, [(1 - second**step) ** 0.5 for step in steps])
        torch._foreach_add_(roots, group["eps"])
        sizes = [-group["lr"] / (1 - first**step) for step in steps]
        torch._foreach_addcdiv_(parameters, means, roots, sizes)

    def _buffer(self, parameter: Tensor, name: str) -> Tensor:
        state = self.state[parameter]
        if name not in state:
            state[name] = torch.zeros_like(parameter)
        return state[name]

    def _count(self, parameter: Tensor) -> float:
        state = self.state[parameter]
        # on the CPU, as torch's optimizers have it, so that no GPU is waited for
        state["step"] = state.get("step", torch.zeros(())) + 1
        return state["step"].item()


def orthogonalized(matrices: Tensor) -> Tensor:
    """U V^T of matrices U S V^T, (B, m, n), up to about 30 % in its singular values."""
    dtype = matrices.dtype if bf16_is_slow(matrices.device) else torch.bfloat16
    found = matrices.to(dtype)
    wide = found.shape[-2] <= found.shape[-1]
    found = found if wide else found.mT
    found = found / found.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    a, b, c = COEFFICIENTS
    for _ in range(ITERATIONS):
        square = found @ found.mT
        found = a * found + (b * square + c * square @ square) @ found
    return (found if wide else found.mT).to(matrices.dtype)


def _is_matrix(parameter: Tensor, least: int) -> bool:
    return parameter.ndim == 2 and min(parameter.shape) >= least
