"""How a transfer stands, as JSON and as a sentence: never "failed" without why, nor "waiting" for nothing."""

from __future__ import annotations

from typing import Any, Final

from .model import STUCK, SeriesCount, Standing, Transfer
from .schedule import Hold

_UNITS: Final = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def told(transfer: Transfer, hold: Hold | None, now: float) -> dict[str, Any]:
    """Return everything about a transfer; `hold` is what is in the way at its destination."""
    order = transfer.order
    is_held = transfer.standing is Standing.WAITING and hold is not None and hold.until > now
    why, remedy = (hold.why, hold.remedy) if is_held and hold else (transfer.why, transfer.remedy)
    tries = max(transfer.tries, hold.tries if is_held and hold else 0)
    due = max(transfer.due, hold.until if is_held and hold else 0.0)
    is_over = transfer.standing.is_over
    return {
        "id": transfer.id,
        "kind": order.kind.value,
        "archive": order.archive,
        "destination": order.destination,
        "StudyInstanceUID": order.StudyInstanceUID,
        "SeriesInstanceUID": order.SeriesInstanceUID,
        "SOPInstanceUIDs": list(order.SOPInstanceUIDs),
        "lane": transfer.lane.value,
        "who": transfer.who,
        "reason": transfer.reason,
        "standing": transfer.standing.value,
        "created": transfer.created,
        "started": transfer.started or None,
        "ended": transfer.ended if is_over else None,
        "planned": sum(each.planned for each in transfer.series),
        "done": sum(each.done for each in transfer.series),
        "failed": sum(each.failed for each in transfer.series),
        "bytes": transfer.size,
        "tries": tries,
        "is_stuck": tries >= STUCK and not is_over,
        "next_try": due if transfer.standing is Standing.WAITING and due > now else None,
        "why": why,
        "next": remedy,
        "says": _sentence(transfer, why, tries, due - now),
        "series": [_series(each) for each in transfer.series],
    }


def _series(count: SeriesCount) -> dict[str, Any]:
    return {
        "SeriesInstanceUID": count.SeriesInstanceUID,
        "planned": count.planned,
        "done": count.done,
        "failed": count.failed,
    }


def span(seconds: float) -> str:
    """Return a time to wait as people say it: `40 s`, `5 min`, `2 h`."""
    for length, unit in _UNITS:
        if seconds >= 2 * length or length == 1:
            return f"{max(1, round(seconds / length))} {unit}"
    return ""


def _sentence(transfer: Transfer, why: str, tries: int, wait: float) -> str:
    progress = _progress(transfer)
    match transfer.standing:
        case Standing.RUNNING:
            return progress or "beginning"
        case Standing.DONE:
            return progress or "done"
        case Standing.FAILED:
            return f"failed: {why or progress}"
        case Standing.PAUSED | Standing.CANCELLED:
            return f"{transfer.standing.value} after {progress}" if progress else transfer.standing.value
    if not why:
        return f"waiting for its turn; {progress} so far" if progress else "waiting for its turn"
    stuck = f"stuck, tried {tries} times: " if tries >= STUCK else "waiting: "
    when = f"; next try in {span(wait)}" if wait > 0 else "; it is tried next"
    return f"{stuck}{why.rstrip('.')}{when}"


def _progress(transfer: Transfer) -> str:
    planned = sum(each.planned for each in transfer.series)
    done = sum(each.done for each in transfer.series)
    if not planned:
        return ""
    noun = "instance" if planned == 1 else "instances"
    return f"{done} of {planned} {noun}" if done < planned else f"{done} {noun}"
