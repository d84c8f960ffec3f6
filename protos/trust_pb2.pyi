from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Letter(_message.Message):
    __slots__ = ("what", "next", "is_quiet")
    WHAT_FIELD_NUMBER: _ClassVar[int]
    NEXT_FIELD_NUMBER: _ClassVar[int]
    IS_QUIET_FIELD_NUMBER: _ClassVar[int]
    what: str
    next: str
    is_quiet: bool
    def __init__(self, what: _Optional[str] = ..., next: _Optional[str] = ..., is_quiet: _Optional[bool] = ...) -> None: ...

class ProbeRequest(_message.Message):
    __slots__ = ("now_ms", "certificate")
    NOW_MS_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    now_ms: int
    certificate: bytes
    def __init__(self, now_ms: _Optional[int] = ..., certificate: _Optional[bytes] = ...) -> None: ...

class ProbeReply(_message.Message):
    __slots__ = ("now_ms", "grid_id", "grid_name", "site", "node_id", "lineage", "features", "protocol", "refusal")
    NOW_MS_FIELD_NUMBER: _ClassVar[int]
    GRID_ID_FIELD_NUMBER: _ClassVar[int]
    GRID_NAME_FIELD_NUMBER: _ClassVar[int]
    SITE_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    LINEAGE_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    now_ms: int
    grid_id: bytes
    grid_name: str
    site: str
    node_id: str
    lineage: _containers.RepeatedScalarFieldContainer[bytes]
    features: int
    protocol: int
    refusal: Letter
    def __init__(self, now_ms: _Optional[int] = ..., grid_id: _Optional[bytes] = ..., grid_name: _Optional[str] = ..., site: _Optional[str] = ..., node_id: _Optional[str] = ..., lineage: _Optional[_Iterable[bytes]] = ..., features: _Optional[int] = ..., protocol: _Optional[int] = ..., refusal: _Optional[_Union[Letter, _Mapping]] = ...) -> None: ...

class JoinMessage(_message.Message):
    __slots__ = ("hello", "challenge", "request", "resume", "expired", "pending", "welcome", "refused")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    CHALLENGE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    RESUME_FIELD_NUMBER: _ClassVar[int]
    EXPIRED_FIELD_NUMBER: _ClassVar[int]
    PENDING_FIELD_NUMBER: _ClassVar[int]
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    hello: JoinHello
    challenge: JoinChallenge
    request: JoinRequest
    resume: JoinResume
    expired: JoinExpired
    pending: JoinPending
    welcome: Welcome
    refused: Letter
    def __init__(self, hello: _Optional[_Union[JoinHello, _Mapping]] = ..., challenge: _Optional[_Union[JoinChallenge, _Mapping]] = ..., request: _Optional[_Union[JoinRequest, _Mapping]] = ..., resume: _Optional[_Union[JoinResume, _Mapping]] = ..., expired: _Optional[_Union[JoinExpired, _Mapping]] = ..., pending: _Optional[_Union[JoinPending, _Mapping]] = ..., welcome: _Optional[_Union[Welcome, _Mapping]] = ..., refused: _Optional[_Union[Letter, _Mapping]] = ...) -> None: ...

class JoinHello(_message.Message):
    __slots__ = ("token_id", "nonce")
    TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    token_id: bytes
    nonce: bytes
    def __init__(self, token_id: _Optional[bytes] = ..., nonce: _Optional[bytes] = ...) -> None: ...

class JoinChallenge(_message.Message):
    __slots__ = ("nonce", "proof")
    NONCE_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    nonce: bytes
    proof: bytes
    def __init__(self, nonce: _Optional[bytes] = ..., proof: _Optional[bytes] = ...) -> None: ...

class JoinRequest(_message.Message):
    __slots__ = ("csr", "mac", "applicant")
    CSR_FIELD_NUMBER: _ClassVar[int]
    MAC_FIELD_NUMBER: _ClassVar[int]
    APPLICANT_FIELD_NUMBER: _ClassVar[int]
    csr: bytes
    mac: bytes
    applicant: Applicant
    def __init__(self, csr: _Optional[bytes] = ..., mac: _Optional[bytes] = ..., applicant: _Optional[_Union[Applicant, _Mapping]] = ...) -> None: ...

