"""A C-MOVE as its user feels it: until the first image is at the destination, and until the last."""

from __future__ import annotations

import threading
import time

from .association import STUDY_ROOT_MOVE, Association
from .clients import ClientError
from .pdu import Address, identifier
from .phantoms import Study
from .servers import StoreSCP


def moved(address: Address, asked: Study, sink: StoreSCP, calling: str) -> tuple[float, float]:
    """Return the seconds until the first image came, and until the final response.

    Raises:
        ClientError: it did not end with success.
    """
    before, first = sink.received(), 0.0
    over = threading.Event()
    began = time.perf_counter()

    def watch() -> None:
        nonlocal first
        while not over.is_set() and not first:
            if sink.received() > before:
                first = time.perf_counter() - began
            time.sleep(0.001)

    watcher = threading.Thread(target=watch)
    with Association(address, [STUDY_ROOT_MOVE], calling=calling) as association:
        began = time.perf_counter()
        watcher.start()
        wanted = identifier("STUDY", StudyInstanceUID=asked.StudyInstanceUID)
        status = association.move(wanted, sink.address.ae_title).status
        whole = time.perf_counter() - began
    over.set()
    watcher.join()
    if status:
        raise ClientError(f"C-MOVE from {address.ae_title} ended with {status:04X}.")
    return first, whole
