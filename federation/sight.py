"""What one device sees of the grid at one moment: the studies a question means, and everybody on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Set
from typing import NamedTuple, Protocol

import msgspec

from catalog import Attributes, Availability, Catalog, Level, PatientKey, Query, is_universal
from catalog.statements import Stated

from .grid_answers import Answers
from .identities import NO_LINKS, Asker, IdentityTest, Links, Shown, shown
from .manifests import Manifest
from .merging import HERE, Holder, Merged, merge
from .mirror import Mirror
from .mirror_reading import hashed_at, mirrored
from .private_block import Known, of_study, owners
from .proposing import MirrorPlanner, Proposal, exact_values, in_order, narrowed, united


class Own(Catalog, Protocol):
    """The node's own catalog, as much of it as the grid is made from."""

    def propose(self, query: Query) -> Iterator[list[bytes]]:
        """Yield studies as order and UID, in the order of answers, every one that could match among them."""

    def stated(self, StudyInstanceUID: str) -> Stated | None:
        """Return what the log would state about a study now."""


class Hashes(Protocol):
    """The keyed hashes under which an owner states what it grants no more of."""

    def study(self, StudyInstanceUID: str) -> bytes:
        """Return the hash of a study's UID."""

    def patient(self, IssuerOfPatientID: str, PatientID: str) -> bytes:
        """Return the hash of a patient, or nothing for one without an id."""

    def accession(self, AccessionNumber: str) -> bytes:
        """Return the hash of an accession number, or nothing."""


class Standing(NamedTuple):
    """How a mirrored peer is just now."""

    site: str
    owner: bytes
    is_reachable: bool
    age: float | None
    """Seconds since its mirror was known to be right; None: there is none yet."""
    hashes: Hashes | None = None
    """Set where it grants only hashes: then it has to be asked whenever one of them is meant."""
    issuer: str = ""
    """Whose Patient IDs are meant where it states none: the same number elsewhere is somebody else."""


class Grid(NamedTuple):
    """What a union is made from."""

    own: Own
    mirror: Mirror
    planner: MirrorPlanner
    standing: Callable[[], Mapping[int, Standing]]
    """By source: the peers that grant their catalog; nobody else's rows are answered."""
    manifest: Manifest
    links: Callable[[], Links] = lambda: NO_LINKS
    remembered: Manifest = lambda owner, series: []
    """What is known of an owner's series without asking it, copies of its objects among that."""
    issuer: str = ""
    """As `Standing.issuer`, of this node."""
    site: Callable[[], str] = lambda: ""
    """Of this node."""
    alarm: Callable[[str, list[bytes]], None] = lambda study, owners: None
    """Told of a study UID that two patients claim, and of the owners who state the other one."""
    kept: Callable[[bytes, Stated], Mapping[str, Availability]] = lambda owner, stated: {}
    """By series: how what an owner stated is had from who keeps copies for it, while it does not answer."""


class Live(NamedTuple):
    """What an owner that was asked says now, of the studies that match."""

    stated: Mapping[str, Stated]
    answers: Mapping[str, list[Attributes]]
    """By study: its matches of the level asked for, with keys that are not synchronised."""
    tails: list[bytes]
    """Order and UID of each."""
    is_all: bool = True
    """Whether it has no others."""


