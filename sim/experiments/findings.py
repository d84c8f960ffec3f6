"""What figures say in words: of throughput with more workers and larger studies, of query time with size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from .outcome import Outcome, figure

_GROWS: Final = 1.1
_FALLS: Final = 0.9
"""Ratios nearer to 1 are called neither growth nor fall: runs differ by as much."""
_FLAT: Final = 1.5
"""A thousand times the series may cost so many times the time, and are said to cost nothing."""
_SIZE: Final = " series, median of the questions, ms"

Outcomes = Sequence[Outcome]


def said(outcomes: Outcomes) -> list[str]:
    """Return sentences about one experiment of several targets; none where it has no such claim.

    What a target did not come to is left out.
    """
    if not outcomes:
        return []
    maker = _MAKERS.get(outcomes[0].experiment)
    return [sentence for sentence in maker(outcomes) if sentence] if maker else []


def _of_workers(outcomes: Outcomes) -> list[str]:
    ratios = {each.target: each.summary[_WORKERS] for each in outcomes if _WORKERS in each.summary}
    if not ratios:
        return []
    told = _listed([f"{target} {figure(ratio)}" for target, ratio in ratios.items()])
    return [
        f"Throughput with 8 workers to that with 1: {told}.",
        _which("It grows with the workers", ratios, lambda ratio: ratio >= _GROWS),
    ]


_WORKERS: Final = "8 workers to 1"


def _of_sizes(outcomes: Outcomes) -> list[str]:
    ending = " threads, largest to smallest"
    lowest, parts = {}, []
    for each in outcomes:
        ratios = {row.removesuffix(ending): v for row, v in each.summary.items() if row.endswith(ending)}
        if ratios:
            lowest[each.target] = min(ratios.values())
            told = _listed([figure(ratio) for ratio in ratios.values()])
            parts.append(f"{each.target} {told} with {_listed([*ratios])} threads")
    if not parts:
        return []
    return [
        f"Throughput of the largest studies to that of the smallest: {'; '.join(parts)}.",
        _which("It falls with the size", lowest, lambda ratio: ratio < _FALLS),
    ]


def _of_archives(outcomes: Outcomes) -> list[str]:
    ratios, parts = {}, []
    for each in outcomes:
        times = {row.removesuffix(_SIZE): v for row, v in each.summary.items() if row.endswith(_SIZE)}
        if len(times) > 1:
            (least, first), *_, (most, last) = times.items()
            ratios[each.target] = last / first
            parts.append(
                f"{each.target} {figure(last / first)} from {_spaced(least)} to {_spaced(most)} series"
            )
    if not parts:
        return []
    return [
        f"Query time of the largest archive to that of the smallest: {'; '.join(parts)}.",
        _which(f"It stays flat, at most {_FLAT:g} times as long,", ratios, lambda ratio: ratio <= _FLAT),
    ]


def _which(claim: str, ratios: dict[str, float], is_so: Callable[[float], bool]) -> str:
    """Say at which targets a claim holds and at which it does not."""
    so = [target for target, ratio in ratios.items() if is_so(ratio)]
    others = [target for target in ratios if target not in so]
    if not so:
        return f"{claim} at none of them." if len(others) > 1 else f"{claim} not at {others[0]}."
    return f"{claim} at {_listed(so)}" + (f", and not at {_listed(others)}." if others else ".")


def _spaced(count: str) -> str:
    return f"{int(count):,}".replace(",", " ")


def _listed(words: Sequence[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last


_MAKERS: Final[dict[str, Callable[[Outcomes], list[str]]]] = {
    "fig10": _of_workers,
    "table4": _of_sizes,
    "curve": _of_archives,
}
