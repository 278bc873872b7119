"""Read a quality gate file: limits for all candidates, and rules for some of them."""

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
    """A measured candidate that a rule may apply to.

    Attributes:
        label: label of the candidate.
        artefact: name of its run or file.
        backend: name of the back end.
        batch: batch size.
    """

    label: str
    artefact: str
    backend: str
    batch: int


class Limits(Record):
    """Limits of a candidate, or None: lower limits have ``min`` in their name, upper limits ``max``.

    Attributes:
        speedup_min, device_speedup_min: speed-up over the baseline, by the clock of the host and the device.
        efficiency_min: speed-up over MAC reduction.
        p50_max_ms, p99_max_ms: time of an inference of the whole batch, by the clock of the host.
        accuracy_drop_max: top-1 of the baseline minus that of the candidate, as a fraction (0.01 is 1 point).
        top1_min: accuracy, 0 to 1.
        size_max_mb: size of the file, 10^6 bytes.
        macs_max, params_max: costs of one image.
        mac_reduction_min: MACs of the baseline over those of the candidate.
        peak_max_mb: memory of the host to load the network and run it once, 10^6 bytes.
        single_stream_p90_max_ms, single_stream_p99_max_ms: latency in the single-stream scenario.
        offline_images_per_s_min: throughput at the best batch size in the offline scenario.
        server_qps_min: largest rate that meets the bound on the p99 in the server scenario.
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

    def set_limits(self) -> dict[str, float]:
        """Return the limits that are set, in the order of the class."""
        values = {name: getattr(self, name) for name in Limits.model_fields}
        return {name: value for name, value in values.items() if value is not None}


class Rule(Limits):
    """Limits of the candidates that match all three conditions; None matches everything.

    Attributes:
        artefact: label of the candidate or name of its run or file; ``*`` and ``?`` are wildcards.
        backend: name of the back end, with the same wildcards.
        batch: batch size.
    """

    artefact: str | None = None
    backend: str | None = None
    batch: Count | None = None

    def applies_to(self, target: Target) -> bool:
        """Return whether the rule applies to a candidate on a back end at a batch size."""
        names = (target.label, target.artefact)
        return (
            (self.artefact is None or any(fnmatchcase(name, self.artefact) for name in names))
            and (self.backend is None or fnmatchcase(target.backend, self.backend))
            and self.batch in (None, target.batch)
        )

    def conditions(self) -> str:
        """Return the conditions of the rule as text."""
        values = {"artefact": self.artefact, "backend": self.backend, "batch": self.batch}
        return ", ".join(f"{key} = {value!r}" for key, value in values.items() if value is not None)


class QualityGate(Limits):
    """A quality gate file: top-level limits apply to everything, those of each ``[[rule]]`` in addition."""

    rule: tuple[Rule, ...] = ()

    def rules(self) -> list[tuple[str, Rule]]:
        """Return all rules with their names: ``all`` for the top level, then ``rule 1`` and so on."""
        top = Rule.model_validate(self.set_limits())
        own = [(f"rule {i}", rule) for i, rule in enumerate(self.rule, 1)]
        return [("all", top), *own] if top.set_limits() else own


def read(path: Path) -> QualityGate:
    """Read a quality gate from a TOML file.

    Raises:
        CompressError: the file is missing (exit MISSING); it is not TOML, has an unknown key or a value out
            of range, or sets no limit (exit USAGE).
    """
    try:
        gate = QualityGate.model_validate(tomllib.loads(path.read_text("utf-8")))
    except OSError as error:
        raise CompressError(
            f"cannot read the quality gate {str(path)!r}: {error.strerror}",
            hint="create a file with limits, such as: speedup_min = 1.5",
            code="missing-file",
            exit=Exit.MISSING,
        ) from error
    except ValidationError as error:
        raise _invalid_entry(path, error) from error
    except ValueError as error:  # invalid TOML or not UTF-8
        raise _bad_gate(
            f"the quality gate {str(path)!r} is not valid TOML: {error}",
            "write lines such as: speedup_min = 1.5",
        ) from error
    empty = next((name for name, rule in gate.rules() if not rule.set_limits()), None)
    if empty is not None or not gate.rules():
        where = f" in {empty}" if empty else ""
        raise _bad_gate(
            f"the quality gate {str(path)!r} sets no limit{where}", f"known limits: {', '.join(_names())}"
        )
    return gate


def require_targets(gate: QualityGate, targets: Sequence[Target]) -> None:
    """Refuse a rule that applies to none of the targets, since it could never fail.

    Raises:
        CompressError: a rule applies to no target (exit USAGE).
    """

    def listed(name: str) -> str:
        return ", ".join(dict.fromkeys(str(getattr(target, name)) for target in targets))

    for title, rule in gate.rules():
        if not any(rule.applies_to(target) for target in targets):
            raise CompressError(
                f"{title} of the quality gate ({rule.conditions()}) applies to nothing that is measured, so "
                "it could never fail",
                hint=f"candidates: {listed('label')}; back ends: {listed('backend')}; batch sizes: "
                f"{listed('batch')}",
                code="gate-speaks-of-nothing",
            )


def _invalid_entry(path: Path, error: ValidationError) -> CompressError:
    """Return an error for the first invalid entry, with its key, place, value and the expected values."""
    first = error.errors()[0]
    place: list[Any] = list(first["loc"])
    where = f" of rule {place[1] + 1}" if len(place) > 2 else ""
    key = str(place[-1])
    if first["type"] == "extra_forbidden":
        known = [*_names(), *(("artefact", "backend", "batch") if where else ("rule",))]
        message = f"the quality gate {str(path)!r} has the unknown key {key!r}{where}"
        hint = f"{did_you_mean(key, known)} Known: {', '.join(known)}".strip()
        if not where and key in Rule.model_fields:
            hint = f"{key} belongs to a rule: put [[rule]] on a line before it"
        return _bad_gate(message, hint)
    value = first["input"]
    return _bad_gate(
        f"invalid value {key} = {value!r}{where} in the quality gate {str(path)!r}", first["msg"]
    )


def _names() -> list[str]:
    return list(Limits.model_fields)


def _bad_gate(message: str, hint: str) -> CompressError:
    return CompressError(message, hint=hint, code="bad-gate")
