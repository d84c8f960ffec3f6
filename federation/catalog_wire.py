"""Messages of catalog synchronisation to protobuf and back; what cannot be is refused here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from catalog import BadRequest, Change, Head
from catalog.log import BUCKETS, Digest
from protos import catalog_pb2 as pb

from .messages import (
    BucketRequest,
    Delta,
    DigestReply,
    PullReply,
    PullRequest,
    Repair,
    Resume,
    SnapshotBegin,
    SnapshotEnd,
    SnapshotPart,
)

_CHAIN: Final = 8
_SUM: Final = 32


def _bad(what: str) -> BadRequest:
    return BadRequest(f"A peer's message cannot be read: {what}.", "Update PeerPACS on both sides.")


def _position(head: Head) -> pb.Position:
    return pb.Position(epoch=head.epoch, seq=head.seq, chain=head.chain)


def _head(position: pb.Position) -> Head:
    if len(position.chain) != _CHAIN:
        raise _bad("a chain value has another length")
    return Head(position.epoch, position.seq, position.chain)


def _put_rows(into: pb.Rows, rows: list[Change]) -> None:
    """Put rows where they go: a message that is handed to another one is copied, with every row in it."""
    into.seqs.extend([row.seq for row in rows])
    into.keys.extend([row.key for row in rows])
    into.rows.extend([row.row for row in rows])


def _changes(rows: pb.Rows) -> list[Change]:
    if not len(rows.seqs) == len(rows.keys) == len(rows.rows):
        raise _bad("rows without numbers")
    return list(map(Change, rows.seqs, rows.keys, rows.rows))


def pull_request(archive: str, request: PullRequest) -> pb.PullRequest:
    """Return the request as it goes over the wire."""
    resume = request.resume
    return pb.PullRequest(
        archive=archive,
        share=request.share,
        seen=_position(request.seen),
        reached=_position(request.reached),
        resume_at=_position(resume.at) if resume else None,
        resume_after=resume.after if resume else b"",
    )


def read_pull_request(request: pb.PullRequest) -> PullRequest:
    """Return what is asked; raises BadRequest."""
    resume = None
    if request.HasField("resume_at"):
        resume = Resume(_head(request.resume_at), request.resume_after)
    return PullRequest(request.share, _head(request.seen), _head(request.reached), resume)


def pull_reply(reply: PullReply) -> pb.PullReply:
    """Return the answer as it goes over the wire."""
    if isinstance(reply, Delta):
        delta = pb.Delta(prev=reply.prev, at=_position(reply.at), head=_position(reply.head))
        made = pb.PullReply(delta=delta)
        _put_rows(made.delta.rows, reply.rows)
        return made
    if isinstance(reply, SnapshotBegin):
        return pb.PullReply(snapshot_begin=_position(reply.at))
    if isinstance(reply, SnapshotPart):
        at, head = _position(reply.at), _position(reply.head)
        part = pb.SnapshotPart(at=at, head=head, after=reply.after, last=reply.last)
        made = pb.PullReply(snapshot_part=part)
        _put_rows(made.snapshot_part.rows, reply.rows)
        return made
    end = pb.SnapshotEnd(at=_position(reply.at), after=reply.after)
    return pb.PullReply(snapshot_end=end)


def read_pull_reply(reply: pb.PullReply) -> PullReply:
    """Return what was answered; raises BadRequest."""
    read = _READ_REPLY.get(reply.WhichOneof("kind") or "")
    if read is None:
        raise _bad("an answer of an unknown kind")
    return read(reply)


def _read_delta(reply: pb.PullReply) -> Delta:
    delta = reply.delta
    return Delta(delta.prev, _head(delta.at), _head(delta.head), _changes(delta.rows))


def _read_part(reply: pb.PullReply) -> SnapshotPart:
    part = reply.snapshot_part
    return SnapshotPart(_head(part.at), _head(part.head), part.after, part.last, _changes(part.rows))


def _read_end(reply: pb.PullReply) -> SnapshotEnd:
    end = reply.snapshot_end
    return SnapshotEnd(_head(end.at), end.after)


_READ_REPLY: Final[dict[str, Callable[[pb.PullReply], PullReply]]] = {
    "delta": _read_delta,
    "snapshot_begin": lambda reply: SnapshotBegin(_head(reply.snapshot_begin)),
    "snapshot_part": _read_part,
    "snapshot_end": _read_end,
}


def digest_reply(reply: DigestReply) -> pb.DigestReply:
    """Return the digests as they go over the wire, those of buckets with rows."""
    known = sorted((bucket, digest) for bucket, digest in reply.digests.items() if digest.rows)
    return pb.DigestReply(
        head=_position(reply.head),
        buckets=[bucket for bucket, _ in known],
        counts=[digest.rows for _, digest in known],
        sums=b"".join(digest.sum for _, digest in known),
    )


def read_digest_reply(reply: pb.DigestReply) -> DigestReply:
    """Return the digests; raises BadRequest."""
    number = len(reply.buckets)
    if len(reply.counts) != number or len(reply.sums) != number * _SUM:
        raise _bad("digests without sums")
    sums = [reply.sums[at : at + _SUM] for at in range(0, len(reply.sums), _SUM)]
    digests = {
        bucket: Digest(count, total)
        for bucket, count, total in zip(reply.buckets, reply.counts, sums, strict=True)
        if bucket < BUCKETS
    }
    return DigestReply(_head(reply.head), digests)


def bucket_request(archive: str, request: BucketRequest) -> pb.BucketRequest:
    """Return the request as it goes over the wire."""
    return pb.BucketRequest(
        archive=archive,
        share=request.share,
        seen=_position(request.seen),
        buckets=list(request.listing),
        listings=list(request.listing.values()),
    )


def read_bucket_request(request: pb.BucketRequest) -> BucketRequest:
    """Return what is asked; raises BadRequest."""
    if len(request.buckets) != len(request.listings):
        raise _bad("buckets without lists")
    listing = dict(zip(request.buckets, request.listings, strict=True))
    return BucketRequest(request.share, _head(request.seen), listing)


def repair(reply: Repair) -> pb.Repair:
    """Return the repair as it goes over the wire."""
    made = pb.Repair(seen=_position(reply.seen), gone=reply.gone)
    _put_rows(made.rows, reply.rows)
    return made


def read_repair(reply: pb.Repair) -> Repair:
    """Return the repair; raises BadRequest."""
    return Repair(_head(reply.seen), _changes(reply.rows), list(reply.gone))
