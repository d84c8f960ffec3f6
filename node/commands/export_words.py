"""What the commands about exports show: previews, how an export stands, progress, withdrawals."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from node.cli import columns, plural, readable

_UNDER_WAY: Final = ("", "ready", "running")
_GATHERING: Final = "waits for sites"
_SHOWN: Final = 20


def is_going(export: dict[str, Any]) -> bool:
    """Say whether something goes on in an export without anybody doing anything."""
    if export["standing"] != _GATHERING:
        return export["standing"] in _UNDER_WAY
    waiting = [site for site in export["sites"] if not site["is_over"]]
    return not waiting or any(s["standing"] in _UNDER_WAY and not s["why"] for s in waiting)


class bar:  # noqa: N801
    """Bars on standard error: parts of the export, and what is done in the one under way."""

    def __init__(self, *, is_shown: bool) -> None:
        from rich.console import Console
        from rich.progress import Progress

        self._bars = Progress(console=Console(stderr=True), disable=not is_shown)

    def __enter__(self) -> Callable[[dict[str, Any]], None]:
        self._bars.start()
        whole, part = self._bars.add_task("export"), self._bars.add_task("part")

        def show(export: dict[str, Any]) -> None:
            progress = export["progress"]
            self._bars.update(whole, completed=export["done"], total=export["parts"] or None)
            step = progress["step"] or "release"
            self._bars.update(
                part, description=step, completed=progress["done"], total=progress["total"] or None
            )

        return show

    def __exit__(self, *_: object) -> None:
        self._bars.stop()


def preview_lines(told: dict[str, Any]) -> Iterator[str]:
    titles = ("site", "subjects", "studies", "instances", "size", "state")
    rows = []
    for site in told["sites"]:
        is_told = site["subjects"] >= 0
        counts = [site[key] for key in ("subjects", "studies", "instances")]
        small = [f"<{site['smallest']}", "-", "-"]
        size = readable(site["megabytes"] * 1e6) if site["megabytes"] > 0 else "<10 MB" if is_told else "-"
        rows.append((site["site"], *(counts if is_told else small), size, site["state"]))
    yield from columns(rows, titles)
    if not told["lines"]:
        return
    yield ""
    yield ", ".join(f"{count} {finding}" for finding, count in told["findings"].items())
    troubles = [line for line in told["lines"] if line["finding"] != "found"]
    yield from (f"  line {t['line']}: {t['finding']}. {t['why']}" for t in troubles[:_SHOWN])
    if len(troubles) > _SHOWN:
        yield f"  and {len(troubles) - _SHOWN} more; --json lists them all"


def details(export: dict[str, Any]) -> Iterator[str]:
    id = export["id"][:8]
    yield f"Export {id} for {export['project']} to {export['target']}: {standing_of(export)}."
    if export["standing"] == "waits for approval":
        yield f"Whom the project names may let it run: peerpacs export approve {id}"
    elif export["standing"] == "waits for a look before release":
        yield f"Look at {export['release']}"
        yield f"Whom the project names may let it go: peerpacs export release {id}"
    yield from _sites(export)
    if export["standing"] == "failed":
        yield export["why"]
        yield f"When that is mended: peerpacs export retry {id}"
    if export["standing"] in ("released", "waits for a look before release"):
        subjects = plural(len(export["subjects"]), "subject")
        size = readable(export["size"])
        instances, manifest = plural(export["released"], "instance"), export["manifest"][:12]
        yield f"{instances} of {subjects}, {size}; manifest {manifest}."
    for reason, count in export["held"].items():
        yield f"{count} held back, {reason}."
    if export["held"]:
        yield "Look at them: peerpacs quarantine list"


def _sites(export: dict[str, Any]) -> Iterator[str]:
    for site in export["sites"]:
        standing = site["standing"] or "not asked yet"
        yield f"  {site['name']}: {standing}.{' ' + site['why'] if site['why'] else ''}"
    waits = any(not site["is_over"] for site in export["sites"])
    if export["standing"] == _GATHERING and waits:
        yield f"Not to wait for the others any more: peerpacs export finish {export['id'][:8]}"


def standing_of(export: dict[str, Any]) -> str:
    standing = str(export["standing"])
    if standing == "running" and export["parts"]:
        return f"running, {export['done']} of {plural(export['parts'], 'part')}"
    return standing


def withdrawn_lines(projects: list[dict[str, Any]]) -> Iterator[str]:
    """Yield what a withdrawal did, and what it could not do."""
    for project in projects:
        removed = plural(project["removed"], "study")
        yield f"✓ {project['project']}: {project['subject']} is barred; {removed} removed from its archive."
        yield from _copies(project["copies"], "")
        for site in project["sites"]:
            removed = plural(site["removed"], "study")
            if site["outcome"] == "withdrawn":
                yield f"✓ {site['site']}: barred there too; {removed} removed."
            else:
                yield f"! {site['site']}: not told yet ({site['why']}). It is tried again until it is told."
            yield from _copies(site["copies"], f"{site['site']}: ")


def _copies(copies: list[dict[str, Any]], where: str) -> Iterator[str]:
    for copy in copies:
        yield f"! {where}Out of reach: export {copy['export'][:8]} brought it to {copy['target']}."


def held_in(export: dict[str, Any]) -> int:
    return sum(export["held"].values())
