"""Peak rates and memory bandwidths of devices, from their vendors' datasheets.

Rates are dense: what a datasheet gives with structured sparsity is halved.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from alignflow import checks

__all__ = ["BYTES", "DEVICES", "Device"]

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "float8": 1}
"""Bytes of a number, by its type."""


@dataclass(frozen=True)
class Device:
    """A device, as the roofline sees it.

    Args:
        name: Of the device.
        peak: FLOP a second of matrix products, by the type of the numbers.
        bandwidth: Bytes a second from and to memory.
        source: Where the numbers come from.
    """

    name: str
    peak: Mapping[str, float]
    bandwidth: float
    source: str

    def __post_init__(self):
        for dtype, rate in self.peak.items():
            checks.choice("dtype", dtype, BYTES)
            checks.positive("peak", rate)
        checks.positive("bandwidth", self.bandwidth)

    def ridge(self, dtype: str) -> float:
        """FLOP a byte from which on the arithmetic is what limits."""
        return self.rate(dtype) / self.bandwidth

    def rate(self, dtype: str) -> float:
        """Peak FLOP a second in a type.

        Raises:
            ValueError: If the device has none in it.
        """
        if dtype not in self.peak:
            raise ValueError(f"{self.name} has rates in {', '.join(self.peak)}, got {dtype}")
        return self.peak[dtype]


def _tera(half: float, float32: float, float8: float | None = None) -> dict[str, float]:
    rates = {"float32": float32, "bfloat16": half, "float16": half}
    if float8 is not None:
        rates["float8"] = float8
    return {dtype: 1e12 * rate for dtype, rate in rates.items()}


DEVICES = {
    "a100": Device(
        "A100 80GB SXM", _tera(312, 19.5), 2.039e12, "NVIDIA A100 Tensor Core GPU datasheet"
    ),
    "h100": Device(
        "H100 SXM", _tera(989.5, 67, 1979), 3.35e12, "NVIDIA H100 Tensor Core GPU datasheet"
    ),
    "h200": Device(
        "H200 SXM", _tera(989.5, 67, 1979), 4.8e12, "NVIDIA H200 Tensor Core GPU datasheet"
    ),
    "b200": Device(
        "B200", _tera(2250, 80, 4500), 8e12, "NVIDIA Blackwell architecture brief, HGX B200"
    ),
    "l4": Device("L4", _tera(121, 30.3, 242.5), 0.3e12, "NVIDIA L4 Tensor Core GPU datasheet"),
    "rtx4090": Device(
        "RTX 4090",
        _tera(165.2, 82.6, 330.3),
        1.008e12,
        "NVIDIA Ada GPU architecture, with float32 accumulation",
    ),
    "mi300x": Device(
        "MI300X", _tera(1307.4, 163.4, 2614.9), 5.3e12, "AMD Instinct MI300X data sheet"
    ),
    "epyc9654": Device(
        "EPYC 9654",
        # 96 cores at 2.4 GHz with two fused products of 8 float32 a cycle
        {"float32": 96 * 2.4e9 * 32, "bfloat16": 96 * 2.4e9 * 64},
        460.8e9,
        "AMD EPYC 9654 data sheet: cores x base clock x width, 12 channels of DDR5-4800",
    ),
}
