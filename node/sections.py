"""The sections of `peerpacs.toml` as structs: the only place for types and ranges of settings."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final

import msgspec
from msgspec import Meta

GRID_SUFFIX: Final = "_GRID"
REJECTED_SUFFIX: Final = "_REJ"
"""Behind an AE title: what was rejected there, for those whose row of the device book names it."""


class UnknownSenders(StrEnum):
    """What becomes of a C-STORE from an AE title that is not in the device book."""

    HOLD = "hold"
    ACCEPT = "accept"
    REFUSE = "refuse"


class LogLevel(StrEnum):
    """How much the log says."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    """How a log line looks; `auto` is text on a terminal and JSON elsewhere."""

    AUTO = "auto"
    TEXT = "text"
    JSON = "json"


class ClientCertificates(StrEnum):
    """Whether a client of the TLS port must show a certificate."""

    NONE = "none"
    OPTIONAL = "optional"
    REQUIRED = "required"


class Checksums(StrEnum):
    """When the S3 client adds and compares checksums of its own."""

    WHEN_REQUIRED = "when_required"
    WHEN_SUPPORTED = "when_supported"


class Encryption(StrEnum):
    """How objects leave the node for a bucket."""

    AES_256_GCM = "aes-256-gcm"
    NONE = "none"


class Confirm(StrEnum):
    """What counts as the bucket's word that it has an object."""

    CHECKSUM = "checksum"
    """The SHA-256 that the server compared, where it was seen to do so; otherwise reading back."""
    READ_BACK = "read_back"
    """Always reading back, at the price of the download."""


Text = Annotated[str, Meta(max_length=64)]
Name = Annotated[str, Meta(min_length=1, max_length=64)]
FileName = Annotated[str, Meta(min_length=1, max_length=4096)]
Port = Annotated[int, Meta(ge=0, le=65535)]
Count = Annotated[int, Meta(ge=1, le=100_000)]
Seconds = Annotated[float, Meta(ge=0.1, le=86_400)]
Megabytes = Annotated[int, Meta(ge=1, le=1_048_576)]


class NodeSection(msgspec.Struct, frozen=True, kw_only=True):
    """Who this node is."""

    name: Name
    ae_title: Annotated[str, Meta(min_length=1, max_length=16 - len(GRID_SUFFIX))]
    node_id: Name
    issuer: Text
    placeholders: tuple[str, ...]


class DicomSection(msgspec.Struct, frozen=True, kw_only=True):
    """The DICOM listener."""

    host: Name
    port: Port
    max_pdu: Annotated[int, Meta(ge=4096, le=16_777_216)]
    accept_unknown: bool
    max_associations: Count
    max_associations_per_ae: Count
    max_associations_per_address: Count
    max_new_associations_per_second: Count
    artim_timeout: Seconds
    network_timeout: Seconds
    idle_timeout: Seconds
    connect_timeout: Seconds


class TlsSection(msgspec.Struct, frozen=True, kw_only=True):
    """The DICOM TLS listener, and the files for every TLS connection."""

    host: Text
    port: Port
    certificate_file: FileName
    key_file: FileName
    authorities_file: FileName
    client_certificates: ClientCertificates


class GridSection(msgspec.Struct, frozen=True, kw_only=True):
    """The other nodes: where they and this one reach each other."""

    host: Name
    port: Port
    join_port: Port
    door_port: Port
    site: Text
    addresses: tuple[str, ...]
    join_address: Text
    door_address: Text
    is_dial_only: bool
    proxy: Text
    discovery: bool
    cache_mb: Annotated[int, Meta(ge=1, le=1_000_000_000)]
    cache_days: Annotated[float, Meta(ge=0.01, le=3650)]


class CopiesSection(msgspec.Struct, frozen=True, kw_only=True):
    """Copies that nodes keep for each other."""

    accept: bool
    limit_mb: Annotated[int, Meta(ge=0, le=1_000_000_000)]
    refuse_below_percent: Annotated[float, Meta(ge=0, le=90)]
    folder: Annotated[str, Meta(max_length=4096)]
    lost_after_hours: Annotated[float, Meta(ge=0.0001, le=8760)]
    nearline_above_mb: Annotated[int, Meta(ge=0, le=1_000_000_000)]
    nearline_above_percent: Annotated[float, Meta(ge=0, le=100)]
    nearline_after_days: Annotated[float, Meta(ge=0, le=36500)]


class WatchSection(msgspec.Struct, frozen=True, kw_only=True):
    """The plain HTTP listener for watchers."""

    host: Name
    port: Port


class WebSection(msgspec.Struct, frozen=True, kw_only=True):
    """The web listeners."""

    host: Name
    port: Port
    plain_port: Port
    max_upload_mb: Megabytes
    requests_per_second: Annotated[int, Meta(ge=0, le=1_000_000)]
    requests_at_once: Annotated[int, Meta(ge=0, le=1000)]


