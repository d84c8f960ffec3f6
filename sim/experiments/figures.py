"""Figures 6 to 10 and Table 4 of the cloud PACS paper, drawn from what was measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median
from typing import Final

from ..drawing import Drawing, Plot, colour, shade
from ..traffic.records import Burst
from .outcome import Outcome

Outcomes = Sequence[Outcome]
_DAY: Final = 86_400.0
_FEW: Final = 20
"""So many devices of Figure 7 have room for their names."""
_MODALITIES: Final = ("CT", "DX", "CR", "MR", "MG", "XA", "US", "PT")


def draw(outcomes: Outcomes) -> dict[str, str]:
    """Return name of picture → SVG, for all outcomes that have something to show."""
    found: dict[str, str] = {}
    for experiment, (needs, makers) in _FIGURES.items():
        of_it = [each for each in outcomes if each.experiment == experiment and each.samples.get(needs)]
        for name, make in makers.items():
            if name in ("figure6", "figure7"):
                for each in of_it:
                    found[f"{name}-{each.target}" if len(of_it) > 1 else name] = make([each])
            elif of_it:
                found[name] = make(of_it)
    return found


def _bursts(outcome: Outcome) -> list[tuple[float, str, str, float]]:
    bursts = [Burst(*row) for row in outcome.samples["bursts"]]
    return [(each.time, each.device, each.modality, float(each.size)) for each in bursts]


def _kinds(outcome: Outcome) -> list[str]:
    there = {kind for _, _, kind, _ in _bursts(outcome)}
    return [kind for kind in _MODALITIES if kind in there]


def _of_device(kind: int, device: str) -> str:
    """A colour for each modality, a shade of it for each of its devices."""
    return shade(kind, int("".join(filter(str.isdigit, device)) or 0))


def figure6(outcomes: Outcomes) -> str:
    """Each series as a bar in its time; the height is its size."""
    [outcome] = outcomes
    bursts, kinds = _bursts(outcome), _kinds(outcome)
    drawing = Drawing(900, 360, f"Figure 6 of this run: every series by time and size ({outcome.target})")
    sizes = [size for *_, size in bursts]
    days = max(time for time, *_ in bursts) / _DAY
    low, high = min(sizes) / 2, max(sizes) * 1.2
    plot = Plot(drawing, (70, 40, 810, 310), (0, days), (low, high), ("day", "bytes"), is_log_y=True)
    plot.mark_x()
    for time, device, kind, size in bursts:
        says = f"{device}, day {time / _DAY + 1:.2f}, {size / 1e6:.2f} MB"
        plot.bar(time / _DAY, 0.7, plot.y.low, size, _of_device(kinds.index(kind), device), says)
    plot.legend(kinds)
    return drawing.svg()


def figure7(outcomes: Outcomes) -> str:
    """Each device as a bar of segments, one for each series, in the colours of Figure 6."""
    [outcome] = outcomes
    bursts, kinds = _bursts(outcome), _kinds(outcome)
    totals: dict[str, float] = {}
    for _, device, _, size in bursts:
        totals[device] = totals.get(device, 0.0) + size
    order = sorted(totals, key=lambda device: -totals[device])
    are_named = len(order) <= _FEW
    step = 14 if are_named else 7
    height = 90 + step * len(order)
    drawing = Drawing(900, height, f"Figure 7 of this run: volume of each device ({outcome.target})")
    plot = Plot(
        drawing, (90, 40, 810, height - 45), (0, max(totals.values())), (0, len(order)),
        ("bytes", "" if are_named else "device"), has_y_ticks=not are_named,
    )  # fmt: skip
    for place, device in enumerate(order if are_named else ()):
        drawing.text(85, 40 + step * place + 10, device[:12], anchor="end")
    plot.mark_x()
    reached = dict.fromkeys(order, 0.0)
    for place, (_, device, kind, size) in enumerate(bursts):
        start = reached[device]
        reached[device] += size
        top = 40 + step * order.index(device)
        x, width = plot.x(start), plot.x(start + size) - plot.x(start)
        drawing.rect(
            x,
            top,
            max(0.0, width - 0.15),
            step - 1.5,
            _of_device(kinds.index(kind), device),
            device if place < 2000 else "",
        )
    plot.legend(kinds)
    return drawing.svg()


def figure8(outcomes: Outcomes) -> str:
    """The time of each query by the day that it asks for, and the mean of each day."""
    drawing = Drawing(760, 340, "Figure 8 of this run: all series of a day at 8 am")
    times = [[[float(t) for t in day] for day in each.samples["days"]] for each in outcomes]
    every = [t for of_target in times for day in of_target for t in day]
    if not every:
        return drawing.svg()
    plot = Plot(drawing, (70, 40, 620, 285), (0.5, 7.5), (0, 1.1 * max(every)), ("day", "seconds"))
    plot.mark_x([(day, str(day)) for day in range(1, 8)])
    for number, of_target in enumerate(times):
        shift = 0.12 * (number - (len(times) - 1) / 2)
        for day, measured in enumerate(of_target, start=1):
            for t in measured:
                drawing.dot(plot.x(day + shift), plot.y(t), colour(number))
        means = [(day + shift, sum(m) / len(m)) for day, m in enumerate(of_target, start=1) if m]
        plot.line(means, colour(number))
    plot.legend([each.target for each in outcomes])
    return drawing.svg()


def figure9(outcomes: Outcomes) -> str:
    """Left the sizes of the instances, right the retrieval times of both passes, shortest first."""
    drawing = Drawing(980, 360, "Figure 9 of this run: retrieving single instances")
    sizes = [float(size) / 1000 for size in outcomes[0].samples["sizes"]]
    counts = _histogram(sizes, 24)
    left = Plot(
        drawing,
        (60, 40, 380, 300),
        (0, max(sizes)),
        (0, max(counts) * 1.1),
        ("size of an instance, kB", "instances"),
    )
    left.mark_x()
    step = max(sizes) / len(counts)
    for number, many in enumerate(counts):
        left.bar((number + 0.5) * step, 320 / len(counts) - 1, 0, many, colour(0))
    passes = [
        (f"{each.target}, pass {n}", sorted(1000 * float(t) for t in measured), shade(number, n - 1))
        for number, each in enumerate(outcomes)
        for n, measured in enumerate(each.samples["passes"], start=1)
        if measured
    ]
    every = [t for _, measured, _ in passes for t in measured] or [1.0]
    right = Plot(
        drawing, (460, 40, 800, 300), (0, 100), (min(every), max(every)),
        ("% of the instances", "milliseconds or less"), is_log_y=True,
    )  # fmt: skip
    right.mark_x()
    for _, measured, of_pass in passes:
        points = [(100 * (n + 1) / len(measured), t) for n, t in enumerate(measured)]
        right.line(points[:: max(1, len(points) // 200)], of_pass)
    right.legend([name for name, *_ in passes], [of_pass for *_, of_pass in passes])
    return drawing.svg()


def _histogram(values: Sequence[float], parts: int) -> list[int]:
    counts = [0] * parts
    for value in values:
        counts[min(parts - 1, int(parts * value / (max(values) or 1)))] += 1
    return counts


def figure10(outcomes: Outcomes) -> str:
    """Boxes of the times of the workers, by their number; as many studies are retrieved in each run."""
    drawing = Drawing(860, 360, "Figure 10 of this run: parallel workers retrieving 80 studies")
    all_workers = [
        {int(w): [float(t) for t in m] for w, m in each.samples["workers"].items()} for each in outcomes
    ]
    numbers = sorted({workers for each in all_workers for workers in each})
    every = [t for each in all_workers for measured in each.values() for t in measured]
    plot = Plot(
        drawing, (70, 40, 700, 305), (-0.5, len(numbers) - 0.5), (0, 1.1 * max(every)),
        ("parallel workers", "seconds of a worker"),
    )  # fmt: skip
    plot.mark_x([(place, str(workers)) for place, workers in enumerate(numbers)])
    for number, each in enumerate(all_workers):
        for workers, measured in each.items():
            shift = 24 * (number - (len(all_workers) - 1) / 2)
            plot.box_plot(numbers.index(workers), shift, measured, colour(number))
    plot.legend([each.target for each in outcomes])
    return drawing.svg()


def table4(outcomes: Outcomes) -> str:
    """Throughput by size of study, a line for each number of threads."""
    drawing = Drawing(860, 360, "Table 4 of this run: throughput by size of the studies")
    lines = [
        (f"{each.target}, {threads} threads", [(float(s), float(r)) for s, r in points], shade(number, place))
        for number, each in enumerate(outcomes)
        for place, (threads, points) in enumerate(each.samples["threads"].items())
        if points
    ]
    sizes = sorted({size for _, points, _ in lines for size, _ in points}) or [1.0]
    top = max((rate for _, points, _ in lines for _, rate in points), default=1.0)
    plot = Plot(
        drawing, (70, 40, 640, 305), (sizes[0], max(sizes[-1], sizes[0] * 2)), (0, 1.1 * top),
        ("size of a study, MB", "Mbps"), is_log_x=True,
    )  # fmt: skip
    plot.mark_x([(size, f"{size:g}") for size in sizes])
    for _, points, of_line in lines:
        plot.line(points, of_line)
    plot.legend([name for name, *_ in lines], [of_line for *_, of_line in lines])
    return drawing.svg()


def curve(outcomes: Outcomes) -> str:
    """The median of all questions by the size of the archive, a line for each target."""
    drawing = Drawing(760, 340, "Query time by the size of the archive")
    lines = [
        [
            (float(size), median(median(times) for times in asked.values()))
            for size, asked in each.samples["archives"].items()
            if asked
        ]
        for each in outcomes
    ]
    sizes = [size for points in lines for size, _ in points] or [1.0]
    every = [ms for points in lines for _, ms in points] or [1.0]
    plot = Plot(
        drawing, (70, 40, 620, 285), (min(sizes), max(*sizes, 2 * min(sizes))),
        (min(every) / 2, 2 * max(every)), ("series in the archive", "milliseconds"),
        is_log_x=True, is_log_y=True,
    )  # fmt: skip
    plot.mark_x([(size, f"{size:,.0f}".replace(",", " ")) for size in sorted(set(sizes))])
    for number, points in enumerate(lines):
        plot.line(points, colour(number))
    plot.legend([each.target for each in outcomes])
    return drawing.svg()


_FIGURES: Final[dict[str, tuple[str, dict[str, Callable[[Outcomes], str]]]]] = {
    "week": ("bursts", {"figure6": figure6, "figure7": figure7}),
    "fig8": ("days", {"figure8": figure8}),
    "fig9": ("sizes", {"figure9": figure9}),
    "fig10": ("workers", {"figure10": figure10}),
    "table4": ("threads", {"table4": table4}),
    "curve": ("archives", {"curve": curve}),
}
"""Experiment → the sample that must be there, and its pictures."""
