"""Routes and prefetch, composed: who follows what, what carries it, and how targets are asked."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from catalog import BadRequest, Entry, Matching, NotFound, PatientKey, understand
from node.archives import DEFAULT
from node.bucket.client import Bucket
from node.contracts import Outgoing, Retriever, Scope
from node.dimse import Requestor
from node.forwarding import AeWay, Calling, ForwardCarrier, Sending, Way
from node.keys import question, tag_of, text_of
from node.routing import Prefetch, Router, Routing
from node.routing.checking import RouteDesk, Ways
from node.routing.filing import FileDelivery
from node.routing.prefetching import RecallCarrier
from node.routing.routes import Detail, detail_of
from node.standing import RouteRule, Standing
from node.stow import Root, StowDelivery
from node.transfers import Kind, Order
from node.transfers.messages import Job
from node.transfers.worker import Carrier

from .archive import Archive
from .chores import Chore
from .settings import bucket_settings, limits, secret

if TYPE_CHECKING:
    from .node import Node


class Routed:
    """The standing rules of a node at work."""

    def __init__(self, node: Node, standing: Standing) -> None:
        """Have the archives' events followed."""
        self._node = node
        self._standing = standing
        self._routers = [self._router(archive, standing) for archive in node.archives.values()]
        self.routing = Routing(self._routers, lambda: node.transfers)
        self.prefetch = Prefetch(
            standing.prefetch,
            node.catalog,
            lambda: node.neighbourhood.open_parts,
            node.state,
            lambda: node.transfers,
            node.migrations.is_moved_in,
            node.clock,
        )
        if standing.prefetch:
            node.main.subscribe("prefetch", self.prefetch.complete)

    def _router(self, archive: Archive, standing: Standing) -> Router:
        node = self._node
        rules = [rule for rule in standing.routes if rule.archive == archive.name]
        router = Router(
            rules,
            lambda: archive.scope(archive.plan.ae_title),
            node.state,
            lambda: node.transfers,
            node.migrations.is_moved_in,
            node.clock,
        )
        if rules:
            archive.subscribe("routes", router.take)
        return router

    def check(self) -> None:
        """Make sure that the rules are about archives of this node.

        Raises:
            BadRequest: one is not.
        """
        for rule in self._standing.routes:
            if rule.archive not in self._node.archives:
                what = f"The route {rule.name!r} is of an archive {rule.archive!r}, which is not there."
                raise BadRequest(what, "List them with: peerpacs archives list")

    def chores(self) -> Iterator[Chore]:
        """Yield what is done now and then."""
        for router in self._routers:
            if router.rules:
                yield Chore("routes", 86400.0, router.tidy)
        if self.prefetch.rules:
            yield Chore("prefetch", 1.0, self.prefetch.step)
            yield Chore("prefetch rows", 3600.0, self.prefetch.tidy)

    def carriers(self, calling: Calling) -> dict[Kind, Carrier]:
        """Return who carries which kind of transfer."""
        node = self._node
        ae = AeWay(calling, node.transcoder)

        def to_peer(job: Job, scope: Scope) -> Sending:
            return ae.to(self._title_of(job.order.destination.removeprefix("peer:")), job, scope)

        def to_web(job: Job, scope: Scope) -> Sending:
            return StowDelivery(self._root(self._rule(job.order)))

        def to_bucket(job: Job, scope: Scope) -> Sending:
            return FileDelivery(self._bucket(self._rule(job.order)))

        ways: dict[Kind, Way] = {Kind.DELIVER: ae, Kind.PEER: to_peer, Kind.WEB: to_web, Kind.FILE: to_bucket}
        carriers: dict[Kind, Carrier] = {
            kind: ForwardCarrier(self.scope, way, node.audit) for kind, way in ways.items()
        }
        near = node.neighbourhood
        carriers[Kind.RECALL] = RecallCarrier(
            lambda: near.open_parts, lambda: near.fetching.everywhere, node.config.node.ae_title
        )
        return carriers

    def scope(self, order: Order) -> Scope | None:
        """Return what an order is sent from, through the anonymizer where its rule says so."""
        archive = self._node.archives.get(order.archive)
        if archive is None:
            return None
        scope = archive.scope(archive.plan.ae_title)
        detail = detail_of(order)
        if detail is None or not detail.profile:
            return scope
        return scope._replace(retriever=_Passing(self._node, archive, detail))

    def _rule(self, order: Order) -> RouteRule:
        detail = detail_of(order)
        rule, _ = self.routing.find(detail.route if detail else "")
        return rule

    def _title_of(self, peer: str) -> str:
        """Return the AE title of a node of the grid."""
        for _, row in self._node.grid.tables.peers.scan():
            if peer in (row.name, row.node_id) and row.state == "member" and row.ae_titles:
                return row.ae_titles[0]
        raise NotFound(f"There is no peer {peer!r} in the grid with an AE title.", "See: peerpacs peers")

    def _root(self, rule: RouteRule) -> Root:
        node = self._node
        authorities = node.home / node.config.tls.authorities_file

        def secure() -> ssl.SSLContext:
            context = ssl.create_default_context()
            if authorities.exists():
                context.load_verify_locations(authorities)
            return context

        return Root(rule.to, secret(node.home, rule.token_file, "the rule's token_file"), secure)

    def _bucket(self, rule: RouteRule) -> Bucket:
        node = self._node
        own = {
            key: text
            for key in ("endpoint", "access_key_file", "secret_key_file")
            if (text := getattr(rule, key))
        }
        settings = bucket_settings(rule.to, replace(node.config.s3, **own), node.home)
        return Bucket(settings.endpoint, node.clock)

    def desk(self) -> dict[str, Any]:
        """Return the verbs about routes and prefetch."""
        ways = Ways(self._requestor, self._title_of, self._root, self._bucket)
        return RouteDesk(self.routing, ways).verbs() | {"prefetch": self._announce}

    def _announce(self, patient: str, issuer: str = "", who: str = "") -> list[dict[str, Any]]:
        """Fetch earlier studies of a patient who is expected, from wherever they lie in the grid."""
        return self.prefetch.announce(PatientKey(issuer, patient), who)

    def _requestor(self, ae_title: str, archive: str) -> Requestor:
        return requestor(self._node, ae_title, archive)