class StorageSection(msgspec.Struct, frozen=True, kw_only=True):
    """Where objects are kept, and when to stop taking them."""

    url: Annotated[str, Meta(min_length=1, max_length=200)]
    quota_mb: Annotated[int, Meta(ge=0, le=1_000_000_000)]
    quota_warn_percent: Annotated[float, Meta(ge=1, le=100)]
    segment_mb: Megabytes
    stop_below_mb: Megabytes
    resume_above_mb: Megabytes
    buffer_mb: Megabytes
    spill_above_mb: Megabytes
    held_percent: Annotated[float, Meta(ge=0, le=100)]
    verify_reads: bool


class S3Section(msgspec.Struct, frozen=True, kw_only=True):
    """How a bucket is reached and used, where storage.url names one."""

    endpoint: Annotated[str, Meta(max_length=200)]
    region: Name
    access_key_file: Annotated[str, Meta(max_length=400)]
    secret_key_file: Annotated[str, Meta(max_length=400)]
    path_style: bool
    checksums: Checksums
    send_sha256: bool
    confirm: Confirm
    encryption: Encryption
    persistent_spool: bool
    cache_mb: Annotated[int, Meta(ge=1, le=1_000_000_000)]
    cache_days: Annotated[float, Meta(ge=0, le=3650)]
    multipart_above_mb: Megabytes
    upload_threads: Annotated[int, Meta(ge=1, le=64)]
    fetch_threads: Annotated[int, Meta(ge=1, le=64)]
    upload_mb_per_second: Annotated[float, Meta(ge=0, le=100_000)]


class SendersSection(msgspec.Struct, frozen=True, kw_only=True):
    """Senders that are not in the device book."""

    unknown_senders: UnknownSenders


class RejectedSection(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of the shelf of rejected data sets."""

    max_mb: Megabytes
    max_days: Annotated[int, Meta(ge=1, le=3650)]


class LifeSection(msgspec.Struct, frozen=True, kw_only=True):
    """How long what was decided can be taken back."""

    undo_days: Annotated[float, Meta(ge=0, le=3650)]


class LogSection(msgspec.Struct, frozen=True, kw_only=True):
    """The log."""

    level: LogLevel
    format: LogFormat
    file: Annotated[str, Meta(max_length=400)]


class TellSection(msgspec.Struct, frozen=True, kw_only=True):
    """Who is told of what goes on, beside the node's own audit."""

    syslog: Annotated[str, Meta(max_length=300, pattern=r"^((tls|tcp)://[^/\s]+/?)?$")]
    syslog_ca_file: Annotated[str, Meta(max_length=400)]
    webhook: Annotated[str, Meta(max_length=1000, pattern=r"^(https?://\S+)?$")]
    webhook_secret_file: Annotated[str, Meta(max_length=400)]


class OidcSection(msgspec.Struct, frozen=True, kw_only=True):
    """The hospital's identity provider."""

    issuer: Annotated[
        str, Meta(max_length=400, pattern=r"^(https://\S+|http://(localhost|127\.0\.0\.1)(:\d+)?\S*)?$")
    ]
    client_id: Annotated[str, Meta(max_length=200)]
    client_secret_file: Annotated[str, Meta(max_length=400)]
    address: Annotated[str, Meta(max_length=300, pattern=r"^(https?://[^/\s]+)?$")]
    name_claim: Annotated[str, Meta(min_length=1, max_length=100)]
    groups_claim: Annotated[str, Meta(min_length=1, max_length=100)]
    groups: tuple[str, ...]


class TransfersSection(msgspec.Struct, frozen=True, kw_only=True):
    """What this node sends, and who carries it."""

    workers: Annotated[int, Meta(ge=0, le=64)]
    per_destination: Annotated[int, Meta(ge=1, le=64)]
    listen: Annotated[str, Meta(max_length=200, pattern=r"^((ipc|tcp)://.+)?$")]


class ProcessesSection(msgspec.Struct, frozen=True, kw_only=True):
    """How the node is spread over processes."""

    count: Annotated[int, Meta(ge=1, le=64)]


class Role(StrEnum):
    """A part of a node that may have a process, and a host, of its own."""

    GATEWAY = "gateway"
    CATALOG = "catalog"
    STORAGE = "storage"


class RolesSection(msgspec.Struct, frozen=True, kw_only=True):
    """Which parts of the node this process is, and where the others are."""

    run: tuple[Role, ...]
    catalog: Annotated[str, Meta(max_length=200, pattern=r"^((ipc|tcp)://.+)?$")]
    storage: Annotated[str, Meta(max_length=200, pattern=r"^((ipc|tcp)://.+)?$")]


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """The whole file, one attribute for each section."""

    node: NodeSection
    dicom: DicomSection
    tls: TlsSection
    web: WebSection
    grid: GridSection
    copies: CopiesSection
    watch: WatchSection
    storage: StorageSection
    s3: S3Section
    senders: SendersSection
    rejected: RejectedSection
    life: LifeSection
    log: LogSection
    tell: TellSection
    oidc: OidcSection
    transfers: TransfersSection
    processes: ProcessesSection
    roles: RolesSection
