"""What the scenarios found, in sentences that claim no more than the intervals."""

from __future__ import annotations

from compress.bench.scenarios.record import Offline, Server, ServerSide, SingleStream
from compress.bench.scenarios.search import WITHIN


def ms(value: float) -> str:
    """A time in milliseconds, three or four digits."""
    return f"{value:.3f}" if value < 10 else f"{value:,.1f}"


def rate(value: float) -> str:
    """Queries a second."""
    return f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def speed(found: SingleStream) -> str:
    """The speed-up of the single stream."""
    ratio = found.speedup
    return (
        f"{found.candidate.label} over {found.baseline.label}: {ratio.ratio:.2f}x as fast "
        f"(95%: {ratio.low:.2f} to {ratio.high:.2f}, {ratio.pairs} pairs)."
    )


def best(found: Offline) -> str:
    """The best batch size of each network."""
    one, other = found.best
    high = "any" if found.best_high is None else f"{found.best_high:.2f}"
    return (
        f"{one.label} {one.images_per_s:,.0f} images/s at batch {one.batch:,}, {other.label} "
        f"{other.images_per_s:,.0f} at batch {other.batch:,}: {found.best_ratio:.2f}x "
        f"({found.best_low:.2f} to {high}, by the ends of both intervals)."
    )


def largest(side: ServerSide) -> str:
    """The rates between which the largest one lies."""
    holds = "no rate was seen to hold" if side.holds_qps is None else f"{rate(side.holds_qps)} queries/s hold"
    fails = "none was seen to fail" if side.fails_qps is None else f"{rate(side.fails_qps)} do not"
    return f"{holds}, {fails}"


def ratio_of_rates(found: Server) -> str:
    """How much larger the candidate's largest rate is."""
    names = f"Largest rate of {found.candidate.label} over that of {found.baseline.label}"
    if found.ratio is None:
        return f"{names}: not known."
    low = "any" if found.ratio_low is None else f"{found.ratio_low:.2f}"
    high = "any" if found.ratio_high is None else f"{found.ratio_high:.2f}"
    return f"{names}: {found.ratio:.2f}x ({low} to {high}, by the rates that hold and fail)."


def change_of_speed(found: Server) -> str | None:
    """How far the machine's speed changed while the rates were tried; None where that is nothing to tell."""
    known = [(side.label, *side.capacities) for side in (found.baseline, found.candidate) if side.capacities]
    if all(high <= WITHIN * low for _, low, high in known):
        return None
    said = " and ".join(f"{label} {rate(low)} to {rate(high)}" for label, low, high in known)
    return (
        f"The machine's speed changed meanwhile: back to back it would have answered {said} queries/s. The "
        "ratio is that at one speed, but stalls that lengthen a p99 remain in it: measure again on a steady "
        "machine."
    )
