"""What was sent and what is given of a study, as digests that can be compared."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from hashlib import sha256

from ..association import STUDY_ROOT_GET, Association
from ..pdu import Address, ProtocolError, identifier
from ..phantoms import Instance
from ..targets import RECEIVED, REFUSALS


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
    with _getting(address) as association:
        return _got(association, StudyInstanceUID)


def given(address: Address, uids: Iterable[str]) -> Iterator[tuple[str, set[str]]]:
    """Yield each study with what is given of it, as `fetched`, and nothing of one that is not given whole.

    One association serves all of them, and a new one those after a failure.
    """
    left = deque(uids)
    while left:
        with suppress(*REFUSALS), _getting(address) as association:
            while left:
                uid = left[0]
                found = _got(association, uid)
                left.popleft()
                yield uid, found
        if left:
            yield left.popleft(), set()


def _getting(address: Address) -> Association:
    return Association(address, [STUDY_ROOT_GET], receives=RECEIVED, timeout=20.0)


def _got(association: Association, StudyInstanceUID: str) -> set[str]:
    digests: list[str] = []
    got = association.get(identifier("STUDY", StudyInstanceUID=StudyInstanceUID), digests)
    if got.status:
        raise ProtocolError(f"The C-GET ended with status {got.status:04X}.")
    return set(digests)
