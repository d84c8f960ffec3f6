from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CertifyRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CertifyReply(_message.Message):
    __slots__ = ("certificate",)
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    certificate: bytes
    def __init__(self, certificate: _Optional[bytes] = ...) -> None: ...

class ProjectOffer(_message.Message):
    __slots__ = ("project", "title", "profile", "policy", "ends", "key_id", "key", "partners")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    ENDS_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    PARTNERS_FIELD_NUMBER: _ClassVar[int]
    project: str
    title: str
    profile: str
    policy: str
    ends: str
    key_id: str
    key: bytes
    partners: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, project: _Optional[str] = ..., title: _Optional[str] = ..., profile: _Optional[str] = ..., policy: _Optional[str] = ..., ends: _Optional[str] = ..., key_id: _Optional[str] = ..., key: _Optional[bytes] = ..., partners: _Optional[_Iterable[str]] = ...) -> None: ...

class OfferReply(_message.Message):
    __slots__ = ("is_in_force",)
    IS_IN_FORCE_FIELD_NUMBER: _ClassVar[int]
    is_in_force: bool
    def __init__(self, is_in_force: _Optional[bool] = ...) -> None: ...

class ListLine(_message.Message):
    __slots__ = ("line", "patient", "issuer", "accession", "study", "subject_id", "time_point")
    LINE_FIELD_NUMBER: _ClassVar[int]
    PATIENT_FIELD_NUMBER: _ClassVar[int]
    ISSUER_FIELD_NUMBER: _ClassVar[int]
    ACCESSION_FIELD_NUMBER: _ClassVar[int]
    STUDY_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_ID_FIELD_NUMBER: _ClassVar[int]
    TIME_POINT_FIELD_NUMBER: _ClassVar[int]
    line: int
    patient: str
    issuer: str
    accession: str
    study: str
    subject_id: str
    time_point: str
    def __init__(self, line: _Optional[int] = ..., patient: _Optional[str] = ..., issuer: _Optional[str] = ..., accession: _Optional[str] = ..., study: _Optional[str] = ..., subject_id: _Optional[str] = ..., time_point: _Optional[str] = ...) -> None: ...

class ExportOrder(_message.Message):
    __slots__ = ("order", "project", "key_id", "profile", "purpose", "query", "lines", "is_standing", "archive")
    ORDER_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    PURPOSE_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    LINES_FIELD_NUMBER: _ClassVar[int]
    IS_STANDING_FIELD_NUMBER: _ClassVar[int]
    ARCHIVE_FIELD_NUMBER: _ClassVar[int]
    order: str
    project: str
    key_id: str
    profile: str
    purpose: str
    query: _containers.RepeatedScalarFieldContainer[str]
    lines: _containers.RepeatedCompositeFieldContainer[ListLine]
    is_standing: bool
    archive: str
    def __init__(self, order: _Optional[str] = ..., project: _Optional[str] = ..., key_id: _Optional[str] = ..., profile: _Optional[str] = ..., purpose: _Optional[str] = ..., query: _Optional[_Iterable[str]] = ..., lines: _Optional[_Iterable[_Union[ListLine, _Mapping]]] = ..., is_standing: _Optional[bool] = ..., archive: _Optional[str] = ...) -> None: ...

class ExportPreview(_message.Message):
    __slots__ = ("subjects", "studies", "instances", "megabytes", "smallest", "questions_left", "state", "lines")
    SUBJECTS_FIELD_NUMBER: _ClassVar[int]
    STUDIES_FIELD_NUMBER: _ClassVar[int]
    INSTANCES_FIELD_NUMBER: _ClassVar[int]
    MEGABYTES_FIELD_NUMBER: _ClassVar[int]
    SMALLEST_FIELD_NUMBER: _ClassVar[int]
    QUESTIONS_LEFT_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    LINES_FIELD_NUMBER: _ClassVar[int]
    subjects: int
    studies: int
    instances: int
    megabytes: int
    smallest: int
    questions_left: int
    state: str
    lines: _containers.RepeatedCompositeFieldContainer[LineFinding]
    def __init__(self, subjects: _Optional[int] = ..., studies: _Optional[int] = ..., instances: _Optional[int] = ..., megabytes: _Optional[int] = ..., smallest: _Optional[int] = ..., questions_left: _Optional[int] = ..., state: _Optional[str] = ..., lines: _Optional[_Iterable[_Union[LineFinding, _Mapping]]] = ...) -> None: ...

class LineFinding(_message.Message):
    __slots__ = ("line", "finding", "why")
    LINE_FIELD_NUMBER: _ClassVar[int]
    FINDING_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    line: int
    finding: str
    why: str
    def __init__(self, line: _Optional[int] = ..., finding: _Optional[str] = ..., why: _Optional[str] = ...) -> None: ...

class ExportName(_message.Message):
    __slots__ = ("order",)
    ORDER_FIELD_NUMBER: _ClassVar[int]
    order: str
    def __init__(self, order: _Optional[str] = ...) -> None: ...

class ExportStanding(_message.Message):
    __slots__ = ("standing", "why", "releases")
    STANDING_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    RELEASES_FIELD_NUMBER: _ClassVar[int]
    standing: str
    why: str
    releases: _containers.RepeatedCompositeFieldContainer[Release]
    def __init__(self, standing: _Optional[str] = ..., why: _Optional[str] = ..., releases: _Optional[_Iterable[_Union[Release, _Mapping]]] = ...) -> None: ...

class Release(_message.Message):
    __slots__ = ("export", "manifest", "instances", "size")
    EXPORT_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    INSTANCES_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    export: str
    manifest: str
    instances: int
    size: int
    def __init__(self, export: _Optional[str] = ..., manifest: _Optional[str] = ..., instances: _Optional[int] = ..., size: _Optional[int] = ...) -> None: ...

class ReleaseRequest(_message.Message):
    __slots__ = ("order", "export", "have")
    ORDER_FIELD_NUMBER: _ClassVar[int]
    EXPORT_FIELD_NUMBER: _ClassVar[int]
    HAVE_FIELD_NUMBER: _ClassVar[int]
    order: str
    export: str
    have: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, order: _Optional[str] = ..., export: _Optional[str] = ..., have: _Optional[_Iterable[str]] = ...) -> None: ...

class ReleasePiece(_message.Message):
    __slots__ = ("name", "size", "data", "is_end")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    IS_END_FIELD_NUMBER: _ClassVar[int]
    name: str
    size: int
    data: bytes
    is_end: bool
    def __init__(self, name: _Optional[str] = ..., size: _Optional[int] = ..., data: _Optional[bytes] = ..., is_end: _Optional[bool] = ...) -> None: ...

class TookReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class SubjectWithdrawal(_message.Message):
    __slots__ = ("project", "subject", "reason")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    project: str
    subject: str
    reason: str
    def __init__(self, project: _Optional[str] = ..., subject: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class SubjectWithdrawn(_message.Message):
    __slots__ = ("removed", "copies")
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    COPIES_FIELD_NUMBER: _ClassVar[int]
    removed: int
    copies: _containers.RepeatedCompositeFieldContainer[CopyOutside]
    def __init__(self, removed: _Optional[int] = ..., copies: _Optional[_Iterable[_Union[CopyOutside, _Mapping]]] = ...) -> None: ...

class CopyOutside(_message.Message):
    __slots__ = ("export", "target", "when")
    EXPORT_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    WHEN_FIELD_NUMBER: _ClassVar[int]
    export: str
    target: str
    when: float
    def __init__(self, export: _Optional[str] = ..., target: _Optional[str] = ..., when: _Optional[float] = ...) -> None: ...
