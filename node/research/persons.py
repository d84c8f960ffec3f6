"""Who is one person although hospitals number patients differently: by links that people made, never guessed.

Each person goes by one identity, the least of those that were linked, so that sites with the same links and
the same key make the same pseudonym.
"""

from __future__ import annotations

from collections.abc import Callable

from anonymizer.keys import identity_of
from federation.identities import Links


class Persons:
    """Canonical identities; `links` returns what is linked now."""

    def __init__(self, links: Callable[[], Links]) -> None:
        self._links = links
        self._made: tuple[Links | None, dict[str, str]] = None, {}

    def same(self) -> dict[str, str]:
        """Return the identity by which a person goes, by each other one."""
        links = self._links()
        if self._made[0] is not links:
            table: dict[str, str] = {}
            for group in links.groups():
                main = identity_of(*min(group))
                table |= {identity_of(*each): main for each in group if identity_of(*each) != main}
            self._made = links, table
        return self._made[1]

    def identity(self, issuer: str, patient: str) -> str:
        """Return the identity by which a patient goes; empty if there is no Patient ID."""
        identity = identity_of(issuer, patient)
        return self.same().get(identity, identity)

    def all_of(self, identity: str) -> list[str]:
        """Return every identity of whoever goes by this one."""
        return [identity, *(other for other, main in self.same().items() if main == identity)]
