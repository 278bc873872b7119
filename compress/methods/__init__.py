"""Ways to make a network narrow: one file a method, one interface (`base.Method`), found by name.

A new method is one new file with a frozen config and a class under `@register`; nothing else changes.
"""

from __future__ import annotations

from . import dcff, plain  # noqa: F401  (registers the methods)
from .base import Method, MethodConfig, Prepared, get, names, register

__all__ = ["Method", "MethodConfig", "Prepared", "get", "names", "register"]
