"""`peerpacs send`, `get` and `move`: instances on their way between here and another system."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click

from node.cli import FAILED, PARTIAL, Session, plural, shared
from node.commands.peers import Called, TlsOptions, called, keys, titles

if TYPE_CHECKING:
    from catalog import Attributes
    from node.contracts import StoreResult
    from node.dimse import Part10File, Retrieved, Sent

_MOST_CONTEXTS: Final = 127
"""Presentation contexts beside the one for C-GET itself; PS3.8 9.3.2 has 128."""
_MOST_SERIES: Final = 50
_LEVEL_OF_KEY: Final = {"00080018": "IMAGE", "0020000E": "SERIES", "0020000D": "STUDY", "00100020": "PATIENT"}
_SYNTAXES: Final = (
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.4.50",
    "1.2.840.10008.1.2.4.51",
    "1.2.840.10008.1.2.4.57",
    "1.2.840.10008.1.2.4.70",
    "1.2.840.10008.1.2.4.80",
    "1.2.840.10008.1.2.4.81",
    "1.2.840.10008.1.2.4.90",
    "1.2.840.10008.1.2.4.91",
    "1.2.840.10008.1.2.4.201",
    "1.2.840.10008.1.2.4.202",
    "1.2.840.10008.1.2.4.203",
    "1.2.840.10008.1.2.5",
    "1.2.840.10008.1.2.1.99",
    "1.2.840.10008.1.2.2",
)
"""What a C-GET takes: uncompressed, JPEG, JPEG-LS, JPEG 2000, HTJ2K, RLE, deflated, big endian (PS3.5 10)."""


@click.command("send")
@click.argument("words", nargs=-1, required=True, metavar="HOST PORT | NAME  FILES...")
@titles
@shared
def send_command(
    session: Session,
    words: tuple[str, ...],
    calling_ae: str | None,
    called_ae: str | None,
    tls: TlsOptions,
) -> int:
    """Send files or folders to another system (C-STORE).

    Example: peerpacs send -aec ALPHA 127.0.0.1 11112 /media/cdrom
    """
    there = called(session, words, calling_ae, called_ae, tls)
    if not there.rest:
        raise click.UsageError("What to send? Name files or folders behind HOST PORT or NAME.")
    sendable, unreadable = sendable_files(Path(word) for word in there.rest)
    sent = list(_send(there, sendable))
    failed = [each for each in sent if _is_failure(each.status)]
    report: dict[str, Any] = {
        "sent": len(sent) - len(failed),
        "failed": [each._asdict() for each in failed],
        "not_dicom": [{"name": str(path), "why": why} for path, why in unreadable],
    }
    lines = [f"✗ {path}: {why}" for path, why in unreadable]
    lines += [f"✗ {each.SOPInstanceUID}: {each.status:04X} {each.comment}".rstrip() for each in failed]
    lines.append(f"{plural(report['sent'], 'instance')} sent to {there.called_ae}, {len(failed)} failed.")
    session.say(report, lines)
    if not report["sent"]:
        return FAILED
    return PARTIAL if failed else 0


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(each for each in path.rglob("*") if each.is_file())
        else:
            yield path


class Sendable(NamedTuple):
    """A DICOM file and what must be negotiated for it."""

    path: Path
    SOPClassUID: str
    TransferSyntaxUID: str


def sendable_files(paths: Iterable[Path]) -> tuple[list[Sendable], list[tuple[Path, str]]]:
    """Return the DICOM files among files and folders, and what is not DICOM, with the reason."""
    from catalog import Unreadable
    from node.dimse import Part10File

    sendable, unreadable = [], []
    for path in _files(paths):
        try:
            file = Part10File(path)
        except Unreadable as error:
            unreadable.append((path, str(error)))
            continue
        sendable.append(Sendable(path, file.SOPClassUID, file.TransferSyntaxUID))
        file.close()
    return sendable, unreadable


def _send(there: Called, sendable: list[Sendable]) -> Iterator[Sent]:
    from node.dimse import Part10File, reencode
    from node.transcoding import Transcoder

    def opened() -> Iterator[Part10File]:
        for each in sendable:
            yield Part10File(each.path)

    expected = dict.fromkeys((each.SOPClassUID, each.TransferSyntaxUID) for each in sendable)
    with closing(Transcoder(reencode)) as transcoder:
        yield from there.requestor(transcoder).store(opened(), expected=expected)


def _is_failure(status: int) -> bool:
    """Say whether a C-STORE status is neither success nor warning, PS3.4 Table B.2-1."""
    return status != 0 and status >> 12 != 0xB


@click.command("get")
@click.argument("words", nargs=-1, required=True, metavar="HOST PORT | NAME")
@titles
@keys
@click.option("-od", "folder", default=".", type=click.Path(path_type=Path), help="Folder for the files.")
@shared
def get_command(
    session: Session,
    words: tuple[str, ...],
    calling_ae: str | None,
    called_ae: str | None,
    tls: TlsOptions,
    pairs: tuple[str, ...],
    is_patient_root: bool,
    is_study_root: bool,
    folder: Path,
) -> int:
    """Fetch instances into a folder (C-GET). Each file is named by its SOP Instance UID.

    Example: peerpacs get -aec ALPHA 127.0.0.1 11112 -k StudyInstanceUID=1.2.3.4 -od here
    """
    from node.keys import LEVEL

    there = called(session, words, calling_ae, called_ae, tls)
    identifier = _named(pairs)
    folder.mkdir(parents=True, exist_ok=True)

    def begin(SOPClassUID: str, SOPInstanceUID: str, TransferSyntaxUID: str) -> _FileReception:
        return _FileReception(folder, SOPClassUID, SOPInstanceUID, TransferSyntaxUID)

    storage = [(sop_class, syntax) for syntax in _SYNTAXES for sop_class in _classes(there, identifier)]
    done = there.requestor().get(
        identifier,
        begin,
        patient_root=is_patient_root or identifier[LEVEL]["Value"] == ["PATIENT"],
        storage=storage[:_MOST_CONTEXTS],
    )
    return _tell(session, done, f"from {there.called_ae} into {folder}")


@click.command("move")
@click.argument("words", nargs=-1, required=True, metavar="HOST PORT | NAME")
@titles
@click.option("-aem", "destination", help="AE title that receives; ours unless said.")
@keys
@shared
def move_command(
    session: Session,
    words: tuple[str, ...],
    calling_ae: str | None,
    called_ae: str | None,
    tls: TlsOptions,
    destination: str | None,
    pairs: tuple[str, ...],
    is_patient_root: bool,
    is_study_root: bool,
) -> int:
    """Have another system send instances to a third (C-MOVE). Or to this node.

    Example: peerpacs move OLDPACS -aem ALPHA -k StudyInstanceUID=1.2.3.4
    """
    from node.keys import LEVEL

    there = called(session, words, calling_ae, called_ae, tls)
    receiver, identifier = destination or there.calling_ae, _named(pairs)
    done = there.requestor().move(
        identifier, receiver, patient_root=is_patient_root or identifier[LEVEL]["Value"] == ["PATIENT"]
    )
    return _tell(session, done, f"from {there.called_ae} to {receiver}")


def _named(pairs: tuple[str, ...]) -> Attributes:
    """Return the Identifier of a retrieve, its level from the lowest unique key unless said."""
    from catalog import BadRequest
    from node.keys import LEVEL, attributes_of

    identifier = attributes_of(pairs)
    if LEVEL in identifier:
        return identifier
    for tag, level in _LEVEL_OF_KEY.items():
        if identifier.get(tag, {}).get("Value"):
            return {LEVEL: {"vr": "CS", "Value": [level]}, **identifier}
    raise BadRequest("What to retrieve was not said.", "Name it, as in: -k StudyInstanceUID=1.2.3.4")


def _classes(there: Called, identifier: Attributes) -> list[str]:
    """Return the SOP Classes that will come, as the peer tells them: the first of each series.

    Empty when it does not say; then the usual classes are proposed, uncompressed.
    """
    from catalog import PacsError, texts

    classes: dict[str, None] = {}
    try:
        for study in texts(identifier.get("0020000D") or {"vr": "UI"}):
            series = texts(identifier.get("0020000E") or {"vr": "UI"}) or _all_series(there, study)
            for uid in series[:_MOST_SERIES]:
                classes |= dict.fromkeys(_first_class(there, study, uid))
    except PacsError:
        return []
    return list(classes)


def _all_series(there: Called, study: str) -> list[str]:
    from catalog import texts
    from node.keys import attributes_of

    asked = attributes_of(("QueryRetrieveLevel=SERIES", f"StudyInstanceUID={study}", "SeriesInstanceUID"))
    return [uid for answer in there.requestor().find(asked) for uid in texts(answer["0020000E"])]


def _first_class(there: Called, study: str, series: str) -> list[str]:
    from catalog import texts
    from node.keys import attributes_of

    named = (f"StudyInstanceUID={study}", f"SeriesInstanceUID={series}")
    asked = attributes_of(("QueryRetrieveLevel=IMAGE", *named, "SOPInstanceUID", "SOPClassUID"))
    return [uid for answer in there.requestor().find(asked) for uid in texts(answer["00080016"])]


class _FileReception:
    """One instance of a C-GET on its way into a file; satisfies `Reception`."""

    def __init__(self, folder: Path, SOPClassUID: str, SOPInstanceUID: str, TransferSyntaxUID: str) -> None:
        from node.storage import file_meta

        self._path = folder / f"{SOPInstanceUID}.dcm"
        self._part = self._path.with_suffix(".part")
        self._file = self._part.open("wb")
        self._file.write(file_meta(SOPClassUID, SOPInstanceUID, TransferSyntaxUID))
        self._space = bytearray()

    def space(self, length: int) -> memoryview:
        """Return a writable view of `length` bytes for the next part of the data set."""
        if len(self._space) < length:
            self._space = bytearray(length)
        return memoryview(self._space)[:length]

    def filled(self, length: int) -> None:
        """Write what the last space holds."""
        self._file.write(memoryview(self._space)[:length])

    def finish(self) -> StoreResult:
        """Let the file appear under its name, whole."""
        from node.contracts import StoreResult

        self._file.close()
        self._part.replace(self._path)
        return StoreResult(0)

    def abandon(self) -> None:
        """Leave nothing behind."""
        self._file.close()
        self._part.unlink(missing_ok=True)


def _tell(session: Session, done: Retrieved, where: str) -> int:
    lines = [f"✗ {uid} failed" for uid in done.failed_uids]
    if done.comment:
        lines.append(f"They say: {done.comment}")
    good = done.completed + done.warning
    if done.status == 0 and not good:
        lines.append("They have nothing of that: no instance came.")
    else:
        lines.append(f"{plural(good, 'instance')} {where}, {done.failed} failed; status {done.status:04X}.")
    session.say(done._asdict(), lines)
    if done.status == 0:
        return 0
    return PARTIAL if good else FAILED
