"""Explain layer by layer why a compact network is, or is not, as much faster as its MAC reduction.

Profiles of the dense and the compact network are mapped onto their layers and compared with a roofline
measured on the machine. Every row of the result carries the time it lost and the measured cause.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from compress.core.lazy import lazy_attributes

if TYPE_CHECKING:
    from compress.bench.explain.pipeline import explain
    from compress.bench.explain.record import Cause, Explanation, read
    from compress.bench.explain.render import render_explanation

__all__ = ["Cause", "Explanation", "explain", "read", "render_explanation"]

__getattr__ = lazy_attributes(
    __name__,
    {
        "Cause": "record",
        "Explanation": "record",
        "explain": "pipeline",
        "read": "record",
        "render_explanation": "render",
    },
)
