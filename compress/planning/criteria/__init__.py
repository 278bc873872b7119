"""Criteria: how channels are ranked before a cut, one file each.

A criterion is an object with `score(graph, seed)`, registered in `CRITERIA` under the name that users give to
``--criterion``. Another package adds one through the entry point group ``compress.criteria``.
"""

from __future__ import annotations

from compress.planning.criteria.base import CRITERIA, Criterion, Scores, get_criterion, list_criteria

__all__ = ["CRITERIA", "Criterion", "Scores", "get_criterion", "list_criteria"]
