"""What `torch.nn.Module` lacks: attributes that are not part of it, and its first parameter."""

from typing import Any

from torch import nn

__all__ = ["first_parameter", "set_unregistered"]


def set_unregistered(module: nn.Module, /, **attributes: Any) -> None:
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


def first_parameter(module: nn.Module) -> nn.Parameter | None:
    """What `next(module.parameters())` gives, in a tenth of the time; None if there is none."""
    for parameter in module._parameters.values():
        if parameter is not None:
            return parameter
    for child in module._modules.values():
        if child is not None and (parameter := first_parameter(child)) is not None:
            return parameter
    return None
