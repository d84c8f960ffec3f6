"""Both ends of the Catalog and Query services: the owner's handlers, and an owner at the end of a channel."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

from catalog import Entry, Query
from protos import catalog_pb2 as pb
from protos import catalog_pb2_grpc as services

from . import catalog_wire as wire
from .ahead import ahead
from .asking import (
    Asked,
    LiveMatch,
    answer,
    manifest,
    match_bytes,
    query_bytes,
    read_manifest,
    read_match,
    read_query,
)
from .messages import BucketRequest, DigestReply, PullReply, PullRequest, Repair
from .serving import LogOwner

_ENTRIES_AT_ONCE = 2000
_MATCHES_AT_ONCE = 20


class Granted(NamedTuple):
    """What a caller may ask of one share of one archive."""

    owner: LogOwner
    catalog: Asked
    narrow: Callable[[Query], Query] = lambda query: query
    """Makes a question ask no more than is granted to be found."""


class Grants(Protocol):
    """Policy, as these services need it: the owner decides for each call."""

    def catalog(self, context: Any, archive: str, share: int) -> Granted:
        """Return what may be listed; raises NotPermitted."""

    def live(self, context: Any, archive: str, share: int) -> Granted:
        """Return what may be asked; raises NotPermitted."""


class CatalogService(services.CatalogServicer):
    """Serves followers; whoever registers it turns PacsErrors into statuses."""

    def __init__(self, grants: Grants) -> None:
        self._grants = grants

    def Pull(self, request: pb.PullRequest, context: Any) -> Iterator[pb.PullReply]:
        """Answer what changed behind what the follower has seen."""
        granted = self._grants.catalog(context, request.archive, request.share)
        yield from ahead(map(wire.pull_reply, granted.owner.pull(wire.read_pull_request(request))))

    def Digests(self, request: pb.DigestRequest, context: Any) -> pb.DigestReply:
        """Answer the digests of all buckets."""
        granted = self._grants.catalog(context, request.archive, request.share)
        return wire.digest_reply(granted.owner.digests(request.share))

    def Bucket(self, request: pb.BucketRequest, context: Any) -> Iterator[pb.Repair]:
        """Answer what is wrong in the listed buckets."""
        granted = self._grants.catalog(context, request.archive, request.share)
        for reply in granted.owner.bucket(wire.read_bucket_request(request)):
            yield wire.repair(reply)

    def Manifest(self, request: pb.ManifestRequest, context: Any) -> Iterator[pb.ManifestReply]:
        """Answer the instances of a series."""
        granted = self._grants.catalog(context, request.archive, request.share)
        entries = manifest(granted.catalog, request.share, request.study, request.series)
        for start in range(0, len(entries), _ENTRIES_AT_ONCE):
            yield pb.ManifestReply(entries=entries[start : start + _ENTRIES_AT_ONCE])


class QueryService(services.QueryServicer):
    """Answers peers' questions from what is held here, and from nothing else: none travels in circles."""

    def __init__(self, grants: Grants) -> None:
        self._grants = grants

    def Find(self, request: pb.FindRequest, context: Any) -> Iterator[pb.FindReply]:
        """Answer a question, at most `limit` studies."""
        granted = self._grants.live(context, request.archive, request.share)
        query = granted.narrow(read_query(request.query))
        found: list[bytes] = []
        for count, match in enumerate(answer(granted.catalog, request.share, query, request.limit)):
            if count == request.limit:
                yield pb.FindReply(matches=found, is_cut=True)
                return
            found.append(match_bytes(match))
            if len(found) == _MATCHES_AT_ONCE:
                yield pb.FindReply(matches=found)
                found = []
        if found:
            yield pb.FindReply(matches=found)


class Stub(Protocol):
    """As much of the generated stubs as is called here; streams are iterators."""

    Pull: Any
    Digests: Any
    Bucket: Any
    Manifest: Any


Letters = Callable[[], AbstractContextManager[None]]
"""Turns what the channel raises inside into PacsErrors."""


class RemoteOwner:
    """A share's owner at the end of a channel; satisfies `Owner`. `timeout` is seconds of one exchange."""

    def __init__(self, stub: Stub, archive: str, letters: Letters, timeout: float = 60.0) -> None:
        self._stub = stub
        self._archive = archive
        self._letters = letters
        self._timeout = timeout

    def pull(self, request: PullRequest) -> Iterator[PullReply]:
        """See `Owner.pull`; what came before the time was up stays, and the next pull goes on behind it."""
        with self._letters():
            call = self._stub.Pull(wire.pull_request(self._archive, request), timeout=self._timeout)
            # While a part of a snapshot is written into the mirror, the next one comes and is unpacked.
            yield from ahead(map(wire.read_pull_reply, call), call.cancel)

    def digests(self, share: int) -> DigestReply:
        """See `Owner.digests`."""
        request = pb.DigestRequest(archive=self._archive, share=share)
        with self._letters():
            return wire.read_digest_reply(self._stub.Digests(request, timeout=self._timeout))

    def bucket(self, request: BucketRequest) -> Iterator[Repair]:
        """See `Owner.bucket`."""
        with self._letters():
            for reply in self._stub.Bucket(
                wire.bucket_request(self._archive, request), timeout=self._timeout
            ):
                yield wire.read_repair(reply)

    def manifest(
        self, share: int, study: str, series: str, place: Callable[[Entry], bytes], timeout: float
    ) -> list[Entry]:
        """Return the instances of a series, with the places from which they can be opened here."""
        request = pb.ManifestRequest(archive=self._archive, share=share, study=study, series=series)
        with self._letters():
            # Whoever is asked has said that it is there; after a restart the connection is only made anew.
            replies = list(self._stub.Manifest(request, timeout=timeout, wait_for_ready=True))
        return read_manifest([entry for reply in replies for entry in reply.entries], place)


def find_request(archive: str, share: int, query: Query, limit: int) -> pb.FindRequest:
    """Return a question as it goes to an owner."""
    return pb.FindRequest(archive=archive, share=share, query=query_bytes(query), limit=limit)


def read_find(replies: list[pb.FindReply]) -> tuple[list[LiveMatch], bool]:
    """Return an owner's matches, and whether there are more than were asked for."""
    matches = [read_match(match) for reply in replies for match in reply.matches]
    return matches, any(reply.is_cut for reply in replies)
