"""A runtime's own profile of each node it executes; one file a runtime.

A profiler is a class with the `Profiler` interface, registered under the name of its back end. It says how
long each node took and which nodes of the file it came from, and judges nothing.
"""

from __future__ import annotations

from compress.bench.explain.profilers.registry import (
    Profiled,
    Profiler,
    RuntimeNode,
    Session,
    profiler_for,
    profilers,
    register,
)

__all__ = ["Profiled", "Profiler", "RuntimeNode", "Session", "profiler_for", "profilers", "register"]
