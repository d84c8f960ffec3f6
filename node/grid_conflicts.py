"""UIDs under which different owners have different patients, or bytes: kept, told to a person once each."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from catalog import Clock
from federation.choosing import Chosen, may_differ
from federation.owners import owner_of
from federation.sight import Sight
from node.state import State


class StudyConflict(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """One such study; it is answered as the asking site's own, or else as its home's."""

    StudyInstanceUID: str
    nodes: tuple[str, ...]
    """Who states another patient than the one that is answered, or keeps other bytes; empty: this node."""
    since: int
    """Seconds since 1970."""
    instances: tuple[str, ...] = ()
    """SOP Instance UIDs that these nodes have with other bytes; none where patients differ."""


class GridConflicts:
    """The conflicts this node knows of; `name` returns how a node is called, `tell` tells a person."""

    def __init__(
        self,
        state: State,
        clock: Clock,
        name: Callable[[str], str],
        tell: Callable[[str, str, str], None],
    ) -> None:
        self._rows = state.table("grid-conflicts", StudyConflict)
        self._clock, self._name, self._tell = clock, name, tell

    def alarm(self, study: str, owners: list[bytes]) -> None:
        """Note a conflict, and tell of it if it is news; an owner without a name is this node."""
        nodes = _nodes(owners)
        others = self._note(
            study.encode(), StudyConflict(StudyInstanceUID=study, nodes=nodes, since=self._now)
        )
        if others:
            what = f"Under the Study Instance UID {study} another patient is stated by: {others}."
            remedy = (
                "Compare both. If it is one person: peerpacs link; else one of the two must be corrected."
            )
            self._tell(nodes[0], what, remedy)

    def differ(self, study: str, instances: list[str], owners: Iterable[bytes]) -> None:
        """Note that owners have instances of a study with other bytes than those that are given out."""
        nodes = _nodes(owners)
        conflict = StudyConflict(
            StudyInstanceUID=study, nodes=nodes, since=self._now, instances=tuple(sorted(set(instances)))
        )
        others = self._note(_bytes_of(study), conflict)
        if others:
            number = len(conflict.instances)
            what = f"Of {number} instances of the study {study}, other bytes are kept by: {others}."
            self._tell(nodes[0], what, "Find out which are right; the others must be rejected there.")

    def _note(self, key: bytes, conflict: StudyConflict) -> str:
        """Keep a conflict; return the names of its nodes if it is news."""
        known = self._rows.get(key)
        if known is not None and (known.nodes, known.instances) == (conflict.nodes, conflict.instances):
            return ""
        self._rows.put(key, conflict)
        return ", ".join(self.names(conflict))

    def names(self, conflict: StudyConflict) -> list[str]:
        """Return what the nodes of a conflict are called."""
        return [self._name(node_id) if node_id else "this node" for node_id in conflict.nodes]

    @property
    def _now(self) -> int:
        return int(self._clock())

    def check(self, sight: Sight, studies: Iterable[str], choose: Callable[[str], Chosen]) -> None:
        """Look whether studies that changed are in conflict, or are no more.

        `choose` returns what a retrieve of a study would be; holders are asked for it.
        """
        for study in studies:
            merged = sight.study(study)
            if merged is None or not merged.others:
                self._end(study.encode())
            if merged is not None and may_differ(merged):
                chosen = choose(study)
                if chosen.conflicts:
                    self.differ(study, list(chosen.conflicts), chosen.conflicts.values())
            else:
                self._end(_bytes_of(study))

    def _end(self, key: bytes) -> None:
        if self._rows.get(key) is not None:
            self._rows.delete(key)

    def all(self) -> list[StudyConflict]:
        """Return every conflict that is open."""
        return [row for _, row in self._rows.scan()]


def _nodes(owners: Iterable[bytes]) -> tuple[str, ...]:
    return tuple(sorted({owner_of(owner).node_id for owner in owners}))


def _bytes_of(study: str) -> bytes:
    return f"{study}\0bytes".encode()
