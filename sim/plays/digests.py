"""What was sent and what is given of a study, as digests that can be compared."""

from __future__ import annotations

from hashlib import sha256

from ..association import STUDY_ROOT_GET, Association
from ..pdu import Address, ProtocolError, identifier
from ..phantoms import Instance
from ..targets import RECEIVED


def digest(instance: Instance) -> str:
    """Return the SHA-256 of a data set as it is sent."""
    made = sha256()
    for piece in instance.data_set():
        made.update(piece)
    return made.hexdigest()


def fetched(address: Address, StudyInstanceUID: str) -> set[str]:
    """Return the SHA-256 of every data set that an Application Entity gives of a study by C-GET.

    Raises:
        ProtocolError: it does not give all that it knows of.
        OSError: it cannot be reached.
    """
    digests: list[str] = []
    with Association(address, [STUDY_ROOT_GET], receives=RECEIVED, timeout=20.0) as association:
        got = association.get(identifier("STUDY", StudyInstanceUID=StudyInstanceUID), digests)
    if got.status:
        raise ProtocolError(f"The C-GET ended with status {got.status:04X}.")
    return set(digests)
