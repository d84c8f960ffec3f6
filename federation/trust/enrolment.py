"""Enrolment at the authority: invitations, requests that wait for a person, and their answers. No wire here.

A ticket's secret is proven by HMAC and never sent; what is kept of it is its hash. A token is spent by its
first good request or its fifth bad one. Whoever asks comes back with the key that waits for a certificate.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from hashlib import sha256
from typing import Final, NamedTuple

from cryptography import x509
from msgspec.structs import replace

from catalog import BadRequest, Clock, NotFound, NotPermitted, PacsError

from .authority import Authority
from .certificates import Node, identity_in, is_issued_by, parse, public_key
from .keys import is_signed, parse_public_key, spki
from .names import check_node_id, node_of_server_name
from .policy import TEMPLATES
from .rows import Invitation, PeerRow, Request, Tables
from .ticket import Ticket, is_address, key_of, make_ticket
from .trust import Trust
from .words import fingerprint

BAD_TRIES: Final = 5
RETURN_WITHIN: Final = 14 * 86400
"""Seconds after its end for which a certificate still lets a node ask to come back."""
NONCE_SIZE: Final = 16
_KEPT: Final = 30 * 86400
_MOST_PENDING: Final = 1000
_LONGEST_TTL: Final = 90 * 86400
_ASK: Final = "Ask an admin of the grid for a new ticket: peerpacs invite"


class Applicant(NamedTuple):
    """What somebody who asks says of itself; only the site of the invitation counts."""

    name: str
    ae_titles: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    is_dial_only: bool = False


class Pending(NamedTuple):
    """A request that waits for a person."""

    request_id: str
    words: tuple[str, ...]
    site: str


def mac_of(key: bytes, csr: bytes, nonce: bytes) -> bytes:
    """Return the proof that whoever made this request has the ticket."""
    return hmac.digest(key, b"join\0" + nonce + csr, "sha256")


def proof_of(key: bytes, lineage: tuple[bytes, ...], nonce: bytes) -> bytes:
    """Return the proof that whoever answers gave the ticket out, and that these are its roots."""
    return hmac.digest(key, b"grid\0" + nonce + b"".join(sha256(der).digest() for der in lineage), "sha256")


def resume_text(request_id: str, nonce: bytes) -> bytes:
    """Return what the waiting key signs to learn how a request stands."""
    return b"peerpacs resume\0" + request_id.encode() + b"\0" + nonce


def return_text(csr: bytes, nonce: bytes) -> bytes:
    """Return what the old key signs when a node comes back whose certificate ended."""
    return b"peerpacs return\0" + nonce + csr


class Registrar:
    """The desk at which nodes join; many threads and processes may work at it."""

    def __init__(self, authority: Authority, trust: Trust, tables: Tables, clock: Clock) -> None:
        self._authority = authority
        self._trust = trust
        self._tables = tables
        self._clock = clock

    def invite(
        self, address: str, site: str, template: str, ttl: float, who: str, replacing: str = ""
    ) -> Ticket:
        """Return a ticket for one node of this site; `replacing` names the node whose place it takes.

        Raises:
            BadRequest: a value is not one of its kind.
            NotFound: there is no node to replace.
        """
        if not site or len(site) > 64 or template not in TEMPLATES or not 60 <= ttl <= _LONGEST_TTL:
            known = ", ".join(sorted(TEMPLATES))
            what = "An invitation needs a site, a template and a time to live of a minute to 90 days."
            raise BadRequest(what, f"Templates are: {known}")
        if replacing and self._tables.peers.get(check_node_id(replacing).encode()) is None:
            raise NotFound(f"No node {replacing} is known here.", "List them with: peerpacs peers")
        ticket = make_ticket(address, self._trust.grid_id)
        now = int(self._clock())
        self._tables.invitations.put(
            ticket.token_id,
            Invitation(
                key=key_of(ticket.secret),
                site=site,
                template=template,
                who=who,
                created=now,
                expires=now + int(ttl),
                replace=replacing.lower(),
            ),
        )
        return ticket

    def prove(self, token_id: bytes, nonce: bytes) -> bytes:
        """Return the proof that this grid gave the token out; for an unknown token, one that fits nobody."""
        invitation = self._tables.invitations.get(token_id)
        key = invitation.key if invitation is not None else secrets.token_bytes(32)
        return proof_of(key, self._trust.bundle.lineage, nonce)

    def ask(self, token_id: bytes, nonce: bytes, csr: bytes, mac: bytes, applicant: Applicant) -> Pending:
        """Take a request with a ticket; `nonce` is the one this side made for it.

        Raises:
            NotPermitted: the token is unknown, ended, spent, or the proof is wrong.
            BadRequest: the request itself cannot be used; the token is not spent by it.
        """
        made: list[tuple[str, Request]] = []
        refusal: list[PacsError] = []

        def spend(row: Invitation | None) -> Invitation | None:
            if row is None or self._clock() > row.expires:
                refusal.append(NotPermitted("This ticket is unknown here, or its time is over.", _ASK))
                return row
            if row.request or row.bad_tries >= BAD_TRIES:
                refusal.append(NotPermitted("This ticket was used already; it counts once.", _ASK))
                return row
            if not hmac.compare_digest(mac, mac_of(row.key, csr, nonce)):
                refusal.append(NotPermitted("The proof of this ticket is wrong.", _ASK))
                return replace(row, bad_tries=row.bad_tries + 1)
            try:
                made.append(self._request(csr, applicant, row))
            except PacsError as error:
                refusal.append(error)
                return row
            return replace(row, request=made[0][0])

        self._tables.invitations.change({token_id: spend})
        if refusal:
            raise refusal[0]
        request_id, request = made[0]
        self._tables.requests.put(request_id.encode(), request)
        return Pending(request_id, request.words, request.site)

    def _request(self, csr: bytes, applicant: Applicant, row: Invitation) -> tuple[str, Request]:
        node_id, key = read_request(csr)
        if row.replace and node_id != row.replace:
            what = f"This ticket is for the node {row.replace} that comes back, not for another."
            raise BadRequest(
                what, "Give the new home the old id: peerpacs init --node-id, or ask for a ticket."
            )
        known = self._tables.peers.get(node_id.encode())
        if known is not None and known.state != "left" and not row.replace:
            what = f"The node {node_id} is in this grid already, as {known.name}."
            raise BadRequest(what, f"To replace it: peerpacs invite --replace {node_id}")
        return self._new_request(node_id, key, applicant, row.site, row.template, replacing=row.replace)

    def _new_request(
        self,
        node_id: str,
        key: bytes,
        applicant: Applicant,
        site: str,
        template: str,
        *,
        replacing: str = "",
        is_return: bool = False,
    ) -> tuple[str, Request]:
        waiting = sum(request.state == "pending" for _, request in self._tables.requests.scan())
        if waiting >= _MOST_PENDING:
            raise NotPermitted("Too many requests wait here.", "Ask the grid's admin to decide on them.")
        request = Request(
            node_id=node_id,
            name=_name(applicant.name, node_id),
            site=site,
            spki=key,
            words=fingerprint(self._trust.grid_id, key),
            received=int(self._clock()),
            ae_titles=tuple(title[:16] for title in applicant.ae_titles[:16]),
            addresses=tuple(each for each in applicant.addresses[:8] if is_address(each)),
            is_dial_only=applicant.is_dial_only,
            template=template,
            replace=replacing,
            is_return=is_return,
        )
        return secrets.token_hex(8), request

    def come_back(self, certificate: bytes, csr: bytes, signature: bytes, nonce: bytes) -> Pending:
        """Take the request of a node whose certificate ended at most 14 days ago, signed with its old key.

        Raises:
            NotPermitted: it was expelled, ended too long ago, is of another grid, or the key is not its own.
            BadRequest: the request itself cannot be used.
        """
        old = parse(certificate)
        identity = identity_in(old)
        if identity.grid_id != self._trust.grid_id or not self._is_ours(old):
            raise NotPermitted("That certificate is not from this grid.", _ASK)
        if self._trust.is_revoked(identity):
            raise NotPermitted(f"{identity.name} was expelled from this grid.", _ASK)
        if self._clock() > identity.expires + RETURN_WITHIN:
            what = "The certificate ended more than 14 days ago."
            raise NotPermitted(what, f"Ask for a ticket: peerpacs invite --replace {identity.node_id}")
        node_id, key = read_request(csr)
        if node_id != identity.node_id or not is_signed(public_key(old), signature, return_text(csr, nonce)):
            raise NotPermitted("The request is not signed with the key of that certificate.", _ASK)
        row = self._tables.peers.get(node_id.encode())
        known = Applicant(identity.name) if row is None else Applicant(row.name, row.ae_titles, row.addresses)
        request_id, request = self._new_request(node_id, key, known, identity.site, "", is_return=True)
        self._tables.requests.put(request_id.encode(), request)
        return Pending(request_id, request.words, request.site)

    def _is_ours(self, certificate: x509.Certificate) -> bool:
        return any(is_issued_by(certificate, each) for each in self._trust.authorities())

    def resume(self, request_id: str, signature: bytes, nonce: bytes) -> Pending | tuple[bytes, ...]:
        """Return the chain when the request was approved, or that it still waits.

        Raises:
            NotFound: there is no such request, or the key is not the one that waits.
            NotPermitted: it was denied.
        """
        request = self._tables.requests.get(request_id.encode()[:64])
        if request is None or not is_signed(
            parse_public_key(request.spki), signature, resume_text(request_id, nonce)
        ):
            raise NotFound("No such request waits here.", _ASK)
        if request.state == "denied":
            reason = f": {request.reason}" if request.reason else ""
            raise NotPermitted(f"{request.who} did not approve this request{reason}.", _ASK)
        return request.chain or Pending(request_id, request.words, request.site)

    def requests(self) -> list[tuple[str, Request]]:
        """Return the requests that wait, oldest first."""
        found = [(key.decode(), row) for key, row in self._tables.requests.scan() if row.state == "pending"]
        return sorted(found, key=lambda each: each[1].received)

    def approve(self, beginning: str, who: str) -> Request:
        """Issue the certificate a request asks for, once two people have compared the words.

        Raises:
            NotFound: no request that waits begins so, or several do.
        """

        request_id, request = self._waiting(beginning)
        if request.replace:
            self._authority.revoke(request.node_id)
        node = Node(request.node_id, request.site, request.name)
        chain = self._authority.issue(node, parse_public_key(request.spki))
        decided = self._decide(request_id, lambda row: replace(row, state="approved", who=who, chain=chain))
        self._admit(decided)
        return decided

    def deny(self, beginning: str, who: str, reason: str = "") -> Request:
        """Refuse a request.

        Raises:
            NotFound: no request that waits begins so, or several do.
        """
        request_id, _ = self._waiting(beginning)
        reason = reason[:200]
        return self._decide(request_id, lambda row: replace(row, state="denied", who=who, reason=reason))

    def _waiting(self, beginning: str) -> tuple[str, Request]:
        found = [each for each in self.requests() if beginning and each[0].startswith(beginning.lower())]
        if len(found) != 1:
            what = f"{len(found) or 'No'} requests that wait begin with {beginning!r}."
            raise NotFound(what, "List them with: peerpacs approve")
        return found[0]

    def _decide(self, request_id: str, change: Callable[[Request], Request]) -> Request:
        decided: list[Request] = []

        def decide(row: Request | None) -> Request | None:
            if row is None or row.state != "pending":
                return row
            decided.append(change(row))
            return decided[0]

        self._tables.requests.change({request_id.encode(): decide})
        if not decided:
            raise NotFound(f"Somebody else decided on {request_id} in this moment.")
        return decided[0]

    def _admit(self, request: Request) -> None:
        known = self._tables.peers.get(request.node_id.encode())
        row = PeerRow(
            node_id=request.node_id,
            name=request.name,
            site=request.site,
            addresses=request.addresses,
            ae_titles=request.ae_titles,
            is_dial_only=request.is_dial_only,
            static=known.static if known else (),
            since=max(int(self._clock()), self._trust.revoked_since(request.node_id) + 1),
        )
        self._tables.peers.put(request.node_id.encode(), row)
        self._tables.departed.delete(request.node_id.encode())
        if request.replace:
            return  # what the node may do here was decided before, and goes on to count
        for number, grant in enumerate(TEMPLATES.get(request.template, ())):
            own = replace(grant, peer=f"node:{request.node_id}")
            self._tables.grants.put(f"{request.node_id}/{number}".encode(), own)

    def step(self) -> None:
        """Forget invitations whose time is over, and what was decided long ago."""
        now = self._clock()
        for key, invitation in list(self._tables.invitations.scan()):
            if invitation.expires + _KEPT < now:
                self._tables.invitations.delete(key)
        for key, request in list(self._tables.requests.scan()):
            if request.received + _KEPT < now:
                self._tables.requests.delete(key)


def read_request(csr: bytes) -> tuple[str, bytes]:
    """Return (node_id, SubjectPublicKeyInfo) of a PKCS#10 request that its own key signed.

    Raises:
        BadRequest: it is not one, or was changed on its way.
    """
    try:
        request = x509.load_der_x509_csr(csr)
        is_whole = request.is_signature_valid
        names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        found = [node_of_server_name(name) for name in names.get_values_for_type(x509.DNSName)]
    except Exception as error:  # hostile bytes make the parser fail in many ways
        raise BadRequest("The request for a certificate cannot be read.") from error
    key = public_key(request)
    if not is_whole or len(found) != 1 or not found[0]:
        raise BadRequest("The request for a certificate was changed on its way.")
    return found[0], spki(key)


def _name(text: str, node_id: str) -> str:
    clean = "".join(letter for letter in text if letter.isprintable()).strip()
    return clean[:64] or node_id[:8]
