"""A judge of decoded samples by their exact properties, such as those of texts and molecules."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from alignflow import checks

__all__ = ["PropertyJudge"]


class PropertyJudge(nn.Module):
    """Whether a sample has each of some properties, any number of which it may have.

    Args:
        properties: By label, callables from N decoded samples to N numbers, such as rewards; a
            sample has the property where the number is above 0.
    """

    exclusive = False

    def __init__(self, properties: Mapping[str, Callable[[Any], Any]]):
        super().__init__()
        if not isinstance(properties, Mapping) or not properties:
            raise ValueError(
                f"properties must be a mapping, {{label: callable}}, got {checks.shown(properties)}"
            )
        for label, call in properties.items():
            checks.called(f"the property {label!r}", call, "(samples) -> numbers")
        self.labels = tuple(map(str, properties))
        self.properties = list(properties.values())

    def features(self, samples: Any) -> Tensor:
        """The numbers (N, A) of N decoded samples, float32."""
        columns = [torch.as_tensor(call(samples)).float().flatten() for call in self.properties]
        return torch.stack(columns, dim=1)

    def forward(self, samples: Any) -> Tensor:
        """1 where a sample has a property and 0 elsewhere, (N, A)."""
        return (self.features(samples) > 0).float()
