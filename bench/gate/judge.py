"""Judging a result: a limit inside an interval, or nearer than the noise floor or 2%, is never passed.

The 2% are those of the verdicts (`compress.bench.protocol.stats.SAME_WITHIN`): a smaller effect is no verdict either.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Literal

from compress.bench import artifacts
from compress.bench.gate.rules import Gate, Rule, Target, require_spoken_of
from compress.bench.gate.scenarios import SCENARIOS, WITHIN_2_PERCENT, unmeasured
from compress.bench.protocol.stats import SAME_WITHIN
from compress.bench.results.record import BatchRecord, BenchResult, ComparisonRecord
from compress.bench.results.value_range import Possible, exactly, ratio, time_ms
from compress.bench.scenarios.record import ScenarioComparison, ScenarioResult
from compress.core.errors import Exit
from compress.core.machine import Machine
from compress.core.spec import Record


class Outcome(StrEnum):
    """What becomes of a constraint."""

    PASSED = "PASSED"
    FAILED = "FAILED"
    INCONCLUSIVE = "INCONCLUSIVE"


class Check(Record):
    """One constraint on one candidate.

    Attributes:
        rule: ``all`` or ``rule 1`` and so on. artefact: label of the candidate.
        batch: None for what does not depend on it.
        constraint, limit: as the file has them.
        value: what was found, in the unit of the limit; None where it is not known.
        low, high: what the measurement leaves possible: the 95% interval, and at least the noise floor and
            2% around the value. Equal to the value for what is counted; None where nothing is known; a `high`
            of None beside a `low`: no upper end.
        margin: room to the limit as a share of it, of an accuracy in points of 1; negative is a miss.
        reason: why it is so, for people.
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
    """Everything a gate found, in the order of the result.

    Attributes:
        measured: when the result was made. outcome: FAILED before INCONCLUSIVE before PASSED.
    """

    schema_version: int = 1
    kind: Literal["compress-gate"] = "compress-gate"
    gate: str
    measured: str
    machine: Machine
    outcome: Outcome
    checks: tuple[Check, ...]

    @property
    def exit(self) -> Exit:
        """The exit code of the command line."""
        codes = {Outcome.FAILED: Exit.GATE, Outcome.INCONCLUSIVE: Exit.INCONCLUSIVE}
        return codes.get(self.outcome, Exit.OK)

    def having(self, outcome: Outcome) -> list[Check]:
        """Return the checks with this outcome."""
        return [check for check in self.checks if check.outcome is outcome]


@dataclass(frozen=True)
class _Known:
    """What is known of one candidate: its comparison in pairs, its scenarios, or both."""

    paired: ComparisonRecord | None = None
    served: ScenarioComparison | None = None

    @property
    def of(self) -> ComparisonRecord | ScenarioComparison:
        """The one that there is."""
        found = self.paired or self.served
        assert found is not None
        return found

    @property
    def targets(self) -> list[tuple[Target, BatchRecord | None]]:
        """What rules may speak of, with what was measured in pairs."""
        batches = [(entry.batch, entry) for entry in self.paired.batches] if self.paired else [(1, None)]
        candidate = self.of.candidate
        return [
            (Target(candidate.label, candidate.artefact, self.of.backend, batch), entry)
            for batch, entry in batches
        ]


