"""Attributes of a module that are not part of it."""

from typing import Any

from torch import nn

__all__ = ["set_unregistered"]


def set_unregistered(module: nn.Module, **attributes: Any) -> None:
    """Set attributes without registering them: a frozen base, a teacher, a reward.

    What is set so is neither trained nor saved with the module, and follows no `to` or `train` of
    it. The class annotates its type, and it is read as any attribute: `module.teacher`.

    Args:
        module: Already initialized.
        **attributes: By name; modules, tensors or anything else.
    """
    for name in attributes:
        if name in module._modules or name in module._parameters or name in module._buffers:
            raise ValueError(f"{name} is already registered with {type(module).__name__}")
    # past nn.Module.__setattr__, which would register a module or parameter
    vars(module).update(attributes)
