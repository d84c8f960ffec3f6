"""Whether the nodes of a grid agree: digests of what they hold of each other, and copies as rules demand."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing, suppress
from typing import Final

from catalog.log import Digest, digests
from catalog.truth import Environment
from federation.mirror import Mirror
from federation.owners import owner_of
from node.control import ask

from ..servers import ServerError, wait
from .actors import ALL, Actor

_RULE: Final = "all"
_MIRROR: Final = "grid/mirror"
_CATALOG: Final = "archives/{}/catalog"


def have_copies(members: Sequence[Actor], copies: int) -> None:
    """Have every member ask for so many copies of all its studies at other sites, and keep the others'.

    Raises as `Actor.say`.
    """
    for member in members:
        for other in members:
            if other is not member:
                member.say("grants", "add", other.called, "everything", *ALL, "host_replicas")
        member.say("copies", "add", _RULE, "--copies", str(copies), "--min-sites", str(copies))


class Standing:
    """How the copies of a grid stand, as its nodes say now.

    Owners count the studies for which they have receipts, keepers the objects that they keep: the two are
    books of different nodes, and both must come out even.
    """

    def __init__(self, members: Sequence[Actor]) -> None:
        """Ask all of them. Raises as `ask`."""
        self.ask(members)

    def ask(self, members: Sequence[Actor]) -> None:
        """Ask all of them anew. Raises PacsError: one does not answer."""
        self.copies = self.studies = self.met = self.kept = self.wanted = 0
        for member in members:
            told, has = ask(member.home, "copies"), ask(member.home, "status")["archive"]
            copies = max((rule["copies"] for rule in told["rules"]), default=1)
            self.copies = max(self.copies, copies)
            self.studies += has["studies"]
            self.wanted += (copies - 1) * has["instances"]
            self.met += told["studies"].get(_RULE, {"met": 0})["met"]
            self.kept += told["kept_for_others"]["objects"]

    @property
    def is_met(self) -> bool:
        """Say whether every study is at as many sites as its rule demands."""
        return self.met == self.studies and self.kept == self.wanted


def kept(members: Sequence[Actor], patience: float) -> list[str]:
    """Wait until every study is where its rule demands, or nothing moved for so long; tell which it is."""
    known = Standing(members)

    def is_so() -> bool:
        known.ask(members)
        return known.is_met

    while not known.is_met:
        before = known.kept, known.met
        with suppress(ServerError):
            wait(is_so, patience, pause=1.0)
        # A grid that has much to copy is waited for as long as it gets on.
        if (known.kept, known.met) == before:
            return [
                f"{known.met} of {known.studies} studies have their copies; {known.kept} objects are "
                f"kept for others, where {known.wanted} were to be"
            ]
    return [f"each of {known.studies} studies is at {known.copies} sites"]


def differing(members: Sequence[Actor]) -> list[str]:
    """Return the pairs of which one holds something else of the other's catalog than that states.

    Both logs are read as they lie on disk, bucket by bucket, while the nodes run.
    """
    by_id = {str(member.peers()["node_id"]): member for member in members}
    found = []
    for reader in members:
        with (
            reader.as_it_lies(_MIRROR) as home,
            closing(Mirror(home / _MIRROR, clock=lambda: 0.0, is_read_only=True)) as mirror,
        ):
            seen = {
                owner_of(name).node_id: (owner_of(name).archive, share, mirror.digests(number))
                for number, (name, share) in mirror.sources().items()
            }
        for node_id, owner in by_id.items():
            if owner is reader:
                continue
            archive, share, held = seen.get(node_id, ("main", 0, {}))
            if _with_rows(held) != _with_rows(_stated(owner, archive, share)):
                found.append(f"{reader.called} of {owner.called}")
    return found


def _stated(owner: Actor, archive: str, share: int) -> dict[int, Digest]:
    catalog = _CATALOG.format(archive)
    with (
        owner.as_it_lies(catalog) as home,
        closing(Environment(home / catalog, is_read_only=True)) as environment,
        environment.reading() as reading,
    ):
        return digests(reading, share)


def _with_rows(told: dict[int, Digest]) -> dict[int, Digest]:
    return {bucket: digest for bucket, digest in told.items() if digest.rows}
