"""The end of a tuning whose reward is being exploited: a held-out one has fallen."""

import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from alignflow import checks
from alignflow.checkpoint import fact, is_saved, load_folder, load_parameters, save_folder

__all__ = ["EarlyStop"]


class EarlyStop:
    """Stops when a held-out reward falls, and saves the model from before.

    Args:
        folder: Where the saved model and the best means are; a resumed run finds them there.
        errors: How many standard errors below its best mean a held-out reward has fallen.
    """

    def __init__(self, folder: str | Path, errors: float):
        self.folder, self.errors = Path(folder), checks.positive("early_stop", errors)
        self.best: dict[str, float] = {}

    def begin(self, base: nn.Module, measure: Callable[[int, Any], dict[str, float]]) -> None:
        """Save the base, unless a resumed run has saved a model already."""
        if not self.best and is_saved(self.folder):
            self.best = fact(load_folder(self.folder)[1], "best", dict, self.folder)
        if not self.best:
            self(base, measure(0, base))

    def __call__(self, model: nn.Module, metrics: dict[str, float]) -> bool:
        """Whether to stop, by what the monitor has measured; if not, the model is saved."""
        found = {name: metrics[name] for name in metrics if f"{name}_error" in metrics}
        for name, value in found.items():
            best, error = self.best.get(name, value), metrics[f"{name}_error"]
            if value < best - self.errors * error:
                warnings.warn(
                    f"stopped: {name} has fallen from {best:.4g} to {value:.4g} (standard error "
                    f"{error:.2g}); the model from before is returned",
                    stacklevel=2,
                )
                return True
        self.best = {name: max(value, self.best.get(name, value)) for name, value in found.items()}
        # a mean that is none, of dropped samples, is as good as not seen
        best = {name: value for name, value in self.best.items() if math.isfinite(value)}
        save_folder(self.folder, dict(model.state_dict()), {"best": best})
        return False

    def restore(self, model: Any) -> Any:
        """The model with the weights that were saved."""
        load_parameters(model, load_folder(self.folder)[0], str(self.folder))
        return model
