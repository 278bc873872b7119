"""Back ends: load a network, time its inferences, profile its nodes and measure its memory.

To add a back end, write a module with a subclass of `Backend` and register it:

    from compress.bench.backends import BACKENDS, Backend

    @BACKENDS.register("my-runtime")
    class MyRuntime(Backend):
        ...

Modules in this folder are discovered automatically; another package names its class or module in the entry
point group ``compress.backends``. The attributes of the class are the only description of a back end: the
help of ``compress bench``, `list_backends`, ``compress doctor`` and the checks of the options are made from
them.

Reading order: `base` (the interfaces), `registry` (look-up), then one file per runtime. `inputs` and `cuda`
contain what several runtimes share. How often and in which order networks are measured is decided in
`compress.bench.protocol`.
"""

from __future__ import annotations

from compress.bench.backends.base import (
    FOLDER,
    OPTIONS,
    RTX_ENGINE,
    Backend,
    Network,
    Profiled,
    Profiler,
    ProfileSession,
    RunAlone,
    RunConfig,
    Runner,
    RuntimeNode,
    Timed,
    file_kind,
    supported_config,
)
from compress.bench.backends.registry import (
    BACKENDS,
    all_backends,
    check_reads,
    get_backend,
    get_profiler,
    list_backends,
    require_backend,
)

__all__ = [
    "BACKENDS",
    "FOLDER",
    "OPTIONS",
    "RTX_ENGINE",
    "Backend",
    "Network",
    "ProfileSession",
    "Profiled",
    "Profiler",
    "RunAlone",
    "RunConfig",
    "Runner",
    "RuntimeNode",
    "Timed",
    "all_backends",
    "check_reads",
    "file_kind",
    "get_backend",
    "get_profiler",
    "list_backends",
    "require_backend",
    "supported_config",
]
