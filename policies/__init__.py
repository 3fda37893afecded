"""Policies: networks and callables as flow maps."""

from .policy import FlowMapPolicy, load_policy

__all__ = ["FlowMapPolicy", "load_policy"]
