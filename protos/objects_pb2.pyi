from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class FetchRequest(_message.Message):
    __slots__ = ("archive", "items", "priority")
    ARCHIVE_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    archive: str
    items: _containers.RepeatedCompositeFieldContainer[ObjectItem]
    priority: int
    def __init__(self, archive: _Optional[str] = ..., items: _Optional[_Iterable[_Union[ObjectItem, _Mapping]]] = ..., priority: _Optional[int] = ...) -> None: ...

class ObjectItem(_message.Message):
    __slots__ = ("study", "series", "instance", "sha256", "offset")
    STUDY_FIELD_NUMBER: _ClassVar[int]
    SERIES_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    study: str
    series: str
    instance: str
    sha256: bytes
    offset: int
    def __init__(self, study: _Optional[str] = ..., series: _Optional[str] = ..., instance: _Optional[str] = ..., sha256: _Optional[bytes] = ..., offset: _Optional[int] = ...) -> None: ...

class FetchReply(_message.Message):
    __slots__ = ("begin", "data", "failure", "is_end")
    BEGIN_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    IS_END_FIELD_NUMBER: _ClassVar[int]
    begin: ObjectBegin
    data: bytes
    failure: ObjectFailure
    is_end: bool
    def __init__(self, begin: _Optional[_Union[ObjectBegin, _Mapping]] = ..., data: _Optional[bytes] = ..., failure: _Optional[_Union[ObjectFailure, _Mapping]] = ..., is_end: _Optional[bool] = ...) -> None: ...

class ObjectBegin(_message.Message):
    __slots__ = ("index", "size", "corrections", "system", "is_limited")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    CORRECTIONS_FIELD_NUMBER: _ClassVar[int]
    SYSTEM_FIELD_NUMBER: _ClassVar[int]
    IS_LIMITED_FIELD_NUMBER: _ClassVar[int]
    index: int
    size: int
    corrections: _containers.RepeatedScalarFieldContainer[bytes]
    system: str
    is_limited: bool
    def __init__(self, index: _Optional[int] = ..., size: _Optional[int] = ..., corrections: _Optional[_Iterable[bytes]] = ..., system: _Optional[str] = ..., is_limited: _Optional[bool] = ...) -> None: ...

class ObjectFailure(_message.Message):
    __slots__ = ("index", "kind", "what", "next")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    WHAT_FIELD_NUMBER: _ClassVar[int]
    NEXT_FIELD_NUMBER: _ClassVar[int]
    index: int
    kind: str
    what: str
    next: str
    def __init__(self, index: _Optional[int] = ..., kind: _Optional[str] = ..., what: _Optional[str] = ..., next: _Optional[str] = ...) -> None: ...
