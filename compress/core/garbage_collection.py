"""Keep Python's garbage collector away from where it only takes time: imports, tracing, and the exit."""

from __future__ import annotations

import atexit
import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def garbage_collection_paused() -> Iterator[None]:
    """Pause the garbage collector, which takes up to a quarter of the time of imports and of tracing.

    Importing and tracing allocate many objects that live until the end, so there is little garbage to
    collect.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def skip_collection_at_exit() -> None:
    """Leave out the collection when Python exits, which takes up to a second after torch was imported."""
    atexit.register(gc.freeze)


__all__ = ["garbage_collection_paused", "skip_collection_at_exit"]
