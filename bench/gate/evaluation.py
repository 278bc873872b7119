"""Evaluate a quality gate: compare limits with measured values and their uncertainty.

A limit inside the interval of a value, or closer to it than the noise floor or 2%, is inconclusive. The 2%
are those of the verdicts, see `compress.bench.protocol.stats.SAME_WITHIN`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Literal

from compress.bench import artifacts
from compress.bench.gate.limits import QualityGate, Rule, Target, require_targets
from compress.bench.gate.scenario_limits import SCENARIO_VALUES, WITHIN_2_PERCENT, not_measured
from compress.bench.protocol.stats import SAME_WITHIN
from compress.bench.results.record import BatchRecord, BenchResult, ComparisonRecord
from compress.bench.results.value_range import ValueRange, exact_value, ratio, time_ms
from compress.bench.scenarios.record import ScenarioComparison, ScenarioResult
from compress.core.errors import Exit
from compress.core.machine import Machine
from compress.core.spec import Record


class Outcome(StrEnum):
    """Outcome of a limit or of a quality gate."""

    PASSED = "PASSED"
    FAILED = "FAILED"
    INCONCLUSIVE = "INCONCLUSIVE"


class LimitResult(Record):
    """Result of one limit for one candidate.

    Attributes:
        rule: ``all``, ``rule 1`` and so on.
        backend: name of the back end.
        artefact: label of the candidate.
        batch: batch size; None if the value does not depend on it.
        constraint, limit: name and value of the limit in the file.
        value: measured value in the unit of the limit; None if unknown.
        low, high: possible values: the 95% interval, and at least the noise floor and 2% around the value.
            Both equal the value if it is counted, not measured; both are None if it is unknown. A `high` of
            None with a `low` means no upper bound.
        margin: distance to the limit as a share of the limit (for accuracies: difference of fractions);
            negative if the limit is missed.
        outcome, reason: the outcome and its explanation.
    """

    rule: str
    backend: str
    artefact: str
    batch: int | None
    constraint: str
    limit: float
    value: float | None
    low: float | None
    high: float | None
    margin: float | None
    outcome: Outcome
    reason: str


class GateResult(Record):
    """Result of a quality gate.

    Attributes:
        gate: name of the file.
        measured: time of the measurement.
        machine: the measuring machine.
        outcome: FAILED if any limit failed, else INCONCLUSIVE if any is, else PASSED.
        checks: results of all limits, in the order of the measurement.
    """

    schema_version: int = 1
    kind: Literal["compress-gate"] = "compress-gate"
    gate: str
    measured: str
    machine: Machine
    outcome: Outcome
    checks: tuple[LimitResult, ...]

    @property
    def exit(self) -> Exit:
        """Exit code of the command line."""
        codes = {Outcome.FAILED: Exit.GATE, Outcome.INCONCLUSIVE: Exit.INCONCLUSIVE}
        return codes.get(self.outcome, Exit.OK)

    def __str__(self) -> str:
        """Return the outcome and the limits that did not pass."""
        lines = [f"{self.gate}: {self.outcome}"]
        lines += [
            f"{check.outcome}: {check.constraint} = {check.limit:g}, {check.artefact} on {check.backend}: "
            f"{check.reason}"
            for check in self.checks
            if check.outcome is not Outcome.PASSED
        ]
        return "\n".join(lines)

    def with_outcome(self, outcome: Outcome) -> list[LimitResult]:
        """Return the limits with an outcome."""
        return [check for check in self.checks if check.outcome is outcome]


@dataclass(frozen=True)
class _Candidate:
    """Measurements of one candidate: its paired comparison, its scenarios, or both."""

    paired: ComparisonRecord | None = None
    scenarios: ScenarioComparison | None = None

    @property
    def comparison(self) -> ComparisonRecord | ScenarioComparison:
        """The paired comparison, or else the scenarios."""
        comparison = self.paired or self.scenarios
        assert comparison is not None
        return comparison

    @property
    def targets(self) -> list[tuple[Target, BatchRecord | None]]:
        """Targets of rules, each with its paired measurement."""
        batches = [(entry.batch, entry) for entry in self.paired.batches] if self.paired else [(1, None)]
        candidate = self.comparison.candidate
        return [
            (Target(candidate.label, candidate.artefact, self.comparison.backend, batch), entry)
            for batch, entry in batches
        ]


def evaluate_gate(
    result: BenchResult | ScenarioResult,
    gate: QualityGate,
    name: str = "gate.toml",
    companion: BenchResult | ScenarioResult | None = None,
) -> GateResult:
    """Evaluate all rules of a quality gate for the candidates they apply to.

    Args:
        result: a paired comparison, or scenarios.
        gate: the quality gate.
        name: name of its file.
        companion: the result of the other kind, used for the same files on the same back end, see
            `compress.bench.gate.scenario_limits.find_companion_result`.

    Raises:
        CompressError: a rule applies to nothing in the result, so it could never fail (exit USAGE).
    """
    candidates = _candidates(result, companion)
    require_targets(gate, [target for candidate in candidates for target, _ in candidate.targets])
    checks = [
        check
        for title, rule in gate.rules()
        for candidate in candidates
        for check in _evaluate_rule(title, rule, candidate)
    ]
    outcomes = {check.outcome for check in checks}
    order = (Outcome.FAILED, Outcome.INCONCLUSIVE, Outcome.PASSED)
    return GateResult(
        gate=name,
        measured=result.created,
        machine=result.machine,
        outcome=next(outcome for outcome in order if outcome in outcomes),
        checks=tuple(checks),
    )


def check_rules_apply(
    gate: QualityGate, named: Sequence[str | Path], backend: str, batches: Sequence[int]
) -> None:
    """Check before a measurement that every rule will apply to something.

    Args:
        gate: the quality gate.
        named, backend, batches: as for `compress.bench.bench`.

    Raises:
        CompressError: see `evaluate_gate`; or these artifacts cannot be compared.
    """
    candidates = [pair[1] for pair in artifacts.comparisons(named)]
    require_targets(
        gate,
        [
            Target(candidate.label, candidate.path.resolve().name, name, batch)
            for candidate in candidates
            for name in backend.split(",")
            for batch in batches
        ],
    )


def _candidates(
    result: BenchResult | ScenarioResult, companion: BenchResult | ScenarioResult | None
) -> list[_Candidate]:
    """Return the candidates of a result, with the measurements of the same file in the companion."""
    others = () if companion is None else companion.comparisons
    return [_join(comparison, others) for comparison in result.comparisons]


def _join(
    comparison: ComparisonRecord | ScenarioComparison,
    others: Sequence[ComparisonRecord | ScenarioComparison],
) -> _Candidate:
    def is_same(other: ComparisonRecord | ScenarioComparison) -> bool:
        names = (comparison.backend, comparison.baseline.label, comparison.candidate.label)
        return (
            (other.backend, other.baseline.label, other.candidate.label) == names
            and other.candidate.sha256 == comparison.candidate.sha256 is not None
            and type(other) is not type(comparison)
        )

    both = (comparison, next((other for other in others if is_same(other)), None))
    return _Candidate(
        next((one for one in both if isinstance(one, ComparisonRecord)), None),
        next((one for one in both if isinstance(one, ScenarioComparison)), None),
    )


def _evaluate_rule(title: str, rule: Rule, candidate: _Candidate) -> Iterator[LimitResult]:
    matching = [entry for target, entry in candidate.targets if rule.applies_to(target)]
    if not matching:
        return
    comparison = candidate.comparison
    for constraint, limit in rule.set_limits().items():
        if constraint in COUNTED_VALUES:
            value = COUNTED_VALUES[constraint](comparison)
            yield _evaluate_limit(title, comparison, None, constraint, limit, value)
        elif constraint in SCENARIO_VALUES:
            scenarios = candidate.scenarios
            value = not_measured(constraint) if scenarios is None else SCENARIO_VALUES[constraint](scenarios)
            value = _widen_to_2_percent(value) if constraint in WITHIN_2_PERCENT else value
            yield _evaluate_limit(title, comparison, None, constraint, limit, value)
        else:
            for entry in matching:
                value = NOT_PAIRED if entry is None else _widen_to_2_percent(PAIRED_VALUES[constraint](entry))
                batch = None if entry is None else entry.batch
                yield _evaluate_limit(title, comparison, batch, constraint, limit, value)


def _evaluate_limit(
    title: str,
    comparison: ComparisonRecord | ScenarioComparison,
    batch: int | None,
    constraint: str,
    limit: float,
    measured: ValueRange,
) -> LimitResult:
    is_lower_limit = "_min" in constraint
    outcome, reason = _outcome(measured, limit, is_lower_limit)
    return LimitResult(
        rule=title,
        backend=comparison.backend,
        artefact=comparison.candidate.label,
        batch=batch,
        constraint=constraint,
        limit=limit,
        value=measured.value,
        low=measured.low,
        high=None if measured.high is None or math.isinf(measured.high) else measured.high,
        margin=None if measured.value is None else _margin(constraint, measured.value, limit),
        outcome=outcome,
        reason=reason,
    )


def _outcome(measured: ValueRange, limit: float, is_lower_limit: bool) -> tuple[Outcome, str]:
    low, high = measured.low, measured.high
    if low is None or high is None:
        return Outcome.INCONCLUSIVE, measured.reason
    if (low >= limit) if is_lower_limit else (high <= limit):
        return Outcome.PASSED, measured.reason
    if (high < limit) if is_lower_limit else (low > limit):
        if measured.too_high:
            return Outcome.INCONCLUSIVE, measured.too_high
        return Outcome.FAILED, measured.reason
    return Outcome.INCONCLUSIVE, f"the limit is within the uncertainty ({measured.reason})"


def _margin(constraint: str, value: float, limit: float) -> float:
    distance = value - limit if "_min" in constraint else limit - value
    return distance if constraint in ("accuracy_drop_max", "top1_min") else distance / limit


def _widen_to_2_percent(measured: ValueRange) -> ValueRange:
    """Widen a range to at least 2% around the value."""
    if measured.value is None or measured.low is None or measured.high is None:
        return measured
    reach = math.exp(SAME_WITHIN)
    low, high = min(measured.low, measured.value / reach), max(measured.high, measured.value * reach)
    return replace(measured, low=low, high=high)


# --- values of the paired comparison --------------------------------------------------------------------

NOT_PAIRED = ValueRange(reason="there is no paired comparison of the networks: run `compress bench RUN`")


def _efficiency(entry: BatchRecord) -> ValueRange:
    if entry.mac_reduction is None:
        return ValueRange(reason="the MACs of a network are unknown: measure run folders or their exports")
    return ratio(entry.speedup, entry.floor, 1 / entry.mac_reduction)


def _peak(entry: BatchRecord) -> ValueRange:
    return exact_value(entry.candidate.peak_bytes / 1e6, "one measurement")


PAIRED_VALUES: dict[str, Callable[[BatchRecord], ValueRange]] = {
    "speedup_min": lambda entry: ratio(entry.speedup, entry.floor),
    "device_speedup_min": lambda entry: ratio(entry.device_speedup, entry.floor),
    "efficiency_min": _efficiency,
    "p50_max_ms": lambda entry: time_ms(entry, 50),
    "p99_max_ms": lambda entry: time_ms(entry, 99),
    "peak_max_mb": _peak,
}
"""Functions that return the value of each limit that depends on the batch size."""


# --- counted values -------------------------------------------------------------------------------------


def _accuracy_drop(comparison: ComparisonRecord | ScenarioComparison) -> ValueRange:
    before, after = comparison.baseline.top1, comparison.candidate.top1
    if before is None or after is None:
        unknown = comparison.baseline if before is None else comparison.candidate
        return ValueRange(
            reason=f"the accuracy of {unknown.label!r} is unknown: use top1_min, or compare the export of a "
            "trained dense run with the export of this run"
        )
    images = comparison.baseline.top1_images, comparison.candidate.top1_images
    if images[0] != images[1] or images[0] is None:
        first, second = ("unknown" if count is None else f"{count:,}" for count in images)
        return ValueRange(
            round(before - after, 9),
            reason=f"the accuracies were measured on different images ({first} and {second}): export with "
            "--samples of the whole test set, or measure again",
        )
    return exact_value(round(before - after, 9), f"{before:.2%} to {after:.2%} on {images[0]:,} images")


def _of_candidate(
    name: Literal["top1", "bytes", "macs", "params"], per: float, what: str
) -> Callable[[ComparisonRecord | ScenarioComparison], ValueRange]:
    def value_of(comparison: ComparisonRecord | ScenarioComparison) -> ValueRange:
        value: float | None = getattr(comparison.candidate, name)
        if value is None:
            return ValueRange(reason=f"the {what} of {comparison.candidate.label!r} is unknown")
        return exact_value(value / per, "as recorded" if name == "top1" else "counted")

    return value_of


def _mac_reduction(comparison: ComparisonRecord | ScenarioComparison) -> ValueRange:
    before, after = comparison.baseline.macs, comparison.candidate.macs
    if before is None or not after:
        return ValueRange(reason="the MACs of a network are unknown")
    return exact_value(before / after, "counted")


COUNTED_VALUES: dict[str, Callable[[ComparisonRecord | ScenarioComparison], ValueRange]] = {
    "accuracy_drop_max": _accuracy_drop,
    "top1_min": _of_candidate("top1", 1, "accuracy"),
    "size_max_mb": _of_candidate("bytes", 1e6, "size"),
    "macs_max": _of_candidate("macs", 1, "MACs"),
    "params_max": _of_candidate("params", 1, "parameters"),
    "mac_reduction_min": _mac_reduction,
}
"""Functions that return the value of each limit that does not depend on the batch size."""
