"""The grid's authorities as verbs: one is asked for at a node, certified where the root key is at hand."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from catalog import BadRequest, Clock, Unavailable
from federation.trust import office
from federation.trust.authority import ROOT_FILE, Authority
from federation.trust.words import fingerprint
from node.audit import AuditLog
from node.grid import Grid

_PREFIX: Final = "pk1-"


class AuthorityDesk:
    """The verbs of `peerpacs authority`."""

    def __init__(self, grid: Grid, audit: AuditLog, clock: Clock) -> None:
        self._grid, self._audit, self._clock = grid, audit, clock

    def verbs(self) -> dict[str, Callable[..., Any]]:
        """Return the verbs by name."""
        verbs = (
            self.authorities,
            self.ask_authority,
            self.authority_words,
            self.add_authority,
            self.remove_authority,
            self.new_root,
            self.end_root,
            self.renew_certificate,
        )
        return {verb.__name__: verb for verb in verbs}

    def authorities(self) -> list[dict[str, Any]]:
        """Return the authorities of the grid whose certificates count."""
        member = self._grid.member()
        own = member.authority.issuer.certificate if member.authority else None
        mine = office.id_of(own) if own else ""
        ours = office.issuer_of(member.trust, member.credentials.pair.leaf)
        return [
            {**each._asdict(), "is_own": each.id == mine, "is_issuer": each.id == ours}
            for each in office.in_force(member.trust)
        ]

    def ask_authority(self, who: str) -> dict[str, Any]:
        """Make the key with which this node would be an authority, or show the one that waits."""
        member = self._grid.member()
        key = office.ask(self._grid.folder)
        self._audit.record("change", None, "asked to be an authority of the grid", {"who": who})
        words = fingerprint(member.trust.grid_id, key)
        return {"key": _PREFIX + base64.urlsafe_b64encode(key).decode().rstrip("="), "words": list(words)}

    def add_authority(self, key: str, name: str, root: str, who: str) -> dict[str, Any]:
        """Have a key be an authority, by the root key in a file.

        Raises:
            BadRequest: that is no key, or no root of this grid.
            NotFound: the root key is not in that file.
        """
        member, spki = self._grid.member(), _read(key)
        office.certify(self._root(root), member.trust, spki, name, self._clock())
        words = list(fingerprint(member.trust.grid_id, spki))
        detail = {"who": who, "name": name, "words": words}
        self._audit.record("change", None, "authority of the grid added", detail)
        return {"name": name, "words": words}

    def authority_words(self, key: str) -> list[str]:
        """Return the words of a key, to be compared on the phone; raises BadRequest for what is none."""
        return list(fingerprint(self._grid.member().trust.grid_id, _read(key)))

    def remove_authority(self, id: str, root: str, who: str) -> dict[str, Any]:
        """Have an authority count no more, nor any certificate that it issued.

        Raises:
            BadRequest: it is the last one, or issued this node's certificate, or this node is none itself.
            NotFound: there is none of this id, or the root key is not in that file.
        """
        member = self._grid.member()
        if office.issuer_of(member.trust, member.credentials.pair.leaf) == id:
            what = "That authority issued this node's own certificate, which would count no more."
            raise BadRequest(what, "Do this at a node whose certificate another one issued.")
        gone = office.dismiss(self._root(root), member.trust, self._own(), id)
        self._audit.record("change", None, "authority of the grid removed", {"who": who, **gone._asdict()})
        return gone._asdict()

    def new_root(self, root: str, into: str, who: str) -> dict[str, Any]:
        """Make the root's successor in a file, and have the grid trust both; see `office.begin_root`."""
        office.begin_root(self._root(root), self._grid.member().trust, Path(into), self._clock())
        self._audit.record("change", None, "second root of the grid made", {"who": who})
        return {"file": into}

    def end_root(self, root: str, who: str) -> dict[str, Any]:
        """Have the grid trust this root alone; raises as `office.end_root`, BadRequest at no authority."""
        member, own = self._grid.member(), self._own()
        office.end_root(self._root(root), member.trust, own, member.credentials.pair.leaf)
        self._audit.record("change", None, "root of the grid ended", {"who": who})
        return {"authorities": [each._asdict() for each in office.in_force(member.trust)]}

    def renew_certificate(self, who: str) -> dict[str, Any]:
        """Have this node's certificate renewed now, before it would be; raises Unavailable."""
        member = self._grid.member()
        if not member.renew():
            what = "No authority of the grid can be reached, so the certificate stays as it is."
            raise Unavailable(what, "See: peerpacs peers")
        self._audit.record("change", None, "certificate of this node renewed", {"who": who})
        return {"days": round(member.credentials.days_left(), 1)}

    def _own(self) -> Authority:
        authority = self._grid.member().authority
        if authority is None:
            what = "This node is no authority of its grid, and whom another one expelled must stay so."
            raise BadRequest(what, "Do this at a node that is one; see: peerpacs peers")
        return authority

    def _root(self, path: str) -> Any:
        return office.root_at(Path(path) if path else self._grid.folder / ROOT_FILE)


def _read(key: str) -> bytes:
    text = key.removeprefix(_PREFIX)
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadRequest("That is no key of an authority.", "There: peerpacs authority ask") from error
