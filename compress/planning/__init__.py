"""Planning: what to keep of each channel group for a ratio, a width or a cost target.

`make_plan` chooses (`selection` for ratios and targets, `named_groups` for groups given by name) by the
scores of a criterion (`criteria/`); `fit_mask` moves a learned mask to a budget.
"""

from __future__ import annotations

from compress.planning.criteria import CRITERIA, Criterion, list_criteria
from compress.planning.make_plan import make_plan
from compress.planning.selection import TOLERANCE, narrowest_mask

__all__ = ["CRITERIA", "TOLERANCE", "Criterion", "list_criteria", "make_plan", "narrowest_mask"]
