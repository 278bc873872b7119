"""Ways to make a network narrow: one file a method, one interface (`base.Method`), found by name.

A new method is one new file with a frozen config and a class under `@register`; nothing else changes.
"""

from __future__ import annotations

from compress.methods.base import Method, MethodConfig, Prepared, Setup, get, names, register
from compress.methods.baselines import ranked, unpruned  # noqa: F401  (registers the methods)
from compress.methods.dcff import method  # noqa: F401
from compress.methods.gated import abp, kdfs  # noqa: F401

__all__ = ["Method", "MethodConfig", "Prepared", "Setup", "get", "names", "register"]