def judge(
    result: BenchResult | ScenarioResult,
    gate: Gate,
    name: str = "gate.toml",
    beside: BenchResult | ScenarioResult | None = None,
) -> GateResult:
    """Judge every candidate of a result by every rule that speaks of it.

    Args:
        result: a comparison in pairs, or scenarios.
        gate: the gate. name: how it is called.
        beside: the other of the two, which counts for the same files on the same back end, see
            `compress.bench.gate.scenarios.beside`.

    Raises:
        CompressError: a rule speaks of nothing in the result: it would never fail (exit USAGE).
    """
    every = _known(result, beside)
    require_spoken_of(gate, [target for known in every for target, _ in known.targets])
    checks = [
        check for title, rule in gate.rules() for known in every for check in _by_rule(title, rule, known)
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


def foresee(gate: Gate, named: Sequence[str | Path], backend: str, batches: Sequence[int]) -> None:
    """Refuse a gate before anything is measured where `judge` would refuse it afterwards.

    Args:
        gate: the gate.
        named, backend, batches: as for `bench.bench`.

    Raises:
        CompressError: see `judge`, or these artefacts cannot be compared.
    """
    candidates = [two[1] for two in artifacts.comparisons(named)]
    require_spoken_of(
        gate,
        [
            Target(candidate.label, candidate.path.resolve().name, name, batch)
            for candidate in candidates
            for name in backend.split(",")
            for batch in batches
        ],
    )


def _known(result: BenchResult | ScenarioResult, beside: BenchResult | ScenarioResult | None) -> list[_Known]:
    """The candidates of a result, each with what the other result says of the same file."""
    others = () if beside is None else beside.comparisons
    return [_joined(found, others) for found in result.comparisons]


def _joined(
    found: ComparisonRecord | ScenarioComparison, others: Sequence[ComparisonRecord | ScenarioComparison]
) -> _Known:
    def same(other: ComparisonRecord | ScenarioComparison) -> bool:
        names = (found.backend, found.baseline.label, found.candidate.label)
        return (
            (other.backend, other.baseline.label, other.candidate.label) == names
            and other.candidate.sha256 == found.candidate.sha256 is not None
            and type(other) is not type(found)
        )

    both = (found, next((other for other in others if same(other)), None))
    return _Known(
        next((one for one in both if isinstance(one, ComparisonRecord)), None),
        next((one for one in both if isinstance(one, ScenarioComparison)), None),
    )


def _by_rule(title: str, rule: Rule, known: _Known) -> Iterator[Check]:
    fitting = [entry for target, entry in known.targets if rule.fits(target)]
    if not fitting:
        return
    for constraint, limit in rule.asked().items():
        if constraint in COUNTED:
            yield _check(title, known.of, None, constraint, limit, COUNTED[constraint](known.of))
        elif constraint in SCENARIOS:
            served = known.served
            found = unmeasured(constraint) if served is None else SCENARIOS[constraint](served)
            wide = _at_least_same_within(found) if constraint in WITHIN_2_PERCENT else found
            yield _check(title, known.of, None, constraint, limit, wide)
        else:
            for entry in fitting:
                measured = NOT_PAIRED if entry is None else _at_least_same_within(MEASURED[constraint](entry))
                batch = None if entry is None else entry.batch
                yield _check(title, known.of, batch, constraint, limit, measured)


def _check(
    title: str,
    of: ComparisonRecord | ScenarioComparison,
    batch: int | None,
    constraint: str,
    limit: float,
    found: Possible,
) -> Check:
    at_least = "_min" in constraint
    outcome, reason = _outcome(found, limit, at_least)
    return Check(
        rule=title,
        backend=of.backend,
        artefact=of.candidate.label,
        batch=batch,
        constraint=constraint,
        limit=limit,
        value=found.value,
        low=found.low,
        high=None if found.high is None or math.isinf(found.high) else found.high,
        margin=None if found.value is None else _margin(constraint, found.value, limit),
        outcome=outcome,
        reason=reason,
    )


def _outcome(found: Possible, limit: float, at_least: bool) -> tuple[Outcome, str]:
    if found.low is None or found.high is None:
        return Outcome.INCONCLUSIVE, found.reason
    if (found.low >= limit) if at_least else (found.high <= limit):
        return Outcome.PASSED, found.reason
    if (found.high < limit) if at_least else (found.low > limit):
        return (Outcome.INCONCLUSIVE, found.too_high) if found.too_high else (Outcome.FAILED, found.reason)
    return Outcome.INCONCLUSIVE, f"the limit is too near ({found.reason})"


def _margin(constraint: str, value: float, limit: float) -> float:
    room = value - limit if "_min" in constraint else limit - value
    return room if constraint in ("accuracy_drop_max", "top1_min") else room / limit


def _at_least_same_within(found: Possible) -> Possible:
    """Widen a range to the 2% below which no effect is one."""
    if found.value is None or found.low is None or found.high is None:
        return found
    reach = math.exp(SAME_WITHIN)
    low, high = min(found.low, found.value / reach), max(found.high, found.value * reach)
    return replace(found, low=low, high=high)


# --- what was measured ----------------------------------------------------------------------------------

NOT_PAIRED = Possible(
    reason="the networks were not compared in pairs: compress bench RUN, without --scenario"
)


def _efficiency(entry: BatchRecord) -> Possible:
    if entry.mac_reduction is None:
        return Possible(
            reason="the MACs of one of the two are not known: measure run folders or their exports"
        )
    return ratio(entry.speedup, entry.floor, 1 / entry.mac_reduction)


def _peak(entry: BatchRecord) -> Possible:
    return exactly(entry.candidate.peak_bytes / 1e6, "one measurement")


MEASURED: dict[str, Callable[[BatchRecord], Possible]] = {
    "speedup_min": lambda entry: ratio(entry.speedup, entry.floor),
    "device_speedup_min": lambda entry: ratio(entry.device_speedup, entry.floor),
    "efficiency_min": _efficiency,
    "p50_max_ms": lambda entry: time_ms(entry, 50),
    "p99_max_ms": lambda entry: time_ms(entry, 99),
    "peak_max_mb": _peak,
}
"""How each constraint is found that depends on the batch size."""


# --- what was counted -----------------------------------------------------------------------------------


def _drop(found: ComparisonRecord | ScenarioComparison) -> Possible:
    before, after = found.baseline.top1, found.candidate.top1
    if before is None or after is None:
        unknown = found.baseline if before is None else found.candidate
        return Possible(
            reason=f"the accuracy of {unknown.label!r} is not known: use top1_min, or compare the export "
            "of a trained dense run with that of this one"
        )
    images = found.baseline.top1_images, found.candidate.top1_images
    if images[0] != images[1] or images[0] is None:
        one, other = ("unknown" if count is None else f"{count:,}" for count in images)
        return Possible(
            round(before - after, 9),
            reason=f"the accuracies are of different images ({one} and {other}): export with --samples of "
            "the whole test set, or measure again",
        )
    return exactly(round(before - after, 9), f"{before:.2%} to {after:.2%} on {images[0]:,} images")


def _of_candidate(
    name: Literal["top1", "bytes", "macs", "params"], per: float, what: str
) -> Callable[[ComparisonRecord | ScenarioComparison], Possible]:
    def found(of: ComparisonRecord | ScenarioComparison) -> Possible:
        value: float | None = getattr(of.candidate, name)
        if value is None:
            return Possible(reason=f"the {what} of {of.candidate.label!r} is not known")
        return exactly(value / per, "as recorded" if name == "top1" else "counted")

    return found


def _reduction(of: ComparisonRecord | ScenarioComparison) -> Possible:
    before, after = of.baseline.macs, of.candidate.macs
    if before is None or not after:
        return Possible(reason="the MACs of one of the two are not known")
    return exactly(before / after, "counted")


COUNTED: dict[str, Callable[[ComparisonRecord | ScenarioComparison], Possible]] = {
    "accuracy_drop_max": _drop,
    "top1_min": _of_candidate("top1", 1, "accuracy"),
    "size_max_mb": _of_candidate("bytes", 1e6, "size"),
    "macs_max": _of_candidate("macs", 1, "MACs"),
    "params_max": _of_candidate("params", 1, "parameters"),
    "mac_reduction_min": _reduction,
}
"""How each constraint is found that does not."""
