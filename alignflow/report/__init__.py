"""Reports of a run and of a sweep: one HTML page that stands alone and fetches nothing."""

from .page import build_report
from .sweep import build_sweep_report, is_sweep
from .value import ReportError

__all__ = ["ReportError", "build_report", "build_sweep_report", "is_sweep"]
