from protos import objects_pb2 as _objects_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CopyItem(_message.Message):
    __slots__ = ("series", "instance", "sha256", "size", "source", "received", "sop_class", "syntax")
    SERIES_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_FIELD_NUMBER: _ClassVar[int]
    SOP_CLASS_FIELD_NUMBER: _ClassVar[int]
    SYNTAX_FIELD_NUMBER: _ClassVar[int]
    series: str
    instance: str
    sha256: bytes
    size: int
    source: str
    received: int
    sop_class: str
    syntax: str
    def __init__(self, series: _Optional[str] = ..., instance: _Optional[str] = ..., sha256: _Optional[bytes] = ..., size: _Optional[int] = ..., source: _Optional[str] = ..., received: _Optional[int] = ..., sop_class: _Optional[str] = ..., syntax: _Optional[str] = ...) -> None: ...

class KeepRequest(_message.Message):
    __slots__ = ("archive", "study", "items", "decisions", "statement", "readable")
    ARCHIVE_FIELD_NUMBER: _ClassVar[int]
    STUDY_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    DECISIONS_FIELD_NUMBER: _ClassVar[int]
    STATEMENT_FIELD_NUMBER: _ClassVar[int]
    READABLE_FIELD_NUMBER: _ClassVar[int]
    archive: str
    study: str
    items: _containers.RepeatedCompositeFieldContainer[CopyItem]
    decisions: _containers.RepeatedScalarFieldContainer[bytes]
    statement: bytes
    readable: bytes
    def __init__(self, archive: _Optional[str] = ..., study: _Optional[str] = ..., items: _Optional[_Iterable[_Union[CopyItem, _Mapping]]] = ..., decisions: _Optional[_Iterable[bytes]] = ..., statement: _Optional[bytes] = ..., readable: _Optional[bytes] = ...) -> None: ...

class KeepReply(_message.Message):
    __slots__ = ("kept", "failures")
    KEPT_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    kept: _containers.RepeatedScalarFieldContainer[int]
    failures: _containers.RepeatedCompositeFieldContainer[_objects_pb2.ObjectFailure]
    def __init__(self, kept: _Optional[_Iterable[int]] = ..., failures: _Optional[_Iterable[_Union[_objects_pb2.ObjectFailure, _Mapping]]] = ...) -> None: ...

class DropRequest(_message.Message):
    __slots__ = ("archive", "study", "sha256")
    ARCHIVE_FIELD_NUMBER: _ClassVar[int]
    STUDY_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    archive: str
    study: str
    sha256: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, archive: _Optional[str] = ..., study: _Optional[str] = ..., sha256: _Optional[_Iterable[bytes]] = ...) -> None: ...

class DropReply(_message.Message):
    __slots__ = ("dropped",)
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    dropped: int
    def __init__(self, dropped: _Optional[int] = ...) -> None: ...

class ProveRequest(_message.Message):
    __slots__ = ("archive", "study", "sha256", "nonce")
    ARCHIVE_FIELD_NUMBER: _ClassVar[int]
    STUDY_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    archive: str
    study: str
    sha256: _containers.RepeatedScalarFieldContainer[bytes]
    nonce: bytes
    def __init__(self, archive: _Optional[str] = ..., study: _Optional[str] = ..., sha256: _Optional[_Iterable[bytes]] = ..., nonce: _Optional[bytes] = ...) -> None: ...

class ProveReply(_message.Message):
    __slots__ = ("answers", "is_untold")
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    IS_UNTOLD_FIELD_NUMBER: _ClassVar[int]
    answers: _containers.RepeatedScalarFieldContainer[bytes]
    is_untold: bool
    def __init__(self, answers: _Optional[_Iterable[bytes]] = ..., is_untold: _Optional[bool] = ...) -> None: ...

class ListRequest(_message.Message):
    __slots__ = ("archive", "after", "study")
    ARCHIVE_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    STUDY_FIELD_NUMBER: _ClassVar[int]
    archive: str
    after: str
    study: str
    def __init__(self, archive: _Optional[str] = ..., after: _Optional[str] = ..., study: _Optional[str] = ...) -> None: ...

class ListReply(_message.Message):
    __slots__ = ("study", "items", "decisions")
    STUDY_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    DECISIONS_FIELD_NUMBER: _ClassVar[int]
    study: str
    items: _containers.RepeatedCompositeFieldContainer[CopyItem]
    decisions: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, study: _Optional[str] = ..., items: _Optional[_Iterable[_Union[CopyItem, _Mapping]]] = ..., decisions: _Optional[_Iterable[bytes]] = ...) -> None: ...

class ReturnRequest(_message.Message):
    __slots__ = ("owner", "fetch")
    OWNER_FIELD_NUMBER: _ClassVar[int]
    FETCH_FIELD_NUMBER: _ClassVar[int]
    owner: str
    fetch: _objects_pb2.FetchRequest
    def __init__(self, owner: _Optional[str] = ..., fetch: _Optional[_Union[_objects_pb2.FetchRequest, _Mapping]] = ...) -> None: ...

class AllowRequest(_message.Message):
    __slots__ = ("archive", "readers")
    ARCHIVE_FIELD_NUMBER: _ClassVar[int]
    READERS_FIELD_NUMBER: _ClassVar[int]
    archive: str
    readers: bytes
    def __init__(self, archive: _Optional[str] = ..., readers: _Optional[bytes] = ...) -> None: ...

class AllowReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ReadableRequest(_message.Message):
    __slots__ = ("owner", "study")
    OWNER_FIELD_NUMBER: _ClassVar[int]
    STUDY_FIELD_NUMBER: _ClassVar[int]
    owner: str
    study: str
    def __init__(self, owner: _Optional[str] = ..., study: _Optional[str] = ...) -> None: ...

class ReadableReply(_message.Message):
    __slots__ = ("readable",)
    READABLE_FIELD_NUMBER: _ClassVar[int]
    readable: bytes
    def __init__(self, readable: _Optional[bytes] = ...) -> None: ...
