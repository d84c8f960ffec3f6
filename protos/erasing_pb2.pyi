from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class EraseRequest(_message.Message):
    __slots__ = ("archive", "erasures")
    ARCHIVE_FIELD_NUMBER: _ClassVar[int]
    ERASURES_FIELD_NUMBER: _ClassVar[int]
    archive: str
    erasures: _containers.RepeatedCompositeFieldContainer[Erasure]
    def __init__(self, archive: _Optional[str] = ..., erasures: _Optional[_Iterable[_Union[Erasure, _Mapping]]] = ...) -> None: ...

class Erasure(_message.Message):
    __slots__ = ("decision", "target", "when", "seal", "patients")
    DECISION_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    WHEN_FIELD_NUMBER: _ClassVar[int]
    SEAL_FIELD_NUMBER: _ClassVar[int]
    PATIENTS_FIELD_NUMBER: _ClassVar[int]
    decision: str
    target: _containers.RepeatedScalarFieldContainer[str]
    when: int
    seal: bytes
    patients: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, decision: _Optional[str] = ..., target: _Optional[_Iterable[str]] = ..., when: _Optional[int] = ..., seal: _Optional[bytes] = ..., patients: _Optional[_Iterable[bytes]] = ...) -> None: ...

class EraseReply(_message.Message):
    __slots__ = ("receipts",)
    RECEIPTS_FIELD_NUMBER: _ClassVar[int]
    receipts: _containers.RepeatedCompositeFieldContainer[Receipt]
    def __init__(self, receipts: _Optional[_Iterable[_Union[Receipt, _Mapping]]] = ...) -> None: ...

class Receipt(_message.Message):
    __slots__ = ("decision", "done", "what")
    DECISION_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    WHAT_FIELD_NUMBER: _ClassVar[int]
    decision: str
    done: int
    what: str
    def __init__(self, decision: _Optional[str] = ..., done: _Optional[int] = ..., what: _Optional[str] = ...) -> None: ...

class RememberRequest(_message.Message):
    __slots__ = ("archive",)
    ARCHIVE_FIELD_NUMBER: _ClassVar[int]
    archive: str
    def __init__(self, archive: _Optional[str] = ...) -> None: ...
