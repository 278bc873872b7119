"""Select channels by group name: ratios, widths or indices."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from numbers import Integral

import numpy as np

from compress.core.errors import CompressError, did_you_mean
from compress.graph import ChannelGraph, ChannelGroup
from compress.graph.cut import Mask
from compress.graph.feasibility import best_of
from compress.graph.width_choices import Counts, WidthChoice
from compress.planning.criteria import Scores

Value = float | int | Sequence[int]


def select_named(
    graph: ChannelGraph, keep: Mapping[str, Value], scores: Scores, align: int, min_width: int
) -> Mask:
    """Return the mask for the named groups; others stay whole unless a tie couples them.

    Raises:
        CompressError: (exit 2) an unknown or protected name, a width or indices that cannot be had, or two
            groups that must agree and do not.
    """
    requested: dict[int, Value] = {}
    for pattern, value in keep.items():
        _check_value(pattern, value)
        for g in _find(graph, pattern):
            requested[g] = value
    mask = np.ones(graph.channels.count, dtype=np.bool_)
    for choice in graph.width_choices:
        values = {g: requested[g] for g in sorted(choice.groups()) if g in requested}
        if values:
            _apply(graph, choice, values, mask, scores, align, min_width)
    return mask


def _check_value(name: object, value: object) -> None:
    if not isinstance(name, str):
        raise CompressError(f"keep names a group by {name!r}, not by a text", code="unknown-group")
    is_indices = isinstance(value, Sequence) and all(isinstance(i, Integral) for i in value)
    if not is_indices and not isinstance(value, (int, float)):
        raise CompressError(
            f"{name}: {value!r} is not a ratio, a width or a list of indices",
            hint="give 0.5, 16 or [0, 2, 5]",
            code="group-width",
        )


def _find(graph: ChannelGraph, pattern: str) -> list[int]:
    exact = [i for i, g in enumerate(graph.groups) if g.name == pattern]
    matches = exact or [i for i, g in enumerate(graph.groups) if fnmatch.fnmatchcase(g.name, pattern)]
    if matches:
        return matches
    for kept in graph.protected:
        if kept.name == pattern:
            raise CompressError(
                f"{pattern} is protected: {kept.why}",
                code="protected-group",
                hint="leave it out; `compress inspect --model ...` lists the groups",
            )
    raise CompressError(
        f"no channel group is called {pattern!r}", code="unknown-group",
        hint=did_you_mean(pattern, [g.name for g in graph.groups])
        or "`compress inspect --model ...` lists the groups",
    )  # fmt: skip


def _apply(
    graph: ChannelGraph,
    choice: WidthChoice,
    values: Mapping[int, Value],
    mask: Mask,
    scores: Scores,
    align: int,
    min_width: int,
) -> None:
    chosen: dict[int, list[int]] = {g: _indices(graph.groups[g], v) for g, v in values.items() if _is_list(v)}
    counts = _counts(graph, choice, values, chosen, align, min_width)
    for (g, c), count in zip(choice.parts, counts, strict=True):
        group = graph.groups[g]
        part = group.parts[c]
        mask[part] = False
        if g in chosen:
            mask[np.intersect1d(group.channels[chosen[g]], part)] = True
        else:
            mask[best_of(scores, part, count)] = True


def _is_list(value: Value) -> bool:
    return isinstance(value, Sequence)


def _indices(group: ChannelGroup, value: Value) -> list[int]:
    assert isinstance(value, Sequence)
    index = sorted({int(i) for i in value})
    if not index or index[0] < 0 or index[-1] >= group.width:
        raise CompressError(
            f"{group.name}: invalid channel indices {list(value)}",
            hint=f"give at least one index from 0 to {group.width - 1}",
            code="group-indices",
        )
    return index


def _counts(
    graph: ChannelGraph,
    choice: WidthChoice,
    values: Mapping[int, Value],
    chosen: Mapping[int, list[int]],
    align: int,
    min_width: int,
) -> Counts:
    if chosen:
        return _counts_of_indices(graph, choice, chosen)
    targets = {}
    for g, value in values.items():
        group = graph.groups[g]
        assert isinstance(value, (int, float))
        exact = isinstance(value, int) and not isinstance(value, bool)
        if not 0 < value <= (group.width if exact else 1):
            raise CompressError(
                f"{group.name}: invalid width {value}",
                hint=f"give 1 to {group.width} channels, or a fraction above 0 and at most 1.0",
                code="group-width",
            )
        targets[g] = value if exact else value * group.width
    levels = choice.levels(
        *((1, 1) if any(isinstance(v, int) for v in values.values()) else (align, min_width))
    )
    widths = [
        {g: sum(n for (h, _), n in zip(choice.parts, level, strict=True) if h == g) for g in targets}
        for level in levels
    ]
    at = min(range(len(levels)), key=lambda i: sum(abs(widths[i][g] - t) for g, t in targets.items()))
    for g, value in values.items():
        if isinstance(value, int) and widths[at][g] != value:
            possible = sorted({w[g] for w in widths})
            raise CompressError(
                f"{graph.groups[g].name}: a width of {value} is not possible",
                code="group-width",
                hint=f"possible widths: {', '.join(map(str, possible[:12]))}",
            )
    return levels[at]


def _counts_of_indices(graph: ChannelGraph, choice: WidthChoice, chosen: Mapping[int, list[int]]) -> Counts:
    """Return how many channels the indices keep in each part, and in the parts tied to them."""
    fixed = {
        i: int(np.isin(graph.groups[g].parts[c], graph.groups[g].channels[chosen[g]]).sum())
        for i, (g, c) in enumerate(choice.parts) if g in chosen
    }  # fmt: skip
    counts = choice.solve(1.0, fixed=fixed)
    if counts is None:
        names = ", ".join(graph.groups[g].name for g in chosen)
        raise CompressError(
            f"{names}: these indices keep different numbers of channels in parts that must keep equally many",
            hint="keep the same number of channels in each part",
            code="group-indices",
        )
    return counts
