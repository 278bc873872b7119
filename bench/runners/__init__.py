"""Runners: what loads an exported file on a back end and times its inferences, one file a back end.

A back end is a class with the `Backend` interface, registered by the decorator `register`; it imports its
runtime inside its functions. Nothing here decides how often or in which order to measure.
"""

from __future__ import annotations

from bench.runners.registry import Backend, RunConfig, Runner, backend_named, backends, register

__all__ = ["Backend", "RunConfig", "Runner", "backend_named", "backends", "register"]