def requestor(node: Node, ae_title: str, archive: str = DEFAULT) -> Requestor:
    """Return what asks a device of the book.

    Raises:
        NotFound: it is not in the book with a port.
    """
    device = node.devices.find(ae_title)
    if not device.port:
        remedy = f"peerpacs devices edit {ae_title} --address HOST --port PORT"
        raise NotFound(f"{ae_title} is in the device book without a port.", remedy)
    return Requestor(
        node.archive(archive).plan.ae_title,
        device.address,
        device.port,
        device.ae_title,
        limits=limits(node.config),
        transfer_syntaxes=device.transfer_syntaxes,
        security=node.credentials.towards(device),
    )


class _Passing:
    """Satisfies `Retriever`: opens the project's door when something is to pass; a refusal is told then."""

    def __init__(self, node: Node, archive: Archive, detail: Detail) -> None:
        self._node, self._archive, self._detail = node, archive, detail
        self._passing: Retriever | None = None

    def expect(self, entries: Any, is_unwanted: Callable[[], bool] = bool) -> None:
        """See `Retriever.expect`."""
        self._archive.retriever.expect(entries, is_unwanted)

    def open(self, entry: Entry) -> Outgoing:
        """See `PassingRetriever.open`."""
        from node.research.passing import PassingRetriever

        if self._passing is None:
            self._passing = PassingRetriever(
                self._archive.retriever,
                self._archive.name,
                self._detail.profile,
                self._node.research.parts(self._detail.profile),
                self._detail.route,
                self._issuer,
            )
        return self._passing.open(entry)

    def _issuer(self, study: str) -> str:
        """Return whose the Patient ID of a study is, as exports take it."""
        asked = question([f"StudyInstanceUID={study}", "IssuerOfPatientID"])
        query = understand(asked, patient_root=True, matching=Matching.RELATIONAL, is_lenient=False)
        tag = tag_of("IssuerOfPatientID")
        issuers = [text_of(each.get(tag, {})) for each in self._archive.catalog.find(query)]
        return next(iter(issuers), "") or self._archive.plan.issuer
