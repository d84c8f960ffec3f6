"""Studies under whose UID different owners state different patients: kept, and told to a person once each."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from catalog import Clock
from federation.owners import owner_of
from federation.sight import Sight
from node.state import State


class StudyConflict(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """One such study; it is answered as the asking site's own, or else as its home's."""

    StudyInstanceUID: str
    nodes: tuple[str, ...]
    """Who states another patient than the one that is answered."""
    since: int
    """Seconds since 1970."""


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
        nodes = tuple(sorted({owner_of(owner).node_id for owner in owners}))
        known = self._rows.get(study.encode())
        if known is not None and known.nodes == nodes:
            return
        self._rows.put(
            study.encode(), StudyConflict(StudyInstanceUID=study, nodes=nodes, since=int(self._clock()))
        )
        others = ", ".join(self._name(node_id) if node_id else "this node" for node_id in nodes)
        what = f"Under the Study Instance UID {study} another patient is stated by: {others}."
        remedy = "Compare both. If it is one person: peerpacs link; else one of the two must be corrected."
        self._tell(nodes[0], what, remedy)

    def check(self, sight: Sight, studies: Iterable[str]) -> None:
        """Look whether studies that changed are in conflict, or are no more."""
        for study in studies:
            merged = sight.study(study)
            is_over = merged is None or not merged.others
            if is_over and self._rows.get(study.encode()) is not None:
                self._rows.delete(study.encode())

    def all(self) -> list[StudyConflict]:
        """Return every conflict that is open."""
        return [row for _, row in self._rows.scan()]
