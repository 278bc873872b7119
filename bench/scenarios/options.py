"""What may be chosen about the scenarios, and what is refused."""

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
"""Fewest queries that decide a rate: those a p99 needs."""

MAX_BATCH_S = 1.0
"""Longest time of one batch in the offline scenario, seconds."""


class Scenario(StrEnum):
    """MLPerf Inference's names."""

    SINGLE_STREAM = "single-stream"
    OFFLINE = "offline"
    SERVER = "server"


class Options(Record):
    """What is measured, and how much of it.

    Attributes:
        scenarios: in the order they are measured, that of `Scenario`.
        pairs: fewest pairs of the single stream, most of a batch size of the offline scenario.
        budget_s: seconds of each scenario of a comparison; None: as long as its counts need.
        qps: server: rates of queries a second, ascending; empty: the largest that holds is searched.
        p99_bound_ms: server: None takes a multiple of the baseline's single-stream median.
        queries: server: of a round; a rate is decided on one to `compress.bench.scenarios.server.MAX_ROUNDS` of them.
        max_server_batch: server: queries answered by one inference, at most.
        max_batch: offline: largest batch size; None: up to memory.
        max_batch_s: offline: no batch size whose inference takes longer, seconds.
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


def options(
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
    """Return the options, checked; None takes the default. See `Options`.

    Args:
        scenarios: names, one string with commas between or several.
        qps: rates, one string with commas between or several.

    Raises:
        CompressError: an unknown scenario, an impossible value, or an option of a scenario that is not
            measured (exit USAGE).
    """
    chosen = _named(scenarios)
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
            raise _bad(
                f"{_flag(unused)} is of the scenario {scenario}, which is not measured",
                f"add it: --scenario {','.join([*chosen, scenario])}",
            )
    found = Options(
        scenarios=chosen,
        pairs=pairs,
        budget_s=budget_s,
        qps=() if qps is None else _rates(qps),
        p99_bound_ms=p99_bound_ms,
        queries=MIN_QUERIES if queries is None else queries,
        max_server_batch=1 if max_server_batch is None else max_server_batch,
        max_batch=max_batch,
        max_batch_s=MAX_BATCH_S if max_batch_s is None else max_batch_s,
    )
    _check(found)
    return found


def asked(scenarios: str | None, batches: Sequence[int], **given: Any) -> Options | None:
    """Return the options of a command line; None where it asks for no scenario.

    Args:
        batches: of the comparison in pairs, which the scenarios do not take.
        given: see `options`.

    Raises:
        CompressError: see `options`; or an option of scenarios without one, or batch sizes (exit USAGE).
    """
    if scenarios is not None:
        if tuple(batches) != (1,):
            raise _bad(
                f"--batch {','.join(map(str, batches))} is not for scenarios",
                "single-stream takes one image; offline goes up to --max-batch, server to --max-server-batch",
            )
        return options(scenarios, **given)
    own = [name for name, value in given.items() if value is not None and name not in ("pairs", "budget_s")]
    if own:
        raise _bad(f"{_flag(own[0])} is of a scenario, and none is given", "such as --scenario server")
    return None


def _flag(name: str) -> str:
    return "--max-batch-seconds" if name == "max_batch_s" else f"--{name.replace('_', '-')}"


def _named(text: str | Sequence[str]) -> tuple[Scenario, ...]:
    names = text.split(",") if isinstance(text, str) else list(text)
    known = [str(scenario) for scenario in Scenario]
    for name in names:
        if name.strip() not in known:
            raise CompressError(
                f"there is no scenario {name.strip()!r}",
                hint=f"{did_you_mean(name, known)} the scenarios are: {', '.join(known)}".strip(),
                code="unknown-scenario",
                details={"scenario": name, "known": known},
            )
    chosen = {name.strip() for name in names}
    return tuple(scenario for scenario in Scenario if scenario in chosen)


def _rates(given: str | Sequence[float]) -> tuple[float, ...]:
    """Rates, ascending, each once."""
    parts = given.split(",") if isinstance(given, str) else [*given]
    rates = set()
    for part in parts:
        try:
            rate = float(part)
        except ValueError:
            rate = math.nan
        if not (math.isfinite(rate) and rate > 0):
            raise _bad(
                f"{str(part).strip()!r} is no rate of queries a second",
                "give --qps numbers above 0, such as 50,100; without it the largest is searched",
            )
        rates.add(rate)
    return tuple(sorted(rates))


def _check(found: Options) -> None:
    bound = found.p99_bound_ms
    if bound is not None and not (math.isfinite(bound) and bound > 0):
        raise _bad(
            f"a bound of {bound:g} ms for the p99 is not possible",
            "give --p99-bound-ms a time above 0, or leave it out",
        )
    if found.queries < MIN_QUERIES:
        raise _bad(
            f"{found.queries} queries are too few: there is no p99 under {MIN_QUERIES:,}",
            f"give --queries from {MIN_QUERIES}",
        )
    if found.max_server_batch < 1:
        raise _bad(f"a server batch of {found.max_server_batch} is not possible", "give it from 1")
    if found.max_batch is not None and found.max_batch < 1:
        raise _bad(f"a largest batch of {found.max_batch} is not possible", "give --max-batch from 1")
    if not (math.isfinite(found.max_batch_s) and found.max_batch_s > 0):
        raise _bad(
            f"{found.max_batch_s:g} seconds for a batch are not possible", "give --max-batch-seconds above 0"
        )
    if found.pairs < paired.MIN_PAIRS:
        raise _bad(f"{found.pairs} pairs are too few to judge on", f"give --pairs from {paired.MIN_PAIRS}")
    if found.budget_s is not None and not (math.isfinite(found.budget_s) and found.budget_s > 0):
        raise _bad(f"a budget of {found.budget_s:g} seconds is not possible", "give --budget more than 0")


def _bad(message: str, hint: str) -> CompressError:
    return CompressError(message, hint=hint, code="bad-option")
