"""Slice plans: the indices that stay, for every parameter and buffer that is cut."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from compress.core.errors import CompressError, Exit
from compress.core.spec import SCHEMA_VERSION, Costs

PICK = "compress.pick"
"""Operator of a rewrite: pick the listed positions along a dimension, if they are not a range."""

SHARE = "compress.share"
"""Operator of a rewrite: multiply the node by a number. The mean over the kept channels is larger than the
mean over all channels, of which the dropped ones are zero."""

FOLD = "compress.fold"
"""Operator of a rewrite: store the node's value, as the dense network computes it, in the parameter that it
is computed from, and replace the node by that parameter."""

EVALUATES_ONLY = "compress_evaluates_only"
"""Key of a graph's meta: operators that a trace in eval mode has lost, so that it cannot train."""

Kept = dict[str, dict[int, list[Any]]]


@dataclass(frozen=True)
class SlicePlan:
    """What is kept of a network.

    Attributes:
        kept: parameter or buffer name -> dimension -> indices that stay, in their new order. For the input
            dimension of a grouped convolution: one list of indices for each group.
        masked: the same form: indices a mask sets to zero to make the dense network compute the same.
        widths: group name -> (kept, dense) channels.
        dense, narrow: costs before and after.
        rewrites: node name -> (operator, arguments) that the narrow network needs instead of baked-in
            constants; empty if the model's own code adapts by itself.
        input_shapes: shapes the network was traced with.
        scattered: module path -> (kept channels, width): its narrow output is put back among zeros, so that
            what reads it sees the dense width.
        free_pads: how zero-padded shortcuts were treated (see `compress.trace`).
    """

    kept: Kept
    masked: Kept
    widths: dict[str, tuple[int, int]]
    dense: Costs
    narrow: Costs
    rewrites: dict[str, list[Any]] = field(default_factory=dict)
    input_shapes: tuple[tuple[int, ...], ...] = ()
    free_pads: bool = False
    scattered: dict[str, tuple[list[int], int]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """A JSON object; `from_json` reads it back."""
        return {
            "schema_version": SCHEMA_VERSION,
            "kept": _keys_to_text(self.kept),
            "masked": _keys_to_text(self.masked),
            "widths": {name: list(w) for name, w in self.widths.items()},
            "dense": self.dense.model_dump(),
            "narrow": self.narrow.model_dump(),
            "rewrites": self.rewrites,
            "input_shapes": [list(s) for s in self.input_shapes],
            "free_pads": self.free_pads,
            "scattered": {name: [index, width] for name, (index, width) in self.scattered.items()},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> SlicePlan:
        """Read a plan.

        Raises:
            CompressError: (exit 3) of another version, or not a plan.
        """
        if data.get("schema_version") != SCHEMA_VERSION:
            raise CompressError(
                f"the plan has schema version {data.get('schema_version')!r}, "
                f"this release reads {SCHEMA_VERSION}",
                hint="make the plan again with this release, or install the release that wrote it",
                code="plan-version",
                exit=Exit.MISSING,
            )
        try:
            return cls(
                kept=_keys_to_numbers(data["kept"]),
                masked=_keys_to_numbers(data["masked"]),
                widths={name: (int(w[0]), int(w[1])) for name, w in data["widths"].items()},
                dense=Costs(**data["dense"]),
                narrow=Costs(**data["narrow"]),
                rewrites=dict(data["rewrites"]),
                input_shapes=tuple(tuple(s) for s in data["input_shapes"]),
                free_pads=bool(data["free_pads"]),
                scattered={name: (list(s[0]), int(s[1])) for name, s in data.get("scattered", {}).items()},
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CompressError(
                f"the plan is not readable: {type(error).__name__} {error}",
                hint="the file is damaged; train or slice again",
                code="plan-damaged",
                exit=Exit.MISSING,
            ) from error


def _keys_to_text(kept: Kept) -> dict[str, dict[str, list[Any]]]:
    return {name: {str(d): list(index) for d, index in dims.items()} for name, dims in kept.items()}


def _keys_to_numbers(kept: Mapping[str, Mapping[str, list[Any]]]) -> Kept:
    return {name: {int(d): list(index) for d, index in dims.items()} for name, dims in kept.items()}
