"""Exports of several sites: ordered at each, fetched as each releases, made one release, and brought to their
target from here.

A row says how far each site is. What is fetched lies in the export's folder until all is there; a release is
fetched file by file, so that after a crash or a broken line only the file under way comes twice.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Protocol

import msgspec
from msgspec.structs import replace

from catalog import (
    BadRequest,
    Clock,
    Contradiction,
    Damaged,
    NotFound,
    NotPermitted,
    OutOfSpace,
    PacsError,
    Unavailable,
)
from federation.export_messages import Order, Release
from federation.export_messages import Standing as Told
from federation.exports import PeerExports, pieces
from federation.trust.assertion import Asker

from .combining import Piece, check_name, check_piece, combine
from .delivering import Ways, deliver
from .exports import ExportBook, attempt, increment_id, part_id
from .model import Export, SitePart, Standing
from .ordering import increment_target
from .projects import ProjectBook
from .sealing import Signer, Vault
from .serving import Serving

logger = logging.getLogger(__name__)

_OVER: Final = frozenset({Standing.DONE, Standing.REFUSED, Standing.FAILED, Standing.STOPPED})
_FINAL: Final = (BadRequest, Contradiction, Damaged, NotFound, NotPermitted)
"""What a site says no to with; everything else is tried again."""
_OPEN: Final = ".open"
"""The file that is being received."""
_SPARE: Final = 256 << 20
"""Bytes of the disk that are left free."""
_OFTEN: Final = 1.0
_SELDOM: Final = 15.0
"""Seconds between two questions how an order stands, at first and after a minute."""
_YOUNG: Final = 60.0


class Site(Protocol):
    """One site as an export of several has it; methods raise PacsError."""

    def order(self, told: Order) -> Told:
        """Order; the same twice is one order."""

    def stand(self, order: str) -> Told:
        """Ask how it stands."""

    def stop(self, order: str) -> None:
        """Stop it."""

    def fetch(self, order: str, export: str, have: list[str]) -> Iterator[tuple[str, bytes, bool]]:
        """Yield files that are not here yet: name where one begins, bytes, whether it ends."""

    def took(self, order: str, export: str) -> None:
        """Say that all of a release is here."""


class Gathering:
    """Works on exports of several sites; one thread calls `step`."""

    def __init__(
        self,
        folder: Path,
        projects: ProjectBook,
        book: ExportBook,
        vault: Vault,
        signer: Signer,
        ways: Ways,
        site: Callable[[Export, SitePart], Site],
        is_stopping: Callable[[], bool],
        clock: Clock,
    ) -> None:
        """`folder` is where exports lie while they are made; `site` opens one of their sites."""
        self._folder = folder
        self._projects = projects
        self._book = book
        self._vault = vault
        self._signer = signer
        self._ways = ways
        self._site = site
        self._is_stopping = is_stopping
        self._clock = clock
        self._asked: dict[str, float] = {}

    def order(self, export: Export, told: Order) -> Export:
        """Write an order for several sites; who is asked for lies sealed until they were asked."""
        self._vault.write(self._order_file(export.id), msgspec.msgpack.encode(told), f"{export.id}/order")
        return self._book.add_joint(export)

    def step(self) -> bool:
        """Do what can be done for every export that waits for sites; say whether anything could."""
        did = [self._advance(export) for export in self._book.gathering()]
        return any(did)

    def finish(self, id: str, who: str) -> Export:
        """Go on with what is there: sites that have released nothing yet are not waited for."""
        export = self._book.find(id)
        if export.standing is not Standing.GATHERING:
            raise BadRequest(f"Export {export.id[:8]} waits for no site.", "See: peerpacs export list")
        self.stop(export)
        sites = tuple(replace(each, is_over=True) for each in export.sites)
        return self._book.change(export.id, lambda row: replace(row, sites=sites))

    def stop(self, export: Export) -> None:
        """Tell the sites that nothing more is wanted; who does not hear it releases into its own outbox."""
        for part in export.sites:
            if part.standing and not part.is_over:
                try:
                    self._site(export, part).stop(export.id)
                except PacsError as error:
                    logger.warning("%s was not told to stop export %s: %s", part.name, export.id, error)

    def _advance(self, export: Export) -> bool:
        age, now = self._clock() - export.when, self._clock()
        pause = _OFTEN if age < _YOUNG else _SELDOM
        if 0 <= now - self._asked.get(export.id, 0.0) < pause and not all(s.is_over for s in export.sites):
            return False
        self._asked[export.id] = now
        return attempt(export, self._ask_all, self._fail)

    def _ask_all(self, export: Export) -> bool:
        did = [self._ask(export.id, part) for part in export.sites if not part.is_over]
        export = self._book.find(export.id)
        if export.standing is Standing.GATHERING and all(part.is_over for part in export.sites):
            self._finish(export, list(self._pieces(export)))
            return True
        return any(did)

    def _ask(self, id: str, part: SitePart) -> bool:
        """Ask one site, and fetch what it released; say whether anything changed."""
        export = self._book.find(id)
        site = self._site(export, part)
        try:
            told = site.stand(id) if part.standing else site.order(self._order(id))
            part = replace(part, standing=told.standing, why=told.why)
            for release in told.releases:
                if release.export not in part.gathered and not self._is_stopping():
                    self._gather(export, part, site, release)
                    part = replace(part, gathered=(*part.gathered, release.export))
            is_over = told.standing in _OVER
        except _FINAL as error:
            part = replace(part, why=str(error), standing=part.standing or "refused")
            is_over = not export.is_standing
        except PacsError as error:
            part, is_over = replace(part, why=str(error)), False
        return self._note(id, replace(part, is_over=is_over))

    def _note(self, id: str, part: SitePart) -> bool:
        before = self._book.find(id).sites
        sites = tuple(part if each.node_id == part.node_id else each for each in before)
        if sites != before:
            self._book.change(id, lambda row: replace(row, sites=sites))
        return sites != before

    def _gather(self, export: Export, part: SitePart, site: Site, release: Release) -> None:
        """Fetch a release and check it; of a standing export it goes to the target at once."""
        folder = self._folder / export.id / part.node_id / check_name(release.export)
        if not folder.exists():
            beside = folder.with_name(f"{folder.name}.part")
            self._fetch(site, export.id, release, beside)
            piece = Piece(part.name, beside)
            try:
                check_piece(piece, export.project, self._key_id(export), release.manifest)
            except PacsError:
                # What is damaged is of no use for going on.
                shutil.rmtree(beside, ignore_errors=True)
                raise
            beside.rename(folder)
        if export.is_standing:
            self._deliver_increment(export, part, folder)
        site.took(export.id, release.export)

    def _fetch(self, site: Site, order: str, release: Release, into: Path) -> None:
        into.mkdir(parents=True, exist_ok=True, mode=0o700)
        if shutil.disk_usage(into).free < release.size + _SPARE:
            what = f"The disk has no room for {release.size / 1e6:.0f} MB from a site."
            raise OutOfSpace(what, "Free space; it is tried again.")
        have = [p.relative_to(into).as_posix() for p in into.rglob("*") if p.is_file() and p.name != _OPEN]
        pieces_of = site.fetch(order, release.export, have)
        for name, data, is_end in pieces_of:
            named = into / check_name(name)
            with (into / _OPEN).open("wb") as file:
                file.write(data)
                while not is_end:
                    _, data, is_end = next(pieces_of)
                    file.write(data)
                    if self._is_stopping():
                        raise Unavailable("The node stops.", "It goes on when it runs again.")
            named.parent.mkdir(parents=True, exist_ok=True)
            (into / _OPEN).rename(named)

    def _pieces(self, export: Export) -> Iterator[Piece]:
        for part in export.sites:
            for release in part.gathered:
                yield Piece(part.name, self._folder / export.id / part.node_id / release)

    def _finish(self, export: Export, pieces: list[Piece]) -> None:
        if not pieces:
            said = [f"{part.name}: {part.why or part.standing}" for part in export.sites]
            raise NotFound(f"No site released anything. {' '.join(said)}", "Order it anew when mended.")
        self._release(export, pieces)
        shutil.rmtree(self._folder / export.id, ignore_errors=True)

    def _deliver_increment(self, export: Export, part: SitePart, folder: Path) -> None:
        id = increment_id(export.id, part.node_id, int(folder.name[:12], 16))
        now = self._clock()
        made = replace(
            export,
            id=id,
            parent=export.id,
            target=increment_target(export.target, id, now),
            standing=Standing.GATHERING,
            when=now,
            is_standing=False,
            sites=(replace(part, gathered=(folder.name,), is_over=True),),
        )
        known = self._book.add_joint(made)
        if known.standing is not Standing.DONE:
            self._release(known, [Piece(part.name, folder)])
        shutil.rmtree(folder, ignore_errors=True)

    def _release(self, export: Export, pieces: list[Piece]) -> None:
        made = combine(
            self._folder / export.id / "release",
            export.id,
            pieces,
            export.project,
            self._key_id(export),
            self._signer,
            lambda subject: self._projects.is_withdrawn(export.project, subject),
        )
        deliver(export.target, export.project, made, self._ways)
        done = {
            "standing": Standing.DONE,
            "why": "",
            "released": len(made.files),
            "size": made.size,
            "subjects": made.subjects,
            "manifest": made.manifest,
        }
        self._book.over(export.id, lambda row: replace(row, **done), "released")

    def _fail(self, export: Export, why: str) -> None:
        change = {"standing": Standing.FAILED, "why": why}
        self._book.over(export.id, lambda row: replace(row, **change), "failed")

    def _key_id(self, export: Export) -> str:
        return self._projects.key_id(self._projects.find(export.project))

    def _order(self, id: str) -> Order:
        return msgspec.msgpack.decode(self._vault.read(self._order_file(id), f"{id}/order"), type=Order)

    def _order_file(self, id: str) -> Path:
        return self._folder / id / "order.sealed"


class OwnSite:
    """This node's own part: exported here like any other, and taken from the outbox."""

    def __init__(self, serving: Serving, book: ExportBook, export: Export, own_id: str) -> None:
        self._serving = serving
        self._book = book
        self._export = export
        self._own_id = own_id
        self._id = part_id(own_id, export.id)

    def order(self, told: Order) -> Told:
        """See `Site.order`."""
        return self._serving.order_here(told, self._export.who, self._own_id, self._export.archive)

    def stand(self, order: str) -> Told:
        """See `Site.stand`."""
        return self._serving.standing_of(self._id)

    def stop(self, order: str) -> None:
        """See `Site.stop`."""
        self._book.stop(self._id, self._export.who)

    def fetch(self, order: str, export: str, have: list[str]) -> Iterator[tuple[str, bytes, bool]]:
        """See `Site.fetch`."""
        given = self._serving.release_of(self._id, export)
        for name in given.names:
            if name not in have:
                yield from ((p.name, p.data, p.is_end) for p in pieces(given, name))

    def took(self, order: str, export: str) -> None:
        """See `Site.took`."""
        self._serving.forget(export)


class PeerSite:
    """A peer's part, ordered and fetched over its link."""

    def __init__(self, calls: PeerExports, node_id: str, asker: Asker, archive: str) -> None:
        """`archive` is one of the peer's, or empty."""
        self._calls = calls
        self._node_id = node_id
        self._archive = archive
        self._asker = asker

    def order(self, told: Order) -> Told:
        """See `Site.order`."""
        return self._calls.order(self._node_id, self._asker, replace(told, archive=self._archive))

    def stand(self, order: str) -> Told:
        """See `Site.stand`."""
        return self._calls.stand(self._node_id, self._asker, order)

    def stop(self, order: str) -> None:
        """See `Site.stop`."""
        self._calls.stop(self._node_id, self._asker, order)

    def fetch(self, order: str, export: str, have: list[str]) -> Iterator[tuple[str, bytes, bool]]:
        """See `Site.fetch`."""
        return self._calls.fetch(self._node_id, self._asker, order, export, have)

    def took(self, order: str, export: str) -> None:
        """See `Site.took`."""
        self._calls.took(self._node_id, self._asker, order, export)
