"""Reports of a run and of a sweep: one HTML page that stands alone and fetches nothing."""

from alignflow.results import ReportError

from .page import build_report
from .sweep import build_sweep_report, is_sweep

__all__ = ["ReportError", "build_report", "build_sweep_report", "is_sweep"]
