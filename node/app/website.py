"""The web server of a node: which roots open which archives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from catalog import Clock
from node.archives import DEFAULT
from node.audit import AuditLog
from node.contracts import Scope
from node.transcoding import Transcoder

from .archive import Archive

if TYPE_CHECKING:
    from node.web import WebServer


def make_web(
    archives: Mapping[str, Archive], audit: AuditLog, transcoder: Transcoder, clock: Clock, folder: Path
) -> WebServer:
    """Return the server of the default archive, of each other one, and of each research project's set.

    Archives that are added later are found too. `folder` is where large things lie for one request.
    """
    # Only a node that serves the web pays for its libraries.
    from node.web import WebServer

    def scope(archive: str = DEFAULT) -> Scope | None:
        found = archives.get(archive)
        return found.scope(found.plan.ae_title) if found else None

    def research(project: str) -> Scope | None:
        kept = [a for a in tuple(archives.values()) if a.plan.research == project.upper() != ""]
        return kept[0].scope(kept[0].plan.ae_title) if kept else None

    roots: dict[str, Callable[..., Scope | None]] = {
        "/dicom-web": scope,
        "/archives/{archive}/dicom-web": scope,
        "/research/{project}/dicom-web": research,
    }
    return WebServer(roots, audit, transcoder, transcoder.codecs, clock, folder=folder)
