"""Studies for people who script: keywords and values, what changed, and whole studies as zip files."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote_plus

from catalog import Attributes, NotFound, Selection
from catalog.statements import is_tombstone
from node.archives import DEFAULT
from node.keys import keyword_of

from ..doorkeeper import LINKED
from . import answers
from .operation import Call
from .zipped import Member, Packed, instances, medium


def studies(call: Call) -> list[answers.Attributes]:
    """Return the studies that match, newest first."""
    query: answers.StudyQuery = call.query()
    return [plain(each) for each in call.ask("find", keys=list(query.key), level="", limit=query.limit)]


def dictionary(call: Call) -> dict[str, str]:
    """Return the keyword of every tag of PS3.6, for whoever shows DICOM JSON to people."""
    from pydicom._dicom_dict import DicomDictionary

    call.response.set_header("Cache-Control", "private, max-age=86400")
    return {f"{tag:08X}": row[4] for tag, row in DicomDictionary.items() if row[4]}


def study(call: Call) -> answers.Study:
    """Return one study with its series."""
    exchange = call.exchange()
    entries = exchange.entries()
    uid = call.named["study"]
    [told] = call.ask("find", keys=[f"StudyInstanceUID={uid}"], level="", limit=1) or [{}]
    series = call.ask("find", keys=[f"StudyInstanceUID={uid}"], level="SERIES", limit=0)
    return answers.Study(
        study=plain(told),
        series=[plain(each) for each in series],
        instances=len(entries),
        bytes=sum(entry.holding.size for entry in entries),
        dicomweb=exchange.url(uid),
        zip=f"{call.request.path}/zip",
    )


def study_zip(call: Call) -> None:
    """Answer with the study as a zip file, and put on record that it left."""
    exchange = call.exchange()
    entries = exchange.entries()
    retriever = call.scope.retriever
    retriever.expect(entries)
    # What cannot be had at all is known before the status is.
    retriever.open(entries[0]).close()
    query: answers.ZipQuery = call.query()

    def members() -> Iterator[Member]:
        if query.dicomdir:
            return medium(entries, retriever.open, call.services.folder)
        return instances(entries, retriever.open)

    exchange.stream(Packed(members), "application/zip")
    call.response.downloadable_as = f"{call.named['study']}.zip"
    exchange.record("retrieve", what="zip", instances=len(entries))


def viewer_link(call: Call) -> answers.ViewerUrl:
    """Make a link that lets a viewer read this study, in the name of whoever asks and only while he may.

    Raises:
        NotFound: nobody who can be asked has the study.
    """
    wish: answers.ViewerWish = call.body()
    uid, is_everywhere = call.named["study"], wish.everywhere and call.archive == DEFAULT
    scope = call.backing.everywhere(call.visitor.caller) if is_everywhere else call.scope
    if not scope.catalog.select(Selection(studies=(uid,))):
        raise NotFound("There is no such study here.", "Search for it: it may be known elsewhere.")
    user = call.visitor.user
    link, secret = call.backing.doorkeeper.links.make(
        user.name if user else "", uid, call.archive, is_everywhere=is_everywhere
    )
    root = f"{call.request.scheme}://{call.request.netloc}{LINKED}{secret}/dicom-web"
    query = f'$dicom:rs --url "{root}" -r "studyUID={uid}"'
    return answers.ViewerUrl(weasis=f"weasis://?{quote_plus(query)}", dicomweb=root, ends=link.ends)


def changes(call: Call) -> answers.Changes:
    """Return the rows of the change log after a cursor."""
    query: answers.ChangesQuery = call.query()
    catalog = call.scope.catalog
    head = catalog.head()
    rows = catalog.changes(query.since, query.limit)
    last = rows[-1].seq if rows else query.since
    return answers.Changes(
        epoch=str(head.epoch),
        last=last,
        is_done=last >= head.seq,
        changes=[_change(each.seq, each.key, each.row) for each in rows],
    )


def _change(seq: int, key: bytes, row: bytes) -> answers.ChangeRow:
    study_uid, _, series = key.partition(b"\0")
    return answers.ChangeRow(
        seq=seq,
        StudyInstanceUID=study_uid.decode(),
        SeriesInstanceUID=series.decode().strip("\0"),
        is_gone=is_tombstone(row),
    )


def plain(attributes: Attributes) -> answers.Attributes:
    """Return DICOM JSON as keyword and value."""
    told: dict[str, Any] = {}
    for tag, element in attributes.items():
        values = [_value(each) for each in element.get("Value", ())]
        told[keyword_of(tag)] = values[0] if len(values) == 1 else values or ""
    return told


def _value(value: Any) -> Any:
    if isinstance(value, dict):
        return value.get("Alphabetic") or next(iter(value.values()), "")
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value
