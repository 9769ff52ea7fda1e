"""The report of an evaluation: one HTML file that needs nothing else."""

from .html import write_report

__all__ = ["write_report"]
