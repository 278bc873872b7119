"""Methods that make a network compact: one file a method, one interface (`base.Method`), found by name."""

from __future__ import annotations

from compress.methods.base import METHODS, Method, MethodConfig, Setup, list_methods
from compress.methods.baselines.dense import Dense
from compress.methods.baselines.l1 import L1
from compress.methods.baselines.random import Random
from compress.methods.baselines.scratch import Scratch
from compress.methods.dcff.method import DCFF
from compress.methods.gated.abp import ABP
from compress.methods.gated.kdfs import KDFS

__all__ = [
    "ABP",
    "DCFF",
    "KDFS",
    "L1",
    "METHODS",
    "Dense",
    "Method",
    "MethodConfig",
    "Random",
    "Scratch",
    "Setup",
    "list_methods",
]
