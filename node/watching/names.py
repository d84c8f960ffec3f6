"""The table of what `/metrics` shows: names, kinds and labels, which dashboards and alerts rely on.

Base units, `_total` on counters, and in no label a UID, anything of a patient, or free text: a label's values
come from the configuration, the device book or the code. A part that counts something new adds a row here.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple

PREFIX: Final = "peerpacs_"


class Kind(StrEnum):
    """How a measure's values relate over time."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Measure(NamedTuple):
    """One row: the name behind the prefix, and the labels in the order in which samples give them."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str


_C, _G, _H = Kind.COUNTER, Kind.GAUGE, Kind.HISTOGRAM
_ROWS: Final = (
    Measure("build_info", _G, ("version", "python"), "What runs here; always 1."),
    Measure("instances_received_total", _C, ("via",), "Instances taken in, by the door they came through."),
    Measure("received_bytes_total", _C, ("via",), "Bytes of the instances taken in."),
    Measure("store_seconds", _H, (), "From a C-STORE request to its response, transmission included."),
    Measure("find_seconds", _H, ("scope",), "From a C-FIND request to its last response."),
    Measure("grid_answers_total", _C, ("peer", "part"), "How sites took part in answers on the grid's AE."),
    Measure("grid_answers_incomplete_total", _C, ("peer",), "Answers that may lack what a site has."),
    Measure("peer_up", _G, ("peer",), "Whether a node of the grid is connected: heard of within 15 s."),
    Measure("peer_lag_seconds", _G, ("peer",), "How old the copy of a peer's catalog is; 0 while level."),
    Measure("peer_changes_behind", _G, ("peer",), "Changes of a peer's catalog that its copy lacks."),
    Measure("associations", _G, ("role",), "Associations open now: as scp, as scu."),
    Measure("association_rejections_total", _C, ("reason",), "A-ASSOCIATE-RJ sent, by PS3.8 Table 9-21."),
    Measure("transfers", _G, ("state", "priority"), "Persisted transfers."),
    Measure("transfer_bytes_total", _C, ("peer", "direction"), "Bytes moved between this node and others."),
    Measure("transfer_failures_total", _C, ("peer", "error"), "Transfers, or tries of them, that failed."),
    Measure("holdings", _G, ("availability",), "Instances in the catalog, by Instance Availability."),
    Measure("copies_kept", _G, (), "Objects that this node keeps for others."),
    Measure("copies_kept_bytes", _G, (), "Bytes of them."),
    Measure("store_free_bytes", _G, (), "Free space where objects are kept."),
    Measure("uploads_waiting", _G, (), "Objects and decisions that wait for a bucket."),
    Measure("upload_wait_seconds", _G, (), "For how long what waits longest for a bucket has been waiting."),
    Measure(
        "certificate_expiry_timestamp_seconds",
        _G,
        ("peer",),
        "When a certificate ends; peer is empty for this node's own.",
    ),
)
MEASURES: Final = {row.name: row for row in _ROWS}
