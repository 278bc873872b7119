"""`gate.toml`: constraints on every candidate, and rules for single artefacts, back ends and batch sizes."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from compress.core.errors import CompressError, Exit, did_you_mean
from compress.core.spec import Record

Positive = Annotated[float, Field(gt=0, strict=True, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, strict=True)]
Count = Annotated[int, Field(ge=1, strict=True)]


@dataclass(frozen=True)
class Target:
    """What a rule may speak of: a candidate by its label and the name of its run or file, on a back end."""

    label: str
    artefact: str
    backend: str
    batch: int


class Constraints(Record):
    """What a candidate must hold; None asks for nothing. Ends in ``min``: at least; in ``max``: at most.

    Attributes:
        speedup_min, device_speedup_min: over its baseline, by the host's and by the device's clock.
        efficiency_min: speed-up over MAC reduction.
        p50_max_ms, p99_max_ms: time of an inference of the whole batch, by the host's clock.
        accuracy_drop_max: top-1 of the baseline less that of the candidate, as a fraction: 0.01 is a point.
        top1_min: accuracy, 0 to 1.
        size_max_mb: of the file, 10^6 bytes.
        macs_max, params_max: of one image.
        mac_reduction_min: MACs of the baseline over its own.
        peak_max_mb: the host's memory to load it and run it once, 10^6 bytes.
        single_stream_p90_max_ms, single_stream_p99_max_ms: latency of the single stream.
        offline_images_per_s_min: throughput at the best batch size.
        server_qps_min: rate of queries that holds the bound on the p99 it was measured with.
    """

    speedup_min: Positive | None = None
    device_speedup_min: Positive | None = None
    efficiency_min: Positive | None = None
    p50_max_ms: Positive | None = None
    p99_max_ms: Positive | None = None
    accuracy_drop_max: Share | None = None
    top1_min: Share | None = None
    size_max_mb: Positive | None = None
    macs_max: Count | None = None
    params_max: Count | None = None
    mac_reduction_min: Positive | None = None
    peak_max_mb: Positive | None = None
    single_stream_p90_max_ms: Positive | None = None
    single_stream_p99_max_ms: Positive | None = None
    offline_images_per_s_min: Positive | None = None
    server_qps_min: Positive | None = None

    def asked(self) -> dict[str, float]:
        """Return the constraints that are set, in the order of the class."""
        values = {name: getattr(self, name) for name in Constraints.model_fields}
        return {name: value for name, value in values.items() if value is not None}


class Rule(Constraints):
    """Constraints on what all three words fit; None fits everything.

    Attributes:
        artefact: the candidate's label or the name of its run or file; ``*`` and ``?`` stand for any text.
        backend: name, with the same wildcards.
        batch: batch size.
    """

    artefact: str | None = None
    backend: str | None = None
    batch: Count | None = None

    def fits(self, target: Target) -> bool:
        """Whether the rule speaks of this candidate on this back end at this batch size."""
        names = (target.label, target.artefact)
        return (
            (self.artefact is None or any(fnmatchcase(name, self.artefact) for name in names))
            and (self.backend is None or fnmatchcase(target.backend, self.backend))
            and self.batch in (None, target.batch)
        )

    def selection(self) -> str:
        """Say what the rule speaks of."""
        words = {"artefact": self.artefact, "backend": self.backend, "batch": self.batch}
        return ", ".join(f"{key} = {value!r}" for key, value in words.items() if value is not None)


class Gate(Constraints):
    """A whole file: its top-level constraints hold for everything, those of each ``[[rule]]`` beside them."""

    rule: tuple[Rule, ...] = ()

    def rules(self) -> list[tuple[str, Rule]]:
        """Return every rule with its name: ``all`` for the top level, then ``rule 1`` and so on."""
        top = Rule.model_validate(self.asked())
        own = [(f"rule {i}", rule) for i, rule in enumerate(self.rule, 1)]
        return [("all", top), *own] if top.asked() else own


def read(path: Path) -> Gate:
    """Return the gate in a TOML file.

    Raises:
        CompressError: missing (exit MISSING); not TOML, an unknown key, an impossible value, or no constraint
            at all (exit USAGE).
    """
    try:
        gate = Gate.model_validate(tomllib.loads(path.read_text("utf-8")))
    except OSError as error:
        raise CompressError(
            f"cannot read the gate {str(path)!r}: {error.strerror}",
            hint="write one, such as: speedup_min = 1.5",
            code="missing-file",
            exit=Exit.MISSING,
        ) from error
    except ValidationError as error:
        raise _wrong(path, error) from error
    except ValueError as error:  # TOML's own, and what is no UTF-8
        raise _bad(
            f"the gate {str(path)!r} is not TOML: {error}", "lines such as: speedup_min = 1.5"
        ) from error
    empty = next((name for name, rule in gate.rules() if not rule.asked()), None)
    if empty is not None or not gate.rules():
        where = f" in {empty}" if empty else ""
        raise _bad(f"the gate {str(path)!r} asks for nothing{where}", f"known: {', '.join(_known())}")
    return gate


def require_spoken_of(gate: Gate, targets: Sequence[Target]) -> None:
    """Refuse a rule that speaks of none of the targets: it could never fail.

    Raises:
        CompressError: naming the rule, and what there is (exit USAGE).
    """

    def listed(name: str) -> str:
        return ", ".join(dict.fromkeys(str(getattr(target, name)) for target in targets))

    for title, rule in gate.rules():
        if not any(rule.fits(target) for target in targets):
            raise CompressError(
                f"{title} of the gate ({rule.selection()}) speaks of nothing that is measured, so it could "
                "never fail",
                hint=f"candidates: {listed('label')}; back ends: {listed('backend')}; batch sizes: "
                f"{listed('batch')}",
                code="gate-speaks-of-nothing",
            )


def _wrong(path: Path, error: ValidationError) -> CompressError:
    """The first fault, with the key, where it stands, its value and what would be right."""
    fault = error.errors()[0]
    place: list[Any] = list(fault["loc"])
    inside = f" of rule {place[1] + 1}" if len(place) > 2 else ""
    key = str(place[-1])
    if fault["type"] == "extra_forbidden":
        known = [*_known(), *(("artefact", "backend", "batch") if inside else ("rule",))]
        message = f"the gate {str(path)!r} has the unknown key {key!r}{inside}"
        hint = f"{did_you_mean(key, known)} known: {', '.join(known)}".strip()
        if not inside and key in Rule.model_fields:
            hint = f"{key} belongs into a rule: put [[rule]] on a line before it"
        return _bad(message, hint)
    value = fault["input"]
    return _bad(f"{key} = {value!r}{inside} in the gate {str(path)!r} is not possible", fault["msg"])


def _known() -> list[str]:
    return list(Constraints.model_fields)


def _bad(message: str, hint: str) -> CompressError:
    return CompressError(message, hint=hint, code="bad-gate")
