from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Entrusted(_message.Message):
    __slots__ = ("id", "sealed")
    ID_FIELD_NUMBER: _ClassVar[int]
    SEALED_FIELD_NUMBER: _ClassVar[int]
    id: str
    sealed: bytes
    def __init__(self, id: _Optional[str] = ..., sealed: _Optional[bytes] = ...) -> None: ...

class EntrustRequest(_message.Message):
    __slots__ = ("archive", "decisions")
    ARCHIVE_FIELD_NUMBER: _ClassVar[int]
    DECISIONS_FIELD_NUMBER: _ClassVar[int]
    archive: str
    decisions: _containers.RepeatedCompositeFieldContainer[Entrusted]
    def __init__(self, archive: _Optional[str] = ..., decisions: _Optional[_Iterable[_Union[Entrusted, _Mapping]]] = ...) -> None: ...

class EntrustReply(_message.Message):
    __slots__ = ("shelf",)
    SHELF_FIELD_NUMBER: _ClassVar[int]
    shelf: str
    def __init__(self, shelf: _Optional[str] = ...) -> None: ...

class RecallRequest(_message.Message):
    __slots__ = ("archive",)
    ARCHIVE_FIELD_NUMBER: _ClassVar[int]
    archive: str
    def __init__(self, archive: _Optional[str] = ...) -> None: ...
