"""Runners: what loads a network on a back end, times its inferences and evaluates it; one file a runtime.

A back end is a class with the `Backend` interface, registered by the decorator `register`; it imports its
runtime inside its functions. Nothing here decides how often or in which order to measure.
"""

from __future__ import annotations

from compress.bench.backends.registry import (
    FOLDER,
    Backend,
    Network,
    RunConfig,
    Runner,
    Timed,
    backend_named,
    backends,
    check_reads,
    fitted,
    kind_of,
    register,
    usable,
)

__all__ = [
    "FOLDER",
    "Backend",
    "Network",
    "RunConfig",
    "Runner",
    "Timed",
    "backend_named",
    "backends",
    "check_reads",
    "fitted",
    "kind_of",
    "register",
    "usable",
]
