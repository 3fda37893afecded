"""The roofline of decoding: what token by token, speculation and flow maps cost on a device."""

from .decoders import Autoregressive, Decoder, FlowMap, Speculative
from .devices import DEVICES, Device
from .estimate import Estimate
from .model import Transformer
from .work import Work, attainable, least_seconds

__all__ = [
    "DEVICES",
    "Autoregressive",
    "Decoder",
    "Device",
    "Estimate",
    "FlowMap",
    "Speculative",
    "Transformer",
    "Work",
    "attainable",
    "least_seconds",
]
