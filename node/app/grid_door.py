"""The process that knows its peers serves what gateways relay to it: associations of the grid's AE title."""

from __future__ import annotations

import logging
import socket
import threading
from pathlib import Path
from typing import Final

from catalog import BadRequest
from node.dimse import DimseServer, take_relayed

logger = logging.getLogger(__name__)
_LOOK: Final = 0.2
_PATIENCE: Final = 5.0


class GridDoor:
    """Listens at a Unix socket in a folder that only the node's user may enter."""

    def __init__(self, path: Path, server: DimseServer) -> None:
        """Bind it.

        Raises:
            BadRequest: the path of the home is too long for a socket.
        """
        self._server = server
        path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        try:
            self._listener.bind(str(path))
        except OSError as error:
            self._listener.close()
            what = f"{path} cannot be a socket: {error}."
            raise BadRequest(what, "Use a home folder with a shorter path.") from error
        path.chmod(0o600)
        self._listener.listen(128)
        self._listener.settimeout(_LOOK)

    def serve(self, stopping: threading.Event) -> None:
        """Take associations in until the node stops."""
        with self._listener:
            while not stopping.is_set():
                try:
                    other, _ = self._listener.accept()
                except TimeoutError:
                    continue
                try:
                    address, received = take_relayed(other, _PATIENCE)
                except Exception as error:
                    logger.warning("A gateway's association could not be taken: %s", error)
                    other.close()
                    continue
                self._server.take(other, address, received)