class Sight:
    """One question of one device: what it may see, as it stands at this moment."""

    def __init__(self, grid: Grid, asker: Asker, query: Query, block: str = "") -> None:
        """`block` is the private block that matches are to carry, see `private_block`."""
        self._grid = grid
        self._block = block
        self._asker = asker
        self._query = query
        self._links = grid.links()
        self._identity = IdentityTest(query, asker, self._links)
        self.standing = grid.standing()
        self._sources: Set[int] = self.standing.keys()
        self.answers = Answers(query, grid.own, grid.manifest)
        self.wide = narrowed(query, self._identity)
        self._live: Mapping[int, Live] = {}

    @property
    def can_judge(self) -> bool:
        """Whether mirrors can say yes or no to every key."""
        keys = self._query.keys
        return all(is_universal(keys[tag]) for tag in self.answers.unmirrored)

    def hinted(self, source: int) -> bool | None:
        """Say whether a source that grants only hashes has what is asked for; None: they cannot tell."""
        hashes = self.standing[source].hashes
        keys = self._query.keys
        if hashes is None:
            return None
        wanted: list[bytes] = [hashes.study(uid) for uid in exact_values(keys, "0020000D")]
        if not wanted:
            wanted = [hashes.accession(number) for number in exact_values(keys, "00080050")]
        if not wanted and not self._asker.all_issuers:
            identities = self._identity.identities(exact_values(keys, "00100020"))
            own = self.standing[source].issuer
            # Where its owner states no issuer, it hashed none.
            identities += [("", id) for issuer, id in identities if issuer == own]
            wanted = [hashes.patient(*identity) for identity in identities]
        if not wanted:
            return None
        with self._grid.mirror.reading() as reading:
            return any(source in hashed_at(reading, each) for each in wanted if each)

    def add_live(self, live: Mapping[int, Live]) -> None:
        """Let what these owners said now count instead of what is mirrored of them."""
        self._live = live
        self.answers.live = self._live_answers

    def _live_answers(self, StudyInstanceUID: str) -> Iterator[Attributes]:
        for each in self._live.values():
            yield from each.answers.get(StudyInstanceUID, ())

    def find(self) -> Iterator[Attributes]:
        """Yield the answers, in the order of all lists of studies."""
        people: set[tuple[str, ...]] = set()
        for study in in_order(self.proposal(), self.judge):
            seen = shown(study.patient, self._asker, self._links)
            if self._query.level is Level.PATIENT:
                person = self._links.person(study.patient)
                if person in people:
                    continue
            about = self._about(study)
            for answer in self.answers.of(study, seen, self.of_person):
                if self._query.level is Level.PATIENT:
                    people.add(person)
                yield {**answer, **about} if about else answer

    def _about(self, study: Merged) -> Attributes:
        if not self._block:
            return {}
        known = ((each.owner, Known(each.site, each.age)) for each in self.standing.values())
        return of_study(self._block, study, owners(known, self._grid.site()))

    def proposal(self) -> Proposal:
        """Return every study that could match."""
        own = self._grid.own.propose(self.wide)
        proposal = self._grid.planner.propose(self.wide) if self._sources else Proposal([], True)
        proposal.streams.extend(iter(each.tails) for each in self._live.values())
        return united(proposal, own)

    def judge(self, StudyInstanceUID: str) -> Merged | None:
        """Return the study if its patient is one the question means."""
        study = self.study(StudyInstanceUID)
        if study is None:
            return None
        seen = shown(study.patient, self._asker, self._links)
        if not self._is_of_issuers(study.patient, seen) or not self._identity.accepts(study.patient, seen):
            return None
        return study

    def study(self, StudyInstanceUID: str) -> Merged | None:
        """Return what everybody together states about a study."""
        holders = list(self._holders(StudyInstanceUID))
        if not any(is_current for _, is_current in holders):
            return None
        study = merge([holder for holder, _ in holders], self._links)
        if study is not None and study.others:
            self._grid.alarm(StudyInstanceUID, [each.owner for each in study.others])
        return study

    def _holders(self, StudyInstanceUID: str) -> Iterator[tuple[Holder, bool]]:
        """Yield who holds the study, and whether that is known to be so.

        Of an owner that was asked, what is mirrored only adds to studies that somebody else holds too:
        whether the rest does not match or is gone, it does not say.
        """
        if (own := self._grid.own.stated(StudyInstanceUID)) is not None:
            yield Holder(HERE, issued(own, self._grid.issuer), own.is_here), True
        found = {
            source: (stated, True, True)
            for source, live in self._live.items()
            if (stated := live.stated.get(StudyInstanceUID)) is not None
        }
        if mirrors := self._sources - found.keys():
            with self._grid.mirror.reading() as reading:
                for each in mirrored(reading, StudyInstanceUID.encode(), mirrors):
                    live = self._live.get(each.source)
                    found[each.source] = each.stated, each.is_confirmed, live is None or not live.is_all
        for source, (stated, is_confirmed, is_current) in found.items():
            standing = self.standing[source]
            named = issued(stated, standing.issuer)
            is_reachable = standing.is_reachable and is_confirmed
            kept = self._grid.kept(standing.owner, stated) if is_confirmed and not is_reachable else {}
            yield Holder(standing.owner, named, is_reachable, kept), is_current

    def _is_of_issuers(self, patient: PatientKey, seen: Shown) -> bool:
        issuers = self._query.issuers
        if issuers is None:
            return True
        linked = {issuer for issuer, _ in self._links.of((patient.IssuerOfPatientID, patient.PatientID))}
        return bool((linked | {seen.IssuerOfPatientID}) & set(issuers))

    def of_person(self, study: Merged) -> Iterator[Merged]:
        """Yield all studies of a study's patient, under whatever identity."""
        if not study.patient.PatientID:
            yield study
            return
        person = self._links.person(study.patient)
        ids = sorted({id for _, id in self._links.of(study.patient[:2])})
        key = {"vr": "LO", "Value": ids}
        query = msgspec.structs.replace(
            self._query, keys={"00100020": key}, level=Level.STUDY, issuers=None, limit=0
        )
        own = self._grid.own.propose(query)
        proposal = self._grid.planner.propose(query) if self._sources else Proposal([], True)
        for found in in_order(united(proposal, own), self.study):
            if self._links.person(found.patient) == person:
                yield found


def issued(stated: Stated, issuer: str) -> Stated:
    """Return the statements with an issuer where their owner names none."""
    patient = stated.study.patient
    if not issuer or patient.IssuerOfPatientID or not patient.PatientID:
        return stated
    named = msgspec.structs.replace(stated.study, patient=patient._replace(IssuerOfPatientID=issuer))
    return stated._replace(study=named)
