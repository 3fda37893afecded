"""The report of a run: one HTML page that stands alone, opens from disk and fetches nothing."""

from .page import build_report
from .value import ReportError

__all__ = ["ReportError", "build_report"]
