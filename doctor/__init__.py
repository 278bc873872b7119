"""What works on this machine, and the command that mends what does not.

What may enter: looking, in a few seconds, never changing anything. Here a broken package is a finding, so
everything but the standard library and `compress.core.errors` is imported inside the probe that reports on it.
"""

from __future__ import annotations

from compress.doctor.examination import examine
from compress.doctor.record import Check, Machine, Report

__all__ = ["Check", "Machine", "Report", "examine"]
