from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Position(_message.Message):
    __slots__ = ("epoch", "seq", "chain")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    CHAIN_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    seq: int
    chain: bytes
    def __init__(self, epoch: _Optional[int] = ..., seq: _Optional[int] = ..., chain: _Optional[bytes] = ...) -> None: ...

class Rows(_message.Message):
    __slots__ = ("seqs", "keys", "rows")
    SEQS_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    seqs: _containers.RepeatedScalarFieldContainer[int]
    keys: _containers.RepeatedScalarFieldContainer[bytes]
    rows: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, seqs: _Optional[_Iterable[int]] = ..., keys: _Optional[_Iterable[bytes]] = ..., rows: _Optional[_Iterable[bytes]] = ...) -> None: ...

class PullRequest(_message.Message):
    __slots__ = ("archive", "share", "seen", "reached", "resume_at", "resume_after")
    ARCHIVE_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    SEEN_FIELD_NUMBER: _ClassVar[int]
    REACHED_FIELD_NUMBER: _ClassVar[int]
    RESUME_AT_FIELD_NUMBER: _ClassVar[int]
    RESUME_AFTER_FIELD_NUMBER: _ClassVar[int]
    archive: str
    share: int
    seen: Position
    reached: Position
    resume_at: Position
    resume_after: bytes
    def __init__(self, archive: _Optional[str] = ..., share: _Optional[int] = ..., seen: _Optional[_Union[Position, _Mapping]] = ..., reached: _Optional[_Union[Position, _Mapping]] = ..., resume_at: _Optional[_Union[Position, _Mapping]] = ..., resume_after: _Optional[bytes] = ...) -> None: ...

class PullReply(_message.Message):
    __slots__ = ("delta", "snapshot_begin", "snapshot_part", "snapshot_end")
    DELTA_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_BEGIN_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_PART_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_END_FIELD_NUMBER: _ClassVar[int]
    delta: Delta
    snapshot_begin: Position
    snapshot_part: SnapshotPart
    snapshot_end: SnapshotEnd
    def __init__(self, delta: _Optional[_Union[Delta, _Mapping]] = ..., snapshot_begin: _Optional[_Union[Position, _Mapping]] = ..., snapshot_part: _Optional[_Union[SnapshotPart, _Mapping]] = ..., snapshot_end: _Optional[_Union[SnapshotEnd, _Mapping]] = ...) -> None: ...

class Delta(_message.Message):
    __slots__ = ("prev", "at", "head", "rows")
    PREV_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    prev: int
    at: Position
    head: Position
    rows: Rows
    def __init__(self, prev: _Optional[int] = ..., at: _Optional[_Union[Position, _Mapping]] = ..., head: _Optional[_Union[Position, _Mapping]] = ..., rows: _Optional[_Union[Rows, _Mapping]] = ...) -> None: ...

class SnapshotPart(_message.Message):
    __slots__ = ("at", "head", "after", "last", "rows")
    AT_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    at: Position
    head: Position
    after: bytes
    last: bytes
    rows: Rows
    def __init__(self, at: _Optional[_Union[Position, _Mapping]] = ..., head: _Optional[_Union[Position, _Mapping]] = ..., after: _Optional[bytes] = ..., last: _Optional[bytes] = ..., rows: _Optional[_Union[Rows, _Mapping]] = ...) -> None: ...

class SnapshotEnd(_message.Message):
    __slots__ = ("at", "after")
    AT_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    at: Position
    after: bytes
    def __init__(self, at: _Optional[_Union[Position, _Mapping]] = ..., after: _Optional[bytes] = ...) -> None: ...

class DigestRequest(_message.Message):
    __slots__ = ("archive", "share")
    ARCHIVE_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    archive: str
    share: int
    def __init__(self, archive: _Optional[str] = ..., share: _Optional[int] = ...) -> None: ...

class DigestReply(_message.Message):
    __slots__ = ("head", "buckets", "counts", "sums")
    HEAD_FIELD_NUMBER: _ClassVar[int]
    BUCKETS_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    SUMS_FIELD_NUMBER: _ClassVar[int]
    head: Position
    buckets: _containers.RepeatedScalarFieldContainer[int]
    counts: _containers.RepeatedScalarFieldContainer[int]
    sums: bytes
    def __init__(self, head: _Optional[_Union[Position, _Mapping]] = ..., buckets: _Optional[_Iterable[int]] = ..., counts: _Optional[_Iterable[int]] = ..., sums: _Optional[bytes] = ...) -> None: ...

class BucketRequest(_message.Message):
    __slots__ = ("archive", "share", "seen", "buckets", "listings")
    ARCHIVE_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    SEEN_FIELD_NUMBER: _ClassVar[int]
    BUCKETS_FIELD_NUMBER: _ClassVar[int]
    LISTINGS_FIELD_NUMBER: _ClassVar[int]
    archive: str
    share: int
    seen: Position
    buckets: _containers.RepeatedScalarFieldContainer[int]
    listings: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, archive: _Optional[str] = ..., share: _Optional[int] = ..., seen: _Optional[_Union[Position, _Mapping]] = ..., buckets: _Optional[_Iterable[int]] = ..., listings: _Optional[_Iterable[bytes]] = ...) -> None: ...

class Repair(_message.Message):
    __slots__ = ("seen", "rows", "gone")
    SEEN_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    GONE_FIELD_NUMBER: _ClassVar[int]
    seen: Position
    rows: Rows
    gone: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, seen: _Optional[_Union[Position, _Mapping]] = ..., rows: _Optional[_Union[Rows, _Mapping]] = ..., gone: _Optional[_Iterable[bytes]] = ...) -> None: ...

class ManifestRequest(_message.Message):
    __slots__ = ("archive", "share", "study", "series")
    ARCHIVE_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    STUDY_FIELD_NUMBER: _ClassVar[int]
    SERIES_FIELD_NUMBER: _ClassVar[int]
    archive: str
    share: int
    study: str
    series: str
    def __init__(self, archive: _Optional[str] = ..., share: _Optional[int] = ..., study: _Optional[str] = ..., series: _Optional[str] = ...) -> None: ...

class ManifestReply(_message.Message):
    __slots__ = ("entries",)
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, entries: _Optional[_Iterable[bytes]] = ...) -> None: ...

class FindRequest(_message.Message):
    __slots__ = ("archive", "share", "query", "limit")
    ARCHIVE_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    archive: str
    share: int
    query: bytes
    limit: int
    def __init__(self, archive: _Optional[str] = ..., share: _Optional[int] = ..., query: _Optional[bytes] = ..., limit: _Optional[int] = ...) -> None: ...

class FindReply(_message.Message):
    __slots__ = ("matches", "is_cut")
    MATCHES_FIELD_NUMBER: _ClassVar[int]
    IS_CUT_FIELD_NUMBER: _ClassVar[int]
    matches: _containers.RepeatedScalarFieldContainer[bytes]
    is_cut: bool
    def __init__(self, matches: _Optional[_Iterable[bytes]] = ..., is_cut: _Optional[bool] = ...) -> None: ...
