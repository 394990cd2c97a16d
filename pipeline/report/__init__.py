"""The report of a run: one HTML page that needs nothing but a browser."""

from pipeline.report.make import make_report, remake_report

__all__ = ["make_report", "remake_report"]
