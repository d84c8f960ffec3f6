"""The lines of `peerpacs check` about old PACS: in the device book, allowed to send here, and answering."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from .findings import Finding, Mark

if TYPE_CHECKING:
    from node.contracts import Device
    from node.sections import Config


def old_findings(home: Path, config: Config) -> Iterator[Finding]:
    """Yield what is found about each old PACS; it is asked, and nothing is moved."""
    from node.config import FILE_NAME
    from node.contracts import Service
    from node.devices import DeviceBook
    from node.standing import load_standing
    from node.state import State

    rules = load_standing(home / FILE_NAME).old_pacs
    if not rules:
        return
    with State(home / "state") as state:
        devices = {pacs.name: DeviceBook(state).get(pacs.ae_title) for pacs in rules}
    for pacs in rules:
        device, title = devices[pacs.name], pacs.ae_title
        if device is None or not device.port:
            fix = f"peerpacs devices add {title} --address HOST --port PORT --services echo,store"
            yield Finding(Mark.FAILURE, f"the old PACS {title} is not in the device book with a port", fix)
            continue
        if Service.STORE not in device.services:
            fix = f"peerpacs devices edit {title} --services +store"
            yield Finding(Mark.FAILURE, f"{title} may not store here, so nothing can be fetched from it", fix)
        yield _asked(home, config, device, pacs.receive_as)


def _asked(home: Path, config: Config, device: Device, receive_as: str) -> Finding:
    from catalog import PacsError
    from node.credentials import own_credentials
    from node.dimse import Requestor
    from node.keys import question

    own, title = config.node.ae_title, device.ae_title
    try:
        security = own_credentials(home, config).towards(device)
        requestor = Requestor(own, device.address, device.port, title, security=security)
        next(iter(requestor.find(question(["StudyInstanceUID=1.2"], "STUDY"))), None)
    except PacsError as error:
        return Finding(Mark.FAILURE, error.what.rstrip("."), error.next or "look into its log")
    what = f"the old PACS {title} answers C-FIND; it must know {receive_as} with this node's DICOM port"
    return Finding(Mark.GOOD, what)
