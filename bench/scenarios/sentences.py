"""Results of the scenarios as sentences that claim no more than the intervals show."""

from __future__ import annotations

from compress.bench.scenarios.rate_search import WITHIN
from compress.bench.scenarios.record import Offline, Server, ServerSide, SingleStream


def format_rate(qps: float) -> str:
    """Format a rate of queries: ``87.5``, ``1,250``."""
    return f"{qps:,.1f}" if qps < 100 else f"{qps:,.0f}"


def speedup_sentence(result: SingleStream) -> str:
    """Return the speed-up of the single stream."""
    ratio = result.speedup
    return (
        f"{result.candidate.label} is {ratio.ratio:.2f}x as fast as {result.baseline.label} "
        f"(95%: {ratio.low:.2f} to {ratio.high:.2f}, {ratio.pairs} pairs)."
    )


def best_batch_sentence(result: Offline) -> str:
    """Return the best batch size of each network."""
    baseline, candidate = result.best
    high = "unbounded" if result.best_high is None else f"{result.best_high:.2f}"
    return (
        f"{baseline.label} {baseline.images_per_s:,.0f} images/s at batch {baseline.batch:,}, "
        f"{candidate.label} {candidate.images_per_s:,.0f} at batch {candidate.batch:,}: "
        f"{result.best_ratio:.2f}x ({result.best_low:.2f} to {high}, from the ends of both intervals)."
    )


def rate_bracket(side: ServerSide) -> str:
    """Return the rates that bracket the largest rate within the bound."""
    if side.holds_qps is None:
        holds = "no rate met the bound"
    else:
        holds = f"{format_rate(side.holds_qps)} queries/s meet the bound"
    fails = "none exceeded it" if side.fails_qps is None else f"{format_rate(side.fails_qps)} exceed it"
    return f"{holds}, {fails}"


def rate_ratio_sentence(result: Server) -> str:
    """Return the ratio of the largest rates of both networks."""
    names = f"Largest rate of {result.candidate.label} over that of {result.baseline.label}"
    if result.ratio is None:
        return f"{names}: unknown."
    low = "unbounded" if result.ratio_low is None else f"{result.ratio_low:.2f}"
    high = "unbounded" if result.ratio_high is None else f"{result.ratio_high:.2f}"
    return f"{names}: {result.ratio:.2f}x ({low} to {high}, from the rates that meet and exceed the bound)."


def speed_change_warning(result: Server) -> str | None:
    """Return a warning if the speed of the machine changed while rates were measured; else None."""
    ranges = [
        (side.label, *side.capacities) for side in (result.baseline, result.candidate) if side.capacities
    ]
    if all(high <= WITHIN * low for _, low, high in ranges):
        return None
    text = " and ".join(f"{label} {format_rate(low)} to {format_rate(high)}" for label, low, high in ranges)
    return (
        f"The speed of the machine changed during the measurement: the capacity was {text} queries/s. The "
        "ratio is corrected to one speed, but stalls that raise a p99 are not: measure again on a machine "
        "with constant speed."
    )
