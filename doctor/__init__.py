"""Diagnosis of this machine: what works here, and how to fix what does not.

Nothing is changed, and a broken package is reported instead of raised: every package but the standard library
is imported in the probe that reports on it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from compress.core.lazy import lazy_attributes

if TYPE_CHECKING:
    from compress.doctor.examination import examine
    from compress.doctor.record import Check, Machine, Report

_HOMES = {"Check": "record", "Machine": "record", "Report": "record", "examine": "examination"}

__all__ = ["Check", "Machine", "Report", "examine"]

__getattr__ = lazy_attributes(__name__, _HOMES)
