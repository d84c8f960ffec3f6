"""The one door out of the grid: what lies here or at a peer, as one device is to see it.

An object leaves with its owner's corrections, and with the identity under which the device knows the patient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol
from uuid import uuid4

from catalog import Attributes, Clock, Decision, Entry, PatientKey, Unavailable, Verb
from federation.identities import ISSUER, NO_LINKS, PATIENT_ID, Asker, Links, rewritten, shown
from federation.owners import holder_of
from federation.trust.assertion import Asker as OnBehalf
from node.contracts import Outgoing, Retriever
from node.correction import COERCING
from node.nearline_copy import Copy
from node.nearline_way import Wish
from node.retriever import StoredInstance, corrected

_AHEAD: Final = 48
"""Objects that are fetched before they are asked for."""
_AHEAD_BYTES: Final = 128 << 20
_URGENT: Final = 0
_SOON: Final = 1


class Fetching(Protocol):
    """What brings objects here from wherever they lie; `Fetches` does from peers, and says what each does."""

    def expect(self, entries: Iterable[Entry], wish: Wish, priority: int) -> None:
        """Have objects fetched that are not here; nobody waits."""

    def get(self, entry: Entry, wish: Wish, priority: int = 0) -> Copy:
        """Return an object's copy; wait until it is here, or the wish counts no more."""

    def leave(self, wish: Wish) -> None:
        """Give up what nobody else wants."""


class GridRetriever:
    """Satisfies `Retriever` for one device in the scope of all nodes; made anew for each association."""

    def __init__(
        self,
        local: Retriever,
        fetches: Fetching,
        behalf: OnBehalf,
        asker: Asker,
        patient_of: Callable[[str], PatientKey | None],
        *,
        system: str,
        clock: Clock,
        links: Callable[[], Links] = lambda: NO_LINKS,
    ) -> None:
        """`patient_of` says whose study it is, by the merged catalog; `system` is this node's title."""
        self._local = local
        self._fetches = fetches
        self._behalf = behalf
        self._wish = Wish(behalf)
        self._asker = asker
        self._patient_of = patient_of
        self._system = system
        self._clock = clock
        self._links = links
        self._expected: list[Entry] = []
        self._places: dict[bytes, int] = {}
        self._begun = 0
        self._seen: tuple[str, Decision | None] = "", None

    def expect(self, entries: Sequence[Entry], is_unwanted: Callable[[], bool] = bool) -> None:
        """Have what is elsewhere fetched ahead, in this order and never far."""
        self._fetches.leave(self._wish)
        self._wish = Wish(self._behalf, is_unwanted)
        self._local.expect([entry for entry in entries if not holder_of(entry)])
        self._expected = [entry for entry in entries if holder_of(entry) and entry.SOPInstanceUID]
        self._places = {entry.holding.sha256: at for at, entry in enumerate(self._expected)}
        self._begun = 0
        self._ahead(0)

    def open(self, entry: Entry) -> Outgoing:
        """Open an instance for sending; see `Retriever.open`."""
        if not entry.SOPInstanceUID:
            # Its owner alone knows the UIDs; the sentence fits an Error Comment, which is all that is told.
            what = f"Held by {entry.source}, unreachable; UIDs were not listed here."
            raise Unavailable(what, "Try again when it can be reached.")
        outgoing = self._opened(entry) if holder_of(entry) else self._local.open(entry)
        coercion = self._coercion(entry.StudyInstanceUID)
        return corrected(outgoing, [coercion], self._system, COERCING) if coercion else outgoing

    def _opened(self, entry: Entry) -> Outgoing:
        place = self._places.get(entry.holding.sha256)
        if place is not None:
            self._ahead(place)
        copy = self._fetches.get(entry, self._wish, _URGENT)
        stored = StoredInstance(copy.said.entry, copy)
        said = copy.said
        return corrected(stored, said.corrections, said.system) if said.corrections else stored

    def _ahead(self, place: int) -> None:
        """Have the objects behind this one fetched, as far as memory of the disk's cache allows."""
        size, end = 0, place
        while end < min(len(self._expected), place + _AHEAD) and size <= _AHEAD_BYTES:
            size += self._expected[end].holding.size
            end += 1
        if end > self._begun and (end - self._begun >= _AHEAD // 3 or end == len(self._expected)):
            soon, self._begun = self._expected[self._begun : end], end
            self._fetches.expect(soon, self._wish, _SOON)

    def _coercion(self, study: str) -> Decision | None:
        """Return what writes the identity into objects of a study; None where theirs is right.

        One for all of them: what equal headers become by one decision is worked out once.
        """
        if self._seen[0] != study:
            identity = self._rule(study)
            self._seen = study, self._decision(study, identity) if identity else None
        return self._seen[1]

    def _rule(self, study: str) -> Attributes:
        patient = self._patient_of(study)
        if patient is None:
            return {}
        seen = shown(patient, self._asker, self._links())
        if seen[:2] == (patient.IssuerOfPatientID, patient.PatientID) and not seen.is_foreign:
            return {}
        changed = rewritten({}, seen)
        return {tag: changed[tag] for tag in (PATIENT_ID, ISSUER) if tag in changed}

    def _decision(self, study: str, identity: Attributes) -> Decision:
        return Decision(
            id=uuid4().hex,
            verb=Verb.CORRECT,
            target=(study,),
            reason="identity as the receiver knows it",
            who=self._system,
            when=int(self._clock() * 1000),
            attributes=identity,
        )
