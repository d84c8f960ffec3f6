"""A catalog full of instances without the disk for them: every row names one object that is really there."""

from __future__ import annotations

import io
import time
from collections.abc import Iterable, Iterator
from itertools import count as counting
from itertools import islice
from pathlib import Path
from typing import Final

from msgspec.structs import replace
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID

from catalog import Arrival, Entry, Holding, PatientKey, Selection, scan
from node.app import open_node

from . import clients
from .association import EXPLICIT, Association
from .phantoms import Instance, Study, instances, sop_instance_uid, study
from .servers import PeerPACS

SERIES_IN_A_STUDY: Final = 2
INSTANCES_IN_A_SERIES: Final = 50
_AT_ONCE: Final = 5000


def fill(
    home: Path,
    StudyInstanceUID: str,
    count: int,
    seed: int,
    *,
    series: int = SERIES_IN_A_STUDY,
    instances_in_a_series: int = INSTANCES_IN_A_SERIES,
) -> None:
    """Record `count` instances in a node's catalog, all with the bytes of the one instance of a study in it.

    The search index and the change log have taken them in when this returns.

    Raises:
        Busy: the node is running.
    """
    described = (study(seed, number, series=series) for number in counting())
    fill_with(home, StudyInstanceUID, described, instances_in_a_series=instances_in_a_series, count=count)


def fill_with(
    home: Path,
    StudyInstanceUID: str,
    studies: Iterable[Study],
    *,
    instances_in_a_series: int = 1,
    count: int | None = None,
) -> None:
    """Record the studies, `count` instances of them at most. As `fill`."""
    with open_node(home, purpose="bench") as node:
        [shared] = node.catalog.select(Selection(studies=(StudyInstanceUID,)))
        arrivals = islice(_arrivals(shared.holding, studies, instances_in_a_series), count)
        while batch := list(islice(arrivals, _AT_ONCE)):
            node.catalog.record(batch)
        while node.catalog.index(time.time()) or node.catalog.publish(time.time()):
            pass


def _arrivals(holding: Holding, studies: Iterable[Study], instances_in_a_series: int) -> Iterator[Arrival]:
    for described in studies:
        for n, first in enumerate(instances(described), start=1):
            arrival = arrival_of(first, holding)
            for place in range(1, instances_in_a_series + 1):
                uid = sop_instance_uid(described, n, place)
                entry = replace(arrival.entry, SOPInstanceUID=uid, InstanceNumber=str(place))
                yield replace(arrival, entry=entry)


def fill_server(server: PeerPACS, scratch: Path, count: int, seed: int, **shape: int) -> None:
    """Stop a running node, `fill` its catalog with `count` instances in that `shape`, and start it again."""
    shared = study(_SHARED_SEED, 0)
    clients.store(server.address, clients.write([shared], scratch, 1))
    server.stop()
    fill(server.home, shared.StudyInstanceUID, count, seed, **shape)
    server.start()


def grow(server: PeerPACS, studies: Iterable[Study]) -> None:
    """Stop a running node, record the studies in its catalog, and start it again.

    All have the bytes of one object whose header says next to nothing, so a million are there in minutes; the
    search index has little to hold of each besides the catalog's own attributes.
    """
    shared = _plain_object()
    with Association(server.address, sends=[shared.SOPClassUID]) as association:
        association.store(shared)
    server.stop()
    fill_with(server.home, _PLAIN, studies)
    server.start()


def _plain_object() -> Instance:
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID, ds.Modality = UID(_CT), UID(_PLAIN_INSTANCE), "CT"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = UID(_PLAIN), UID(f"{_PLAIN}.2")
    ds.PatientName, ds.PatientID = "Plain", "PLAIN"
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = UID(EXPLICIT)
    file = io.BytesIO()
    ds.save_as(file, enforce_file_format=True)
    # The data set begins behind the group length and as many bytes as it says (PS3.10 7.1).
    start = 144 + int.from_bytes(file.getvalue()[140:144], "little")
    return Instance(_CT, _PLAIN_INSTANCE, file.getvalue(), start, b"", 0)


_SHARED_SEED: Final = 5
_PLAIN: Final = "2.25.5"
_PLAIN_INSTANCE: Final = f"{_PLAIN}.{10**36}"
"""As long as those of phantoms, so that data sets begin where theirs do, behind the File Meta Information."""
_CT: Final = "1.2.840.10008.5.1.4.1.1.2"


def arrival_of(instance: Instance, holding: Holding) -> Arrival:
    """Return what a catalog records of an instance whose bytes are said to be at `holding`."""
    header = scan(memoryview(instance.part10())[instance.data_set_offset :], EXPLICIT, instance.size)
    entry = Entry(
        StudyInstanceUID=header.StudyInstanceUID,
        SeriesInstanceUID=header.SeriesInstanceUID,
        SOPInstanceUID=header.SOPInstanceUID,
        SOPClassUID=header.SOPClassUID,
        TransferSyntaxUID=EXPLICIT,
        holding=holding,
        received=int(time.time() * 1000),
        source="BENCH",
        InstanceNumber=header.InstanceNumber,
        Rows=header.Rows,
        Columns=header.Columns,
    )
    patient = PatientKey(header.IssuerOfPatientID, header.PatientID)
    return Arrival(entry=entry, patient=patient, study=header.study, series=header.series)
