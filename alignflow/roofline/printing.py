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

HEAD = (
    "decoder",
    "batch",
    "FLOP",
    "bytes",
    "FLOP/byte",
    "attainable FLOP/s",
    "limited by",
    "least seconds",
    "tokens/s",
)
PREFIXES = {1e15: "P", 1e12: "T", 1e9: "G", 1e6: "M", 1e3: "k", 1.0: "", 1e-3: "m", 1e-6: "u"}


def print_tables(devices: Sequence[Device], estimates: Sequence[Estimate], rates: Rates) -> None:
    """Print a table a device, and one of what was measured."""
    model = estimates[0].model
    for device in devices:
        title = (
            f"{device.name}: {_short(device.rate(model.dtype))}FLOP/s in {model.dtype}, "
            f"{_short(device.bandwidth)}B/s, ridge at {device.ridge(model.dtype):.3g} FLOP/byte "
            f"({device.source})"
        )
        print_table(title, HEAD, [_row(each) for each in estimates if each.device is device])
    if rates:
        rows = [
            _measured(each, rates[each.case]) for each in estimates if each.device is devices[-1]
        ]
        head = ("decoder", "batch", "tokens/s", "range", "of what is possible")
        print_table("measured here", head, rows)


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


def _row(estimate: Estimate) -> list[str]:
    work = estimate.work
    return [
        estimate.decoder.name,
        str(estimate.batch),
        _short(work.flops),
        _short(work.bytes),
        f"{work.intensity:.3g}",
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
