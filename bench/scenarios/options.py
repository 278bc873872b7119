"""Options of the scenarios and their validation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import StrEnum
from typing import Any

from compress.bench.protocol import paired
from compress.bench.protocol.stats import PERCENTILE_NEEDS
from compress.core.errors import CompressError, did_you_mean
from compress.core.spec import Record

MIN_QUERIES = PERCENTILE_NEEDS[99]
"""Fewest queries of a round: the samples that a p99 needs."""

MAX_BATCH_S = 1.0
"""Default limit on the time of one batch in the offline scenario, seconds."""


class Scenario(StrEnum):
    """Scenarios by their names in MLPerf Inference."""

    SINGLE_STREAM = "single-stream"
    OFFLINE = "offline"
    SERVER = "server"


class Options(Record):
    """Scenarios to measure and how much to measure.

    Attributes:
        scenarios: scenarios in the order of `Scenario`.
        pairs: single stream: minimum number of pairs; offline: maximum number per batch size.
        budget_s: seconds per scenario of a comparison; None: as long as the counts require.
        qps: server: rates in queries per second, ascending; empty: search the largest that meets the bound.
        p99_bound_ms: server: bound on the p99; None: a multiple of the baseline's single-stream median.
        queries: server: queries of a round; a rate takes 1 to `compress.bench.scenarios.rates.MAX_ROUNDS`
            rounds.
        max_server_batch: server: largest number of queries answered by one inference.
        max_batch: offline: largest batch size; None: limited by memory.
        max_batch_s: offline: longest time of one inference, seconds.
    """

    scenarios: tuple[Scenario, ...]
    pairs: int = paired.PAIRS
    budget_s: float | None = None
    qps: tuple[float, ...] = ()
    p99_bound_ms: float | None = None
    queries: int = MIN_QUERIES
    max_server_batch: int = 1
    max_batch: int | None = None
    max_batch_s: float = MAX_BATCH_S


def make_options(
    scenarios: str | Sequence[str],
    *,
    pairs: int = paired.PAIRS,
    budget_s: float | None = None,
    qps: str | Sequence[float] | None = None,
    p99_bound_ms: float | None = None,
    queries: int | None = None,
    max_server_batch: int | None = None,
    max_batch: int | None = None,
    max_batch_s: float | None = None,
) -> Options:
    """Return validated options; None takes the default. See `Options`.

    Args:
        scenarios: names, as one comma-separated string or a sequence.
        qps: rates, as one comma-separated string or a sequence.

    Raises:
        CompressError: an unknown scenario, a value out of range, or an option of a scenario that is not
            measured (exit USAGE).
    """
    chosen = _parse_scenarios(scenarios)
    given: dict[Scenario, dict[str, object]] = {
        Scenario.SERVER: {
            "qps": qps,
            "p99_bound_ms": p99_bound_ms,
            "queries": queries,
            "max_server_batch": max_server_batch,
        },
        Scenario.OFFLINE: {"max_batch": max_batch, "max_batch_s": max_batch_s},
    }
    for scenario, own in given.items():
        unused = next((name for name, value in own.items() if value is not None), None)
        if unused is not None and scenario not in chosen:
            raise _bad_option(
                f"{_flag(unused)} is an option of the scenario {scenario}, which is not measured",
                f"add it: --scenario {','.join([*chosen, scenario])}",
            )
    options = Options(
        scenarios=chosen,
        pairs=pairs,
        budget_s=budget_s,
        qps=() if qps is None else _parse_rates(qps),
        p99_bound_ms=p99_bound_ms,
        queries=MIN_QUERIES if queries is None else queries,
        max_server_batch=1 if max_server_batch is None else max_server_batch,
        max_batch=max_batch,
        max_batch_s=MAX_BATCH_S if max_batch_s is None else max_batch_s,
    )
    _check(options)
    return options


def options_from_flags(scenarios: str | None, batches: Sequence[int], **flags: Any) -> Options | None:
    """Return the options of a command line; None if `scenarios` is None.

    Args:
        scenarios: value of ``--scenario``.
        batches: batch sizes of ``--batch``, which scenarios do not accept.
        flags: see `make_options`.

    Raises:
        CompressError: see `make_options`; or batch sizes with a scenario, or an option of a scenario without
            ``--scenario`` (exit USAGE).
    """
    if scenarios is not None:
        if tuple(batches) != (1,):
            raise _bad_option(
                f"--batch {','.join(map(str, batches))} cannot be combined with --scenario",
                "single-stream uses batch 1; limit offline with --max-batch, server with --max-server-batch",
            )
        return make_options(scenarios, **flags)
    own = [name for name, value in flags.items() if value is not None and name not in ("pairs", "budget_s")]
    if own:
        raise _bad_option(f"{_flag(own[0])} needs a scenario", "add one, such as --scenario server")
    return None


def _flag(name: str) -> str:
    return "--max-batch-seconds" if name == "max_batch_s" else f"--{name.replace('_', '-')}"


def _parse_scenarios(text: str | Sequence[str]) -> tuple[Scenario, ...]:
    names = text.split(",") if isinstance(text, str) else list(text)
    known = [str(scenario) for scenario in Scenario]
    for name in names:
        if name.strip() not in known:
            raise CompressError(
                f"unknown scenario {name.strip()!r}",
                hint=f"{did_you_mean(name, known)} Known: {', '.join(known)}".strip(),
                code="unknown-scenario",
                details={"scenario": name, "known": known},
            )
    chosen = {name.strip() for name in names}
    return tuple(scenario for scenario in Scenario if scenario in chosen)


def _parse_rates(given: str | Sequence[float]) -> tuple[float, ...]:
    """Return the distinct rates in ascending order."""
    parts = given.split(",") if isinstance(given, str) else [*given]
    rates = set()
    for part in parts:
        try:
            rate = float(part)
        except ValueError:
            rate = math.nan
        if not (math.isfinite(rate) and rate > 0):
            raise _bad_option(
                f"{str(part).strip()!r} is not a valid rate in queries per second",
                "give --qps numbers above 0, such as 50,100; without --qps the largest rate is searched",
            )
        rates.add(rate)
    return tuple(sorted(rates))


def _check(options: Options) -> None:
    bound = options.p99_bound_ms
    if bound is not None and not (math.isfinite(bound) and bound > 0):
        raise _bad_option(
            f"the bound on the p99 must be above 0 ms, not {bound:g}",
            "give --p99-bound-ms a time above 0, or leave it out",
        )
    if options.queries < MIN_QUERIES:
        raise _bad_option(
            f"{options.queries} queries are too few: a p99 needs at least {MIN_QUERIES:,}",
            f"give --queries {MIN_QUERIES} or more",
        )
    if options.max_server_batch < 1:
        raise _bad_option(
            f"the largest server batch must be at least 1, not {options.max_server_batch}",
            "give --max-server-batch 1 or more",
        )
    if options.max_batch is not None and options.max_batch < 1:
        raise _bad_option(
            f"the largest batch must be at least 1, not {options.max_batch}", "give --max-batch 1 or more"
        )
    if not (math.isfinite(options.max_batch_s) and options.max_batch_s > 0):
        raise _bad_option(
            f"the time limit of a batch must be above 0 seconds, not {options.max_batch_s:g}",
            "give --max-batch-seconds a number above 0",
        )
    if options.pairs < paired.MIN_PAIRS:
        raise _bad_option(
            f"{options.pairs} pairs are too few for a verdict; the minimum is {paired.MIN_PAIRS}",
            f"give --pairs {paired.MIN_PAIRS} or more",
        )
    if options.budget_s is not None and not (math.isfinite(options.budget_s) and options.budget_s > 0):
        raise _bad_option(
            f"the budget must be above 0 seconds, not {options.budget_s:g}", "give --budget a number above 0"
        )


def _bad_option(message: str, hint: str) -> CompressError:
    return CompressError(message, hint=hint, code="bad-option")
