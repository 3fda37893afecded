"""A second device with real numbers, on a machine that has none.

Its tensors hold theirs in CPU memory and refuse what a GPU refuses: to be mixed with tensors of the
CPU (but for numbers of no dimension), and random numbers from a generator of another device. Where
the host would wait for a number of the device, the line of the library that asks is noted.

It is registered for the whole process, so whoever uses it has a process of their own. With
ALIGNFLOW_DEVICE=cuda the device is a real GPU, which refuses by itself, and no waits are noted.
"""

import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

import alignflow

NAME = "second"
LIBRARY = Path(alignflow.__file__).parent.parent
MOVES = ("aten::_to_copy", "aten::copy_")


def _register() -> torch.device:
    """Make the device known to torch."""
    module = SimpleNamespace(
        is_available=lambda: True,
        device_count=lambda: 1,
        current_device=lambda: 0,
        synchronize=lambda device=None: None,
        _is_in_bad_fork=lambda: False,
        manual_seed_all=lambda seed: None,
        get_amp_supported_dtype=lambda: [torch.bfloat16, torch.float16],
        get_rng_state=lambda device=None: torch.get_rng_state(),
        set_rng_state=lambda state, device=None: torch.set_rng_state(state),
    )
    _setup_privateuseone_for_python_backend(NAME, backend_module=module)
    return torch.device(NAME, 0)


REAL = os.environ.get("ALIGNFLOW_DEVICE") == "cuda"
DEVICE = torch.device("cuda", 0) if REAL else _register()


class SecondTensor(Tensor):
    """A tensor of the device, around one of the CPU."""

    stored: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner: Tensor):
        made = Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=DEVICE,
        )
        made.stored = inner
        return made

    def __repr__(self) -> str:  # pyright: ignore[reportIncompatibleMethodOverride]
        return f"SecondTensor({self.stored})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {}, [])


class SecondGenerator(torch.Generator):
    """A generator of the device."""

    @property
    def device(self) -> torch.device:  # pyright: ignore[reportIncompatibleVariableOverride]
        return DEVICE


class _Dispatch(TorchDispatchMode):
    def __init__(self, waits: list[str]):
        super().__init__()
        self.waits = waits

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {}, self.waits)


class _Functions(TorchFunctionMode):
    def __init__(self, waits: list[str]):
        super().__init__()
        self.waits = waits

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        generator = kwargs.get("generator")
        if func in (Tensor.tolist, Tensor.numpy) and isinstance(args[0], SecondTensor):
            if func is Tensor.numpy:
                raise TypeError(f"no numpy array of a tensor on {DEVICE}, at {_line()}")
            self.waits.append(_line())
            return args[0].stored.tolist()
        if func is torch.tensor and kwargs.get("device") is not None:
            return func(*args, **{**kwargs, "device": None}).to(kwargs["device"])
        result = func(*args, **kwargs)
        if generator is not None and isinstance(result, Tensor):
            if generator.device.type != result.device.type:
                raise RuntimeError(
                    f"{func.__name__} of {result.device} by a generator of {generator.device}, "
                    f"at {_line()}"
                )
        return result


@contextmanager
def second_device() -> Iterator[list[str]]:
    """Inside, tensors of the device work; the list gets the lines that wait for its numbers."""
    waits: list[str] = []
    if REAL:
        yield waits
        return
    with _Functions(waits), _Dispatch(waits):
        yield waits


def _run(func: Any, args: tuple, kwargs: dict[str, Any], waits: list[str]) -> Any:
    name = func._schema.name
    tensors = [a for a in tree_flatten((args, kwargs))[0] if isinstance(a, Tensor)]
    ours = [tensor for tensor in tensors if isinstance(tensor, SecondTensor)]
    device = kwargs.get("device")
    here = bool(ours) if device is None else torch.device(device).type == NAME
    moves = name in MOVES
    if ours and not moves:
        for tensor in tensors:
            if not isinstance(tensor, SecondTensor) and tensor.ndim:
                raise RuntimeError(f"{name} mixes {DEVICE} and {tensor.device}, at {_line()}")
    from_here = bool(ours) and isinstance(args[-1] if name == MOVES[1] else args[0], SecondTensor)
    if name == "aten::_local_scalar_dense" and ours or moves and from_here and not here:
        waits.append(_line())
    if device is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    out = func(*tree_map(_inner, args), **tree_map(_inner, kwargs))
    if name == "aten::_efficientzerotensor":  # a tensor without numbers, which no other mode knows
        out = torch.zeros(args[0], dtype=kwargs["dtype"])
    if func._schema.is_mutable and tensors and out is _inner(tensors[0]):
        return tensors[0]
    return tree_map(_outer, out) if here else out


def _inner(value: Any) -> Any:
    return value.stored if isinstance(value, SecondTensor) else value


def _outer(value: Any) -> Any:
    is_plain = isinstance(value, Tensor) and not isinstance(value, SecondTensor)
    return SecondTensor(value) if is_plain else value


def _line() -> str:
    """The line of the library that is running."""
    here = Path(__file__)
    for frame in reversed(traceback.extract_stack()):
        path = Path(frame.filename)
        if (
            path.is_relative_to(LIBRARY)
            and ".venv" not in path.parts
            and path.parent != here.parent
        ):
            return f"{path.relative_to(LIBRARY)}:{frame.lineno}: {frame.line}"
    return "a test"
