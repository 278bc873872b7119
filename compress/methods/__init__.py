"""Ways to make a network narrow: one file a method, one interface (`base.Method`), found by name.

A new method is one new file with a frozen config and a class under `@register`; nothing else changes.
"""

from __future__ import annotations

from . import abp, dcff, kdfs, plain, ranked  # noqa: F401  (registers the methods)
from .base import Method, MethodConfig, Prepared, Setup, get, names, register

__all__ = ["Method", "MethodConfig", "Prepared", "Setup", "get", "names", "register"]
