"""Introspective X Training from Python: `from ixt import Run` (docs/python.md)."""

from ixt.cluster import RunError
from ixt.run import LaneModel, Report, Run

__all__ = ["LaneModel", "Report", "Run", "RunError"]
