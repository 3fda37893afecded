"""Estimates as tables and as JSON, with what was measured beside what is possible."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from alignflow.tables import print_table

from .decoders import Decoder
from .devices import Device
from .estimate import Estimate
from .measure import Rate

__all__ = ["as_dict", "print_tables"]

Rates = Mapping[tuple[Decoder, int], Rate]

HEAD = ("decoder", "FLOP", "bytes", "FLOP/B", "FLOP/s", "limit", "seconds", "tokens/s")
PREFIXES = {1e15: "P", 1e12: "T", 1e9: "G", 1e6: "M", 1e3: "k", 1.0: "", 1e-3: "m", 1e-6: "u"}


def print_tables(devices: Sequence[Device], estimates: Sequence[Estimate], rates: Rates) -> None:
    """Print a table a device and batch, and one of what was measured."""
    for device in devices:
        ours = [each for each in estimates if each.device is device]
        print(_described(device, ours[0].model.dtype))
        for batch in dict.fromkeys(each.batch for each in ours):
            rows = [_row(each) for each in ours if each.batch == batch]
            print_table(f"batch {batch}", HEAD, rows)
        print()
    if rates:
        head = ("decoder", "batch", "tokens/s", "range", "of what is possible")
        here = [each for each in estimates if each.device is devices[-1]]
        print_table("measured", head, [_measured(each, rates[each.case]) for each in here])
    else:
        print("FLOP/s, seconds and tokens/s are bounds: what is attainable, no overhead counted.")


def as_dict(
    devices: Sequence[Device], estimates: Sequence[Estimate], rates: Rates
) -> dict[str, Any]:
    """All numbers, in FLOP, bytes and seconds."""
    first = estimates[0]
    return {
        "model": asdict(first.model),
        "context": first.context,
        "length": first.length,
        "devices": [asdict(device) for device in devices],
        "estimates": [each.as_dict() for each in estimates],
        "measured": [
            {"decoder": decoder.name, "batch": batch, "tokens_a_second": asdict(rate)}
            for (decoder, batch), rate in rates.items()
        ],
    }


def _described(device: Device, dtype: str) -> str:
    return (
        f"{device.name}: {_short(device.rate(dtype))}FLOP/s in {dtype}, "
        f"{_short(device.bandwidth)}B/s, ridge at {device.ridge(dtype):.3g} FLOP/B\n"
        f"({device.source})"
    )


def _row(estimate: Estimate) -> list[str]:
    work = estimate.work
    return [
        estimate.decoder.name,
        _short(work.flops),
        _short(work.bytes),
        f"{work.intensity:,.3g}" if work.intensity < 1000 else f"{work.intensity:,.0f}",
        _short(estimate.attainable),
        estimate.limit,
        _short(estimate.seconds),
        f"{estimate.tokens_a_second:,.0f}",
    ]


def _measured(estimate: Estimate, rate: Rate) -> list[str]:
    return [
        estimate.decoder.name,
        str(estimate.batch),
        f"{rate.median:,.0f}",
        f"{rate.least:,.0f} - {rate.most:,.0f}",
        f"{rate.median / estimate.tokens_a_second:.0%}",
    ]


def _short(number: float) -> str:
    """A number in three digits, with a prefix of its unit."""
    size = next((size for size in PREFIXES if number >= size), min(PREFIXES))
    return f"{number / size:.3g} {PREFIXES[size]}"