class Applicant(_message.Message):
    __slots__ = ("name", "site", "ae_titles", "addresses", "is_dial_only")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SITE_FIELD_NUMBER: _ClassVar[int]
    AE_TITLES_FIELD_NUMBER: _ClassVar[int]
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    IS_DIAL_ONLY_FIELD_NUMBER: _ClassVar[int]
    name: str
    site: str
    ae_titles: _containers.RepeatedScalarFieldContainer[str]
    addresses: _containers.RepeatedScalarFieldContainer[str]
    is_dial_only: bool
    def __init__(self, name: _Optional[str] = ..., site: _Optional[str] = ..., ae_titles: _Optional[_Iterable[str]] = ..., addresses: _Optional[_Iterable[str]] = ..., is_dial_only: _Optional[bool] = ...) -> None: ...

class JoinResume(_message.Message):
    __slots__ = ("request_id", "signature")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    signature: bytes
    def __init__(self, request_id: _Optional[str] = ..., signature: _Optional[bytes] = ...) -> None: ...

class JoinExpired(_message.Message):
    __slots__ = ("certificate", "csr", "signature")
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    CSR_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    certificate: bytes
    csr: bytes
    signature: bytes
    def __init__(self, certificate: _Optional[bytes] = ..., csr: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class JoinPending(_message.Message):
    __slots__ = ("request_id", "words", "grid_name", "site")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    WORDS_FIELD_NUMBER: _ClassVar[int]
    GRID_NAME_FIELD_NUMBER: _ClassVar[int]
    SITE_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    words: _containers.RepeatedScalarFieldContainer[str]
    grid_name: str
    site: str
    def __init__(self, request_id: _Optional[str] = ..., words: _Optional[_Iterable[str]] = ..., grid_name: _Optional[str] = ..., site: _Optional[str] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("certificate", "members", "publication")
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    PUBLICATION_FIELD_NUMBER: _ClassVar[int]
    certificate: Certificate
    members: _containers.RepeatedCompositeFieldContainer[Member]
    publication: bytes
    def __init__(self, certificate: _Optional[_Union[Certificate, _Mapping]] = ..., members: _Optional[_Iterable[_Union[Member, _Mapping]]] = ..., publication: _Optional[bytes] = ...) -> None: ...

class RenewRequest(_message.Message):
    __slots__ = ("csr",)
    CSR_FIELD_NUMBER: _ClassVar[int]
    csr: bytes
    def __init__(self, csr: _Optional[bytes] = ...) -> None: ...

class Certificate(_message.Message):
    __slots__ = ("chain", "bundle", "crls")
    CHAIN_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    CRLS_FIELD_NUMBER: _ClassVar[int]
    chain: _containers.RepeatedScalarFieldContainer[bytes]
    bundle: bytes
    crls: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, chain: _Optional[_Iterable[bytes]] = ..., bundle: _Optional[bytes] = ..., crls: _Optional[_Iterable[bytes]] = ...) -> None: ...

class Member(_message.Message):
    __slots__ = ("node_id", "name", "site", "addresses", "ae_titles", "is_dial_only", "is_authority", "revision", "relays", "door", "desk")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    SITE_FIELD_NUMBER: _ClassVar[int]
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    AE_TITLES_FIELD_NUMBER: _ClassVar[int]
    IS_DIAL_ONLY_FIELD_NUMBER: _ClassVar[int]
    IS_AUTHORITY_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    RELAYS_FIELD_NUMBER: _ClassVar[int]
    DOOR_FIELD_NUMBER: _ClassVar[int]
    DESK_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    name: str
    site: str
    addresses: _containers.RepeatedScalarFieldContainer[str]
    ae_titles: _containers.RepeatedScalarFieldContainer[str]
    is_dial_only: bool
    is_authority: bool
    revision: int
    relays: _containers.RepeatedScalarFieldContainer[str]
    door: str
    desk: str
    def __init__(self, node_id: _Optional[str] = ..., name: _Optional[str] = ..., site: _Optional[str] = ..., addresses: _Optional[_Iterable[str]] = ..., ae_titles: _Optional[_Iterable[str]] = ..., is_dial_only: _Optional[bool] = ..., is_authority: _Optional[bool] = ..., revision: _Optional[int] = ..., relays: _Optional[_Iterable[str]] = ..., door: _Optional[str] = ..., desk: _Optional[str] = ...) -> None: ...

class LinkMessage(_message.Message):
    __slots__ = ("hello", "heartbeat", "refused", "moved", "documents", "dial_back", "directory")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    MOVED_FIELD_NUMBER: _ClassVar[int]
    DOCUMENTS_FIELD_NUMBER: _ClassVar[int]
    DIAL_BACK_FIELD_NUMBER: _ClassVar[int]
    DIRECTORY_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    heartbeat: Heartbeat
    refused: Letter
    moved: HeadMoved
    documents: Documents
    dial_back: DialBack
    directory: Directory
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., refused: _Optional[_Union[Letter, _Mapping]] = ..., moved: _Optional[_Union[HeadMoved, _Mapping]] = ..., documents: _Optional[_Union[Documents, _Mapping]] = ..., dial_back: _Optional[_Union[DialBack, _Mapping]] = ..., directory: _Optional[_Union[Directory, _Mapping]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("node_id", "grid_id", "site", "instance", "now_ms", "features", "protocol", "versions", "heads", "seen", "member", "nonce", "certificate", "proof")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    GRID_ID_FIELD_NUMBER: _ClassVar[int]
    SITE_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    NOW_MS_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    HEADS_FIELD_NUMBER: _ClassVar[int]
    SEEN_FIELD_NUMBER: _ClassVar[int]
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    grid_id: bytes
    site: str
    instance: int
    now_ms: int
    features: int
    protocol: int
    versions: Versions
    heads: _containers.RepeatedCompositeFieldContainer[Head]
    seen: _containers.RepeatedCompositeFieldContainer[Seen]
    member: Member
    nonce: bytes
    certificate: bytes
    proof: bytes
    def __init__(self, node_id: _Optional[str] = ..., grid_id: _Optional[bytes] = ..., site: _Optional[str] = ..., instance: _Optional[int] = ..., now_ms: _Optional[int] = ..., features: _Optional[int] = ..., protocol: _Optional[int] = ..., versions: _Optional[_Union[Versions, _Mapping]] = ..., heads: _Optional[_Iterable[_Union[Head, _Mapping]]] = ..., seen: _Optional[_Iterable[_Union[Seen, _Mapping]]] = ..., member: _Optional[_Union[Member, _Mapping]] = ..., nonce: _Optional[bytes] = ..., certificate: _Optional[bytes] = ..., proof: _Optional[bytes] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ("now_ms", "versions", "heads", "seen", "granted")
    NOW_MS_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    HEADS_FIELD_NUMBER: _ClassVar[int]
    SEEN_FIELD_NUMBER: _ClassVar[int]
    GRANTED_FIELD_NUMBER: _ClassVar[int]
    now_ms: int
    versions: Versions
    heads: _containers.RepeatedCompositeFieldContainer[Head]
    seen: _containers.RepeatedCompositeFieldContainer[Seen]
    granted: Granted
    def __init__(self, now_ms: _Optional[int] = ..., versions: _Optional[_Union[Versions, _Mapping]] = ..., heads: _Optional[_Iterable[_Union[Head, _Mapping]]] = ..., seen: _Optional[_Iterable[_Union[Seen, _Mapping]]] = ..., granted: _Optional[_Union[Granted, _Mapping]] = ...) -> None: ...

class Granted(_message.Message):
    __slots__ = ("ops",)
    OPS_FIELD_NUMBER: _ClassVar[int]
    ops: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, ops: _Optional[_Iterable[str]] = ...) -> None: ...

class Versions(_message.Message):
    __slots__ = ("bundle", "publication", "crls")
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    PUBLICATION_FIELD_NUMBER: _ClassVar[int]
    CRLS_FIELD_NUMBER: _ClassVar[int]
    bundle: int
    publication: int
    crls: _containers.RepeatedCompositeFieldContainer[CrlVersion]
    def __init__(self, bundle: _Optional[int] = ..., publication: _Optional[int] = ..., crls: _Optional[_Iterable[_Union[CrlVersion, _Mapping]]] = ...) -> None: ...

class CrlVersion(_message.Message):
    __slots__ = ("issuer", "number")
    ISSUER_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    issuer: bytes
    number: int
    def __init__(self, issuer: _Optional[bytes] = ..., number: _Optional[int] = ...) -> None: ...

class Documents(_message.Message):
    __slots__ = ("bundle", "crls", "publication")
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    CRLS_FIELD_NUMBER: _ClassVar[int]
    PUBLICATION_FIELD_NUMBER: _ClassVar[int]
    bundle: bytes
    crls: _containers.RepeatedScalarFieldContainer[bytes]
    publication: bytes
    def __init__(self, bundle: _Optional[bytes] = ..., crls: _Optional[_Iterable[bytes]] = ..., publication: _Optional[bytes] = ...) -> None: ...

class Head(_message.Message):
    __slots__ = ("share", "epoch", "head", "floor", "archive", "hash_key")
    SHARE_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    FLOOR_FIELD_NUMBER: _ClassVar[int]
    ARCHIVE_FIELD_NUMBER: _ClassVar[int]
    HASH_KEY_FIELD_NUMBER: _ClassVar[int]
    share: int
    epoch: int
    head: int
    floor: int
    archive: str
    hash_key: bytes
    def __init__(self, share: _Optional[int] = ..., epoch: _Optional[int] = ..., head: _Optional[int] = ..., floor: _Optional[int] = ..., archive: _Optional[str] = ..., hash_key: _Optional[bytes] = ...) -> None: ...

class Seen(_message.Message):
    __slots__ = ("share", "epoch", "applied", "chain", "archive")
    SHARE_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    APPLIED_FIELD_NUMBER: _ClassVar[int]
    CHAIN_FIELD_NUMBER: _ClassVar[int]
    ARCHIVE_FIELD_NUMBER: _ClassVar[int]
    share: int
    epoch: int
    applied: int
    chain: int
    archive: str
    def __init__(self, share: _Optional[int] = ..., epoch: _Optional[int] = ..., applied: _Optional[int] = ..., chain: _Optional[int] = ..., archive: _Optional[str] = ...) -> None: ...

class HeadMoved(_message.Message):
    __slots__ = ("head",)
    HEAD_FIELD_NUMBER: _ClassVar[int]
    head: Head
    def __init__(self, head: _Optional[_Union[Head, _Mapping]] = ...) -> None: ...

class DialBack(_message.Message):
    __slots__ = ("token",)
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    token: str
    def __init__(self, token: _Optional[str] = ...) -> None: ...

class Directory(_message.Message):
    __slots__ = ("members", "departures")
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    DEPARTURES_FIELD_NUMBER: _ClassVar[int]
    members: _containers.RepeatedCompositeFieldContainer[Member]
    departures: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, members: _Optional[_Iterable[_Union[Member, _Mapping]]] = ..., departures: _Optional[_Iterable[bytes]] = ...) -> None: ...

class FarewellRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class FarewellReply(_message.Message):
    __slots__ = ("alone",)
    ALONE_FIELD_NUMBER: _ClassVar[int]
    alone: int
    def __init__(self, alone: _Optional[int] = ...) -> None: ...

class LeaveRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class LeaveReply(_message.Message):
    __slots__ = ("receipt", "certificate")
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    receipt: bytes
    certificate: bytes
    def __init__(self, receipt: _Optional[bytes] = ..., certificate: _Optional[bytes] = ...) -> None: ...
