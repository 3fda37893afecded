"""`alignflow roofline`: estimates by its options, and what this machine reaches of them."""

import json
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import asdict

import torch

from alignflow import checks
from alignflow.pictures import check_path

from .decoders import Autoregressive, Decoder, FlowMap, Speculative
from .devices import DEVICES, Device
from .drawing import save_plot
from .estimate import Estimate
from .measure import Rate, measured_device, time_calls
from .model import Transformer
from .printing import as_dict, print_tables

__all__ = ["run"]

Draw = Callable[[Decoder, int], object]
"""A callable (decoder, batch) that draws strings."""
Case = tuple[Decoder, int]

# a language model of seven billion weights
STATED = Transformer()
# as small as the shipped models
MEASURED = Transformer(layers=4, width=128, heads=4, vocabulary=64, dtype="float32")


def run(options: Namespace, networks: Callable[[Transformer, int, torch.device], Draw]) -> None:
    """Print tables or JSON, and perhaps draw a plot.

    Args:
        options: Of the command line; None stands for a default.
        networks: A callable (sizes, length, device) that makes what `--measure` times.

    Raises:
        ValueError: If an option is none of its kind, or does not go with another.
    """
    if options.plot is not None:
        check_path(options.plot)
    model, cases = _model(options), _cases(options)
    devices, rates = _stated_devices(options, model.dtype), {}
    length = checks.count("--length", options.length)
    if options.measure is not None:
        machine = torch.device(options.measure)
        rates = _rates(networks(model, length, machine), cases, length, machine)
        devices = [*devices, measured_device(machine, model.dtype)]
    estimates = [
        Estimate(decoder, model, device, options.context, length, batch)
        for device in devices
        for decoder, batch in cases
    ]
    if options.json:
        print(json.dumps(as_dict(devices, estimates, rates), indent=2))
    else:
        print_tables(devices, estimates, rates)
    if options.plot is not None:
        save_plot(options.plot, estimates)


def _model(options: Namespace) -> Transformer:
    sizes = asdict(STATED if options.measure is None else MEASURED)
    given = {name: getattr(options, name) for name in sizes}
    model = Transformer(**sizes | {name: v for name, v in given.items() if v is not None})
    if options.measure is not None:
        _check_measurable(options, model)
    return model


def _check_measurable(options: Namespace, model: Transformer) -> None:
    if model.kv_heads or model.expansion != 4 or options.context:
        raise ValueError(
            "--measure times networks without a context, with as many heads of keys as of "
            "queries and an expansion of 4: leave out --context, --kv-heads and --expansion"
        )
    if model.dtype == "float8":
        raise ValueError("--measure times networks in float32, bfloat16 or float16, got float8")
    if options.measure == "cuda" and not torch.cuda.is_available():
        raise ValueError("--measure cuda needs a GPU, and torch finds none")


def _cases(options: Namespace) -> list[Case]:
    decoders: list[Decoder] = [Autoregressive()]
    if options.measure is None:
        decoders.append(Speculative(options.block, options.acceptance, options.draft))
        steps, batches = [1, 2, 4, 8], [1, 64]
    else:
        steps, batches = [1, 4], [1, 8, 64]
    decoders += [FlowMap(number) for number in options.steps or steps]
    batches = [checks.count("--batch", batch) for batch in options.batch or batches]
    return [(decoder, batch) for batch in batches for decoder in decoders]


def _stated_devices(options: Namespace, dtype: str) -> list[Device]:
    """Those of the table that are named, and one by its rates."""
    if (options.peak is None) != (options.bandwidth is None):
        raise ValueError("--peak and --bandwidth make a device together: give both")
    alone = options.measure is None and options.peak is None
    names = options.device or (["h100"] if alone else [])
    devices = [DEVICES[checks.choice("--device", name, DEVICES)] for name in names]
    if options.peak is not None:
        peak = 1e12 * checks.positive("--peak", options.peak)
        bandwidth = 1e9 * checks.positive("--bandwidth", options.bandwidth)
        devices.append(Device("a device", {dtype: peak}, bandwidth, "as given"))
    return devices


def _rates(
    draw: Draw, cases: Sequence[Case], length: int, machine: torch.device
) -> dict[Case, Rate]:
    """Tokens a second of each case."""
    calls = {case: lambda case=case: draw(*case) for case in cases}
    seconds = time_calls(calls, machine)
    return {case: Rate.of(case[1] * length, each) for case, each in seconds.items()}
