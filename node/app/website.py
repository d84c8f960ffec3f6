"""The web server of a node: which roots open which archives."""

from __future__ import annotations

from collections.abc import Mapping
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
    """Return the server of `/dicom-web`, the default archive, and of each archive under its name.

    Archives that are added later are found too. `folder` is where large things lie for one request.
    """
    # Only a node that serves the web pays for its libraries.
    from node.web import WebServer

    def scope(archive: str = DEFAULT) -> Scope | None:
        found = archives.get(archive)
        return found.scope(found.plan.ae_title) if found else None

    roots = {"/dicom-web": scope, "/archives/{archive}/dicom-web": scope}
    return WebServer(roots, audit, transcoder, transcoder.codecs, clock, folder=folder)
