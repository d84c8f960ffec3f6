"""The rules of DICOM that devices rely on, shown at a serving node with software we did not write.

Numbers in the names are those of the rules; what the engine's own tests show is not repeated here.
"""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset
from pydicom.uid import generate_uid
from pynetdicom import AE, build_role, evt
from pynetdicom.pdu_primitives import SOPClassExtendedNegotiation
from pynetdicom.service_class import StorageServiceClass
from pynetdicom.sop_class import register_uid

from catalog import Holding, NotFound, Selection, encode_identifier
from node.app import Node
from node.contracts import Device, Service
from node.dimse import Requestor
from node.dimse.commands import Command, decode_command, encode_command
from node.dimse.pdu import decode_associate
from node.storage import VolumeStore
from sim.ports import free_port
from tests.homes import RawInstance, serving
from tests.node.dimse.archive import identifier as json_identifier
from tests.node.dimse.wire import Raw, associate, context, item, p_data
from tests.running import until
from tests.split import serving_split

CT = "1.2.840.10008.5.1.4.1.1.2"
IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
BIG, DEFLATED, JPEG = "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.50"
PATIENT, STUDY = "1.2.840.10008.5.1.4.1.2.1", "1.2.840.10008.5.1.4.1.2.2"
PENDING = (0xFF00, 0xFF01)
NO_JPEG = bytes.fromhex(
    "e07f1000 4f420000 ffffffff feff00e0 00000000 feff00e0 04000000 00000000 feffdde0 00000000"
)
"""Pixel Data that nobody can decode."""


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(serving, id="whole"),
        pytest.param(serving_split, id="split", marks=pytest.mark.slow),
    ],
)
def node(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with request.param(tmp_path_factory.mktemp("rules") / "home", node={"issuer": "HERE"}) as serving_node:
        yield serving_node


@pytest.fixture(scope="module")
def untrusting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with serving(tmp_path_factory.mktemp("book"), is_trusting=False) as serving_node:
        book = serving_node.devices
        book.put(Device(ae_title="FARAWAY", address="10.1.1.1", services=tuple(Service)))
        book.put(Device(ae_title="NOTHING", address="127.0.0.1", services=()))
        book.put(Device(ae_title="OTHERS", address="127.0.0.1", services=tuple(Service), called=("BETA",)))
        yield serving_node


def ct(**values: Any) -> Dataset:
    """Return a CT instance, in a study of its own unless `values` say otherwise."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = CT, generate_uid()
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = generate_uid(), generate_uid()
    dataset.PatientID, dataset.PatientName = generate_uid()[-12:], "Doe^Jane"
    dataset.PatientBirthDate, dataset.PatientSex, dataset.Modality = "19700101", "F", "CT"
    dataset.StudyDate, dataset.StudyTime, dataset.AccessionNumber = "20240517", "101500", generate_uid()[-10:]
    dataset.StudyID, dataset.SeriesNumber, dataset.InstanceNumber = "1", 1, 1
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def raw(dataset: Dataset, syntax: str = EXPLICIT) -> bytes:
    out = DicomBytesIO()
    out.is_implicit_VR, out.is_little_endian = syntax == IMPLICIT, syntax != BIG
    write_dataset(out, dataset)
    data = out.getvalue()
    if syntax != DEFLATED:
        return data
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    packed = packer.compress(data) + packer.flush()
    return packed + b"\0" * (len(packed) % 2)


def sent(node: Node, *datasets: Dataset, syntax: str = EXPLICIT, ae_title: str = "MODALITY") -> list[int]:
    """Store instances, and return what the node said to each."""
    made = (RawInstance(one.SOPClassUID, one.SOPInstanceUID, syntax, raw(one, syntax)) for one in datasets)
    requestor = Requestor(ae_title, "127.0.0.1", node.ports["dicom"], "ALPHA")
    return [answer.status for answer in requestor.store(made)]


def keys(level: str, **values: Any) -> Dataset:
    identifier = Dataset()
    identifier.QueryRetrieveLevel = level
    for keyword, value in values.items():
        setattr(identifier, keyword, value)
    return identifier


@contextmanager
def associated(node: Node, *contexts: Any, ae_title: str = "VIEWER", **options: Any) -> Iterator[Any]:
    """Yield an association of pynetdicom's."""
    entity = AE(ae_title=ae_title)
    for uid, syntaxes in contexts:
        entity.add_requested_context(uid, syntaxes)
    association = entity.associate("127.0.0.1", node.ports["dicom"], ae_title="ALPHA", **options)
    assert association.is_established
    try:
        yield association
    finally:
        association.release()


def asked(
    node: Node, identifier: Dataset, root: str = STUDY, negotiated: bytes = b"", ae_title: str = "VIEWER"
) -> list[tuple[int, Dataset | None]]:
    """Return status and Identifier of every response to a C-FIND of pynetdicom's."""
    items = []
    if negotiated:
        items.append(SOPClassExtendedNegotiation())
        items[0].sop_class_uid, items[0].service_class_application_information = root + ".1", negotiated
    contexts = [(root + ".1", [EXPLICIT, IMPLICIT])]
    with associated(node, *contexts, ae_title=ae_title, ext_neg=items) as association:
        return [
            (status.Status, answer) for status, answer in association.send_c_find(identifier, root + ".1")
        ]


def found(node: Node, identifier: Dataset, root: str = STUDY, negotiated: bytes = b"") -> list[Dataset]:
    """Return the matches of a C-FIND that succeeds."""
    responses = asked(node, identifier, root, negotiated)
    assert responses[-1][0] == 0, f"{responses[-1][0]:04X}"
    return [answer for status, answer in responses if status in PENDING and answer is not None]


def studies(node: Node, **values: Any) -> set[str]:
    """Return the StudyInstanceUIDs of the studies that match."""
    values.setdefault("StudyInstanceUID", "")
    return {str(answer.StudyInstanceUID) for answer in found(node, keys("STUDY", **values))}


class Destination:
    """A storage SCP of pynetdicom's in the device book; remembers requests, answers what `answer` says."""

    def __init__(
        self,
        node: Node,
        ae_title: str,
        syntaxes: list[str],
        uids: tuple[str, ...] = (CT,),
        max_pdu: int = 16382,
    ) -> None:
        self.requests: list[Any] = []
        self.datasets: list[bytes] = []
        self.answer: Callable[[int], int | None] = lambda number: 0
        self.pause = 0.0
        """Seconds for which every answer is held back, as a slow receiver does."""
        entity = AE(ae_title=ae_title)
        entity.maximum_pdu_size = max_pdu
        for uid in uids:
            entity.add_supported_context(uid, syntaxes)
        port = free_port()
        handlers = [(evt.EVT_C_STORE, self._take)]
        self.server = entity.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers)
        node.devices.put(Device(ae_title=ae_title, address="127.0.0.1", port=port))

    def _take(self, event: Any) -> int:
        self.requests.append(event.request)
        self.datasets.append(event.request.DataSet.getvalue())
        time.sleep(self.pause)
        return self.answer(len(self.requests)) or 0


@contextmanager
def destination(node: Node, ae_title: str, *syntaxes: str, **options: Any) -> Iterator[Destination]:
    made = Destination(node, ae_title, list(syntaxes) or [EXPLICIT, IMPLICIT], **options)
    try:
        yield made
    finally:
        made.server.shutdown()


def moved(
    node: Node, identifier: Dataset, to: str, root: str = STUDY, **options: Any
) -> list[tuple[Any, Any]]:
    """Return every response to a C-MOVE of pynetdicom's."""
    with associated(node, (root + ".2", [EXPLICIT, IMPLICIT])) as association:
        return list(association.send_c_move(identifier, to, root + ".2", **options))


def counts(status: Any) -> tuple[int, int, int, int]:
    """Return status, completed, failed and warning."""
    return (
        status.Status,
        status.NumberOfCompletedSuboperations,
        status.NumberOfFailedSuboperations,
        status.NumberOfWarningSuboperations,
    )


def outcome(node: Node, identifier: Dataset, to: str, root: str = STUDY) -> tuple[int, int, int, int]:
    """Return what the final response to a C-MOVE counts."""
    return counts(moved(node, identifier, to, root)[-1][0])


# Associations


@pytest.mark.parametrize(
    ("asks", "triple"),
    [
        ({"called": b"NOBODY"}, (1, 1, 7)),
        ({"application": "1.2.3"}, (1, 1, 2)),
        ({"version": 2}, (1, 2, 2)),
        ({"calling": b""}, (1, 1, 3)),
        ({"calling": b"OTHERS"}, (1, 1, 7)),
        ({"calling": b"FARAWAY"}, (1, 1, 3)),
        ({"calling": b"NOTHING"}, (1, 1, 3)),
    ],
)
def test_01_a_rejection_says_why_in_its_triple(
    untrusting: Node, asks: dict[str, Any], triple: tuple[int, int, int]
) -> None:
    with Raw(untrusting.ports["dicom"]) as peer:
        peer.send(associate(**asks))
        assert peer.pdu() == (3, bytes((0, *triple)))


def test_03_spaces_around_ae_titles_mean_nothing(node: Node) -> None:
    with Raw(node.ports["dicom"], ask=associate(called=b"  ALPHA", calling=b" RAW")) as peer:
        assert peer.is_open()


def test_02_05_06_every_context_role_and_bit_has_its_answer(node: Node) -> None:
    find, get = STUDY + ".1", STUDY + ".3"
    contexts = [
        context(1, CT, JPEG, IMPLICIT, EXPLICIT),
        context(3, CT, "1.2.3.4.5"),
        context(5, "1.2.3.4", IMPLICIT),
        context(7, find, JPEG),
        context(9, find, BIG, IMPLICIT),
        context(11, get, "1.2.3.4.5", EXPLICIT),
    ]
    more = item(0x53, bytes((0, 5, 0, 5)))
    more += b"".join(item(0x54, _counted(uid) + bytes((1, 1))) for uid in (CT, find))
    more += item(0x56, _counted(find) + bytes((1,) * 7)) + item(0x56, _counted(get) + bytes((1, 1)))
    with Raw(node.ports["dicom"]) as peer:
        peer.send(associate(*contexts, more=more))
        kind, body = peer.pdu()
    answer = decode_associate(body)
    assert kind == 2
    assert [(one.id, one.result) for one in answer.results] == [
        (1, 0),
        (3, 4),
        (5, 3),
        (7, 4),
        (9, 0),
        (11, 0),
    ]
    assert [one.transfer_syntax for one in answer.results if not one.result] == [JPEG, BIG, EXPLICIT]
    assert answer.user.roles == {CT: (True, True), find: (True, False)}
    assert answer.user.extended == {find: bytes((1, 1, 0, 0, 0, 0, 0)), get: bytes((1, 0))}
    assert answer.user.async_window == (1, 1)


def _counted(uid: str) -> bytes:
    return len(uid).to_bytes(2, "big") + uid.encode()


@pytest.mark.parametrize("size", [0, 4096, 128])
def test_04_any_size_of_pdu_brings_the_same_bytes(node: Node, size: int) -> None:
    image = ct()
    image.add_new(0x7FE00010, "OW", bytes(range(256)) * 400)
    assert sent(node, image) == [0]
    with destination(node, "TINY", max_pdu=size) as small:
        assert outcome(node, keys("STUDY", StudyInstanceUID=image.StudyInstanceUID), "TINY") == (0, 1, 0, 0)
    got: list[bytes] = []
    back = {"ext_neg": [build_role(CT, scp_role=True)], "evt_handlers": [(evt.EVT_C_STORE, _into(got))]}
    with associated(node, (STUDY + ".3", [EXPLICIT]), (CT, [EXPLICIT]), max_pdu=size, **back) as peer:
        identifier = keys("STUDY", StudyInstanceUID=image.StudyInstanceUID)
        assert counts(list(peer.send_c_get(identifier, STUDY + ".3"))[-1][0]) == (0, 1, 0, 0)
    assert got == small.datasets == [raw(image)]


def _into(got: list[bytes]) -> Callable[[Any], int]:
    def keep(event: Any) -> int:
        got.append(event.request.DataSet.getvalue())
        return 0

    return keep


# Queries


@pytest.mark.parametrize(
    ("key", "is_match"),
    [
        ("Yamada^Tarou=山田^太郎", True),
        ("=山田*", True),
        ("*=*=やまだ*", True),
        ("yamada*=*", True),
        ("*=山?^*", True),
        ("Yamada*=佐藤*", False),
        ("*田^太*", True),
        ("Yamada ^ Tarou^^^", True),
        ("山田", False),
        ("Tarou^Yamada", False),
    ],
)
def test_09_names_match_by_component_group(node: Node, key: str, is_match: bool) -> None:
    one = named("\\ISO 2022 IR 87", "Yamada^Tarou=山田^太郎=やまだ^たろう")
    assert sent(node, one) == [0]
    found_here = studies(node, SpecificCharacterSet="ISO_IR 192", PatientName=key)
    assert (one.StudyInstanceUID in found_here) is is_match


def named(declared: str, name: str, **values: Any) -> Dataset:
    """Return an instance whose text is written in a character set, declared first."""
    one = ct(SpecificCharacterSet=declared.split("\\"), **values)
    one.PatientName = name
    return one


NAMES = [
    ("ISO_IR 144", "Иванов^Пётр"),
    ("\\ISO 2022 IR 87", "Yamada^Tarou=山田^太郎=やまだ^たろう"),
    ("ISO 2022 IR 13\\ISO 2022 IR 87", "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^花子=やまだ^はなこ"),
    ("\\ISO 2022 IR 149", "Hong^Gildong=洪^吉洞=홍^길동"),
    ("ISO_IR 126", "Διονυσίου^Άννα"),
    ("ISO_IR 100", "Äneas^Rüdiger"),
    ("GB18030", "Wang^XiaoDong=王^小东"),
    ("ISO_IR 192", "Wang^XiaoXi=王^小西"),
    ("ISO_IR 166", "กานต์^สมชาย"),
    ("ISO_IR 138", "שרון^דבורה"),
    ("ISO_IR 127", "قباني^لنزار"),
]


@pytest.mark.parametrize(("declared", "name"), NAMES)
def test_34_a_name_is_found_whatever_set_it_was_sent_in_and_is_asked_in(
    node: Node, declared: str, name: str
) -> None:
    one = named(declared, name)
    assert sent(node, one) == [0]
    for asking in dict.fromkeys((declared, "ISO_IR 192", "GB18030")):
        for key in (name, *name.split("="), *(f"{group[:-1]}*" for group in name.split("="))):
            question = keys("STUDY", SpecificCharacterSet=asking.split("\\"), StudyInstanceUID="")
            question.PatientName = key
            assert one.StudyInstanceUID in {answer.StudyInstanceUID for answer in found(node, question)}


@pytest.mark.parametrize(("declared", "name"), NAMES)
def test_34_an_answer_is_in_the_set_of_the_device_or_says_which(node: Node, declared: str, name: str) -> None:
    device = Device(ae_title="SETTLED", address="127.0.0.1", character_set=declared)
    node.devices.put(device)
    for shown in (name, "Σ^山Ж한ก"):
        one = named("ISO_IR 192", shown)
        assert sent(node, one) == [0]
        question = keys("STUDY", PatientName="", StudyInstanceUID=one.StudyInstanceUID)
        answer = asked(node, question, ae_title="SETTLED")[0][1]
        assert answer is not None
        assert str(answer.PatientName) == shown
        terms = answer.SpecificCharacterSet
        told = terms if isinstance(terms, str) else "\\".join(terms)
        assert told == declared if shown == name or declared == "GB18030" else told == "ISO_IR 192"


@pytest.mark.parametrize("key", ["20040101 - 20040201", " 20040119 - 20040119 ", "20040101 -", "- 20040119"])
def test_11_ranges_may_have_spaces_as_the_standard_prints_them(node: Node, key: str) -> None:
    one, other = ct(StudyDate="2004.01.19"), ct(StudyDate="20040119")
    assert sent(node, one, other) == [0, 0]
    assert {one.StudyInstanceUID, other.StudyInstanceUID} <= studies(node, StudyDate=key)


def test_12_dates_and_times_are_one_moment_only_if_that_was_negotiated(node: Node) -> None:
    moments = [("20240101", "0900"), ("20240101", "1100"), ("20240102", "1100"), ("20240103", "0900")]
    assert (
        sum(sent(node, *(ct(PatientID="MOMENT", StudyDate=day, StudyTime=time) for day, time in moments)))
        == 0
    )
    question = keys("STUDY", PatientID="MOMENT", StudyDate="20240101-20240103", StudyTime="1000-1100")
    assert len(found(node, question)) == 2
    assert len(found(node, question, negotiated=bytes((0, 1, 0)))) == 3


def test_13_the_zone_of_a_request_is_that_of_its_times(node: Node) -> None:
    one = ct(PatientID="ZONE", StudyTime="2330", TimezoneOffsetFromUTC="+0100")
    assert sent(node, one, ct(PatientID="ZONE", StudyTime="2330")) == [0, 0]
    asks = {"PatientID": "ZONE", "TimezoneOffsetFromUTC": "+0000"}
    assert studies(node, StudyTime="2200-2259", **asks) == {one.StudyInstanceUID}
    assert len(studies(node, **asks)) == 2


@pytest.mark.parametrize("level", ["STUDY", "SERIES"])
def test_14_the_keys_of_an_item_match_in_one_stored_item(node: Node, level: str) -> None:
    one = ct(RequestAttributesSequence=[request("S1", "R1"), request("S2", "R2")])
    other = ct(RequestAttributesSequence=[request("S1", "R2")])
    assert sent(node, one, other) == [0, 0]
    for asks, expected in ((("S1", "R1"), [one]), (("S1", "R2"), [other]), (("S?", "*"), [one, other])):
        matched = []
        for stored in (one, other):
            question = keys(level, StudyInstanceUID=stored.StudyInstanceUID, SeriesInstanceUID="")
            question.RequestAttributesSequence = [request(*asks)]
            matched += [stored] * len(found(node, question))
        assert matched == expected


def request(step: str, procedure: str) -> Dataset:
    requested = Dataset()
    requested.ScheduledProcedureStepID, requested.RequestedProcedureID = step, procedure
    return requested


def test_17_a_key_nobody_can_match_is_confessed_and_a_group_length_is_no_key(node: Node) -> None:
    one = ct()
    assert sent(node, one) == [0]
    question = keys("STUDY", StudyInstanceUID=one.StudyInstanceUID, StudyDescription="")
    question.add_new(0x00080000, "UL", 20)
    assert [status for status, _ in asked(node, question)] == [0xFF00, 0]
    question.add_new(0x00282000, "OB", b"no")
    assert [status for status, _ in asked(node, question)] == [0xFF01, 0]


def study_of_two(patient: str) -> tuple[str, list[Dataset]]:
    """Return eight instances in two studies of a patient, two series each, and the first study's UID."""
    uid = generate_uid()[:50]
    made = [
        ct(
            PatientID=patient,
            StudyInstanceUID=f"{uid}.{number // 4}",
            SeriesInstanceUID=f"{uid}.{number // 4}.{number // 2 % 2}",
            SeriesNumber=number // 2 % 2,
            InstanceNumber=number % 2,
            Modality="MR" if number // 2 % 2 else "CT",
        )
        for number in range(8)
    ]
    return f"{uid}.0", made


def test_10_16_19_every_level_of_both_models_answers(node: Node) -> None:
    uid, made = study_of_two("LEVELS")
    assert set(sent(node, *made)) == {0}
    other, series = f"{uid[:-1]}1", f"{uid}.1"
    counted = dict.fromkeys(
        [f"NumberOfPatientRelated{what}" for what in ("Studies", "Series", "Instances")], ""
    )
    [patient] = found(node, keys("PATIENT", PatientID="LEVELS", **counted), PATIENT)
    assert [int(patient[keyword].value) for keyword in counted] == [2, 4, 8]
    counted = {"NumberOfStudyRelatedSeries": "", "NumberOfStudyRelatedInstances": "", "ModalitiesInStudy": ""}
    for root, above in ((PATIENT, {"PatientID": "LEVELS"}), (STUDY, {})):
        [study] = found(node, keys("STUDY", StudyInstanceUID=uid, **above, **counted), root)
        assert [study[keyword].value for keyword in counted] == [2, 4, ["CT", "MR"]]
        identifier = keys("SERIES", StudyInstanceUID=uid, SeriesInstanceUID="", Modality="MR", **above)
        assert [one.SeriesInstanceUID for one in found(node, identifier, root)] == [series]
        identifier = keys("IMAGE", StudyInstanceUID=uid, SeriesInstanceUID=series, SOPInstanceUID="", **above)
        assert [one.SOPInstanceUID for one in found(node, identifier, root)] == [
            one.SOPInstanceUID for one in made[2:4]
        ]
    assert studies(node, StudyInstanceUID=[uid, other, "1.2.3.999"]) == {uid, other}
    assert len(found(node, keys("IMAGE", SOPInstanceUID="", PatientID="LEVELS"), STUDY, bytes((1,)))) == 8


@pytest.mark.parametrize(
    ("root", "level", "values"),
    [
        (STUDY, "PATIENT", {"PatientID": "1"}),
        (STUDY, "SERIES", {"SeriesInstanceUID": ""}),
        (STUDY, "SERIES", {"StudyInstanceUID": ["1.2", "1.3"], "SeriesInstanceUID": ""}),
        (STUDY, "IMAGE", {"StudyInstanceUID": "1.2", "SOPInstanceUID": ""}),
        (PATIENT, "STUDY", {"StudyInstanceUID": "1.2"}),
        (PATIENT, "STUDY", {"PatientID": "4*", "StudyInstanceUID": ""}),
        (STUDY, "FRAME", {}),
    ],
)
def test_16_a_missing_unique_key_is_a900(node: Node, root: str, level: str, values: dict[str, Any]) -> None:
    assert [status for status, _ in asked(node, keys(level, **values), root)] == [0xA900]


def test_20_a_cancel_right_behind_its_find_is_heeded(node: Node) -> None:
    assert set(sent(node, *(ct(StudyDescription="x" * 64) for _ in range(400)))) == {0}
    find = Command(CommandField=0x20, MessageID=5, CommandDataSetType=1, AffectedSOPClassUID=STUDY + ".1")
    cancel = Command(CommandField=0x0FFF, MessageIDBeingRespondedTo=5)
    question = json_identifier(QueryRetrieveLevel="STUDY", StudyInstanceUID="", StudyDescription="")
    with Raw(node.ports["dicom"], ask=associate(context(1, STUDY + ".1", EXPLICIT))) as peer:
        parts = (
            (3, encode_command(find)),
            (2, encode_identifier(question, EXPLICIT)),
            (3, encode_command(cancel)),
        )
        peer.send(b"".join(p_data(1, flags, data) for flags, data in parts))
        answers = -1
        final = None
        while final is None or final.Status in PENDING:
            body = peer.pdu()[1]
            if body[5] & 1:
                final, answers = decode_command(body[6:]), answers + 1
    assert (final.Status, final.has_data_set) == (0xFE00, False)
    assert answers < 400


# Retrieves


def test_25_a_move_and_a_get_are_cancelled_in_the_middle(node: Node) -> None:
    uid = generate_uid()
    assert set(
        sent(node, *(ct(StudyInstanceUID=uid, SeriesInstanceUID=f"{uid[:-2]}9") for _ in range(20)))
    ) == {0}
    identifier = keys("STUDY", StudyInstanceUID=uid)
    with destination(node, "SLOW") as slow, associated(node, (STUDY + ".2", [EXPLICIT])) as peer:
        slow.answer = lambda number: peer.send_c_cancel(7, None, STUDY + ".2") or 0 if number == 3 else 0
        slow.pause = 0.05
        final = list(peer.send_c_move(identifier, "SLOW", STUDY + ".2", msg_id=7))[-1][0]
    assert final.Status == 0xFE00
    assert final.NumberOfRemainingSuboperations + final.NumberOfCompletedSuboperations == 20
    assert 3 <= final.NumberOfCompletedSuboperations == len(slow.datasets) < 20
    got: list[Any] = []

    def keep(event: Any) -> int:
        got.append(event.request.AffectedSOPInstanceUID)
        if len(got) == 5:
            event.assoc.send_c_cancel(9, None, STUDY + ".3")
        return 0

    back = {"ext_neg": [build_role(CT, scp_role=True)], "evt_handlers": [(evt.EVT_C_STORE, keep)]}
    with associated(node, (STUDY + ".3", [EXPLICIT]), (CT, [EXPLICIT]), **back) as peer:
        final = list(peer.send_c_get(identifier, STUDY + ".3", msg_id=9))[-1][0]
    assert (final.Status, final.NumberOfCompletedSuboperations) == (0xFE00, len(got))
    assert final.NumberOfRemainingSuboperations == 20 - len(got) > 0


def test_21_23_26_counters_failures_and_originator(node: Node) -> None:
    uid, made = study_of_two("COUNTERS")
    assert set(sent(node, *made[:4])) == {0}
    identifier = keys("STUDY", StudyInstanceUID=uid)
    with destination(node, "MOODY") as moody:
        moody.answer = {1: 0xB007, 2: 0xA700}.get
        responses = moved(node, identifier, "MOODY", msg_id=77, priority=1)
        assert {data for status, data in responses if status.Status in PENDING} == {None}
        final, failed = responses[-1]
        assert counts(final) == (0xB000, 2, 1, 1)
        assert failed.FailedSOPInstanceUIDList == moody.requests[1].AffectedSOPInstanceUID
        one = moody.requests[0]
        originator = (one.MoveOriginatorApplicationEntityTitle, one.MoveOriginatorMessageID, one.Priority)
        assert originator == ("VIEWER", 77, 1)
        moody.answer = lambda number: 0xB000
        assert outcome(node, identifier, "MOODY") == (0xB000, 0, 0, 4)
        moody.answer = lambda number: 0xA900
        assert outcome(node, identifier, "MOODY") == (0xA702, 0, 4, 0)


@pytest.mark.parametrize("accepted", [IMPLICIT, EXPLICIT, BIG, DEFLATED, JPEG])
def test_22_what_a_destination_does_not_take_fails_alone_and_says_why(node: Node, accepted: str) -> None:
    uid = generate_uid()
    made = {syntax: ct(StudyInstanceUID=uid) for syntax in (IMPLICIT, EXPLICIT, BIG, DEFLATED)}
    for syntax, one in made.items():
        assert sent(node, one, syntax=syntax) == [0]
    made[JPEG] = ct(StudyInstanceUID=uid)
    image = RawInstance(CT, made[JPEG].SOPInstanceUID, JPEG, raw(made[JPEG]) + NO_JPEG)
    requestor = Requestor("MODALITY", "127.0.0.1", node.ports["dicom"], "ALPHA")
    assert [answer.status for answer in requestor.store([image])] == [0]
    with destination(node, "CHOOSY", accepted) as choosy:
        final, failed = moved(node, keys("STUDY", StudyInstanceUID=uid), "CHOOSY")[-1]
    uids = failed.FailedSOPInstanceUIDList
    not_sent = {uids} if isinstance(uids, str) else set(uids)
    assert counts(final) == (0xB000, 5 - len(not_sent), len(not_sent), 0)
    assert len(choosy.datasets) == 5 - len(not_sent)
    assert final.ErrorComment
    assert made[accepted].SOPInstanceUID not in not_sent
    assert accepted == JPEG or made[JPEG].SOPInstanceUID in not_sent
    if accepted in (IMPLICIT, EXPLICIT):
        assert not_sent.isdisjoint(made[syntax].SOPInstanceUID for syntax in (IMPLICIT, EXPLICIT, DEFLATED))


def test_24_an_unknown_destination_is_a801_and_a_dead_one_fails_every_instance(node: Node) -> None:
    uid, made = study_of_two("NOWHERE")
    assert set(sent(node, *made[:4])) == {0}
    identifier = keys("STUDY", StudyInstanceUID=uid)
    assert [status.Status for status, _ in moved(node, identifier, "NOBODY")] == [0xA801]
    node.devices.put(Device(ae_title="DEAD", address="127.0.0.1", port=free_port()))
    final, failed = moved(node, identifier, "DEAD")[-1]
    assert (counts(final), len(failed.FailedSOPInstanceUIDList)) == ((0xA702, 0, 4, 0), 4)
    assert outcome(node, keys("STUDY", StudyInstanceUID="1.2.3.999"), "DEAD") == (0, 0, 0, 0)


def test_27_every_level_and_lists_of_uids_are_retrieved(node: Node) -> None:
    uid, made = study_of_two("RETRIEVED")
    assert set(sent(node, *made)) == {0}
    series = {"StudyInstanceUID": uid, "SeriesInstanceUID": f"{uid}.0"}
    images = [one.SOPInstanceUID for one in made[:2]]
    asks = [
        (8, PATIENT, keys("PATIENT", PatientID="RETRIEVED")),
        (4, PATIENT, keys("STUDY", PatientID="RETRIEVED", StudyInstanceUID=uid)),
        (0, PATIENT, keys("STUDY", PatientID="ANOTHER", StudyInstanceUID=uid)),
        (8, STUDY, keys("STUDY", StudyInstanceUID=[uid, f"{uid[:-1]}1"])),
        (2, STUDY, keys("SERIES", **series)),
        (4, STUDY, keys("SERIES", StudyInstanceUID=uid, SeriesInstanceUID=[f"{uid}.0", f"{uid}.1"])),
        (2, STUDY, keys("IMAGE", **series, SOPInstanceUID=[*images, "1.2.3.999"])),
    ]
    with destination(node, "LEVEL"):
        assert [outcome(node, identifier, "LEVEL", root) for _, root, identifier in asks] == [
            (0, count, 0, 0) for count, _, _ in asks
        ]
        for root, identifier in (
            (PATIENT, keys("PATIENT", PatientID=["RETRIEVED", "X"])),
            (STUDY, keys("STUDY", StudyInstanceUID="")),
            (STUDY, keys("SERIES", SeriesInstanceUID=f"{uid}.0")),
        ):
            assert moved(node, identifier, "LEVEL", root)[-1][0].Status == 0xA900


# Storage and patients


def test_28_a_data_set_that_contradicts_its_command_or_itself_has_its_status(node: Node) -> None:
    one, nameless = ct(), ct(StudyInstanceUID="")
    data, uid = raw(one), one.SOPInstanceUID
    bad = [
        (RawInstance(CT, "1.2.3.4.5", EXPLICIT, data), 0xA900),
        (RawInstance("1.2.840.10008.5.1.4.1.1.4", uid, EXPLICIT, data), 0xA900),
        (RawInstance(CT, nameless.SOPInstanceUID, EXPLICIT, raw(nameless)), 0xA900),
        (RawInstance(CT, uid, EXPLICIT, b"neither fish nor fowl!"), 0xC000),
        (RawInstance(CT, uid, DEFLATED, data), 0xC000),
    ]
    requestor = Requestor("MODALITY", "127.0.0.1", node.ports["dicom"], "ALPHA")
    answers = list(requestor.store([instance for instance, _ in bad]))
    assert [answer.status for answer in answers] == [status for _, status in bad]
    assert all(answer.comment for answer in answers)
    assert not studies(node, StudyInstanceUID=one.StudyInstanceUID)


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG, DEFLATED])
@pytest.mark.parametrize("new", ["Suzuki^Ichiro", "Müller^Jörg", "Suzuki^Ichiro=鈴木^一郎"])
def test_29_a_japanese_patient_corrected_to_another_leaves_as_that_one(
    node: Node, syntax: str, new: str
) -> None:
    old = "Yamada^Tarou=山田^太郎=やまだ^たろう"
    one = named("\\ISO 2022 IR 87", old, StudyDescription="胸部", ReferringPhysicianName=old)
    assert sent(node, one, syntax=syntax) == [0]
    uid = one.StudyInstanceUID
    node.desk.of("").correct(uid, [f"PatientName={new}", "PatientID=OTHER"], "the wrong person", "test")
    with destination(node, "READER", syntax) as reader:
        assert (
            outcome(node, keys("STUDY", PatientID="OTHER", StudyInstanceUID=uid), "READER", PATIENT)[1] == 1
        )
        assert not found(node, keys("STUDY", PatientID=one.PatientID, StudyInstanceUID=uid), PATIENT)
    data = zlib.decompress(reader.datasets[0], -15) if syntax == DEFLATED else reader.datasets[0]
    got = read_dataset(BytesIO(data), syntax == IMPLICIT, syntax != BIG)
    before = got.OriginalAttributesSequence[0].ModifiedAttributesSequence[0]
    assert (str(got.PatientName), got.PatientID, got.StudyDescription) == (new, "OTHER", "胸部")
    assert (str(before.PatientName), before.PatientID) == (old, one.PatientID)
    assert str(got.ReferringPhysicianName) == old


def test_30_what_several_send_at_once_is_there_once(node: Node) -> None:
    uid = generate_uid()
    made = [ct(StudyInstanceUID=uid, SeriesInstanceUID=f"{uid[:-2]}9", PatientID="SHARED") for _ in range(25)]
    told: list[int] = []
    threads = [threading.Thread(target=lambda: told.extend(sent(node, *made))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told == [0] * 100
    [study] = found(node, keys("STUDY", StudyInstanceUID=uid, NumberOfStudyRelatedInstances=""))
    assert study.NumberOfStudyRelatedInstances == 25


def test_29_30_equal_bytes_are_not_acknowledged_before_the_first_are_on_the_disk(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, go_on = ct(), threading.Event()
    asked_for: list[Holding] = []
    sync = VolumeStore.sync

    def slow_disk(store: VolumeStore, holding: Holding) -> None:
        asked_for.append(holding)
        assert go_on.wait(60)
        sync(store, holding)

    monkeypatch.setattr(VolumeStore, "sync", slow_disk)
    told: list[int] = []
    first, second = (threading.Thread(target=lambda: told.extend(sent(node, one))) for _ in range(2))
    first.start()
    until(lambda: node.catalog.select(Selection(instances=(one.SOPInstanceUID,))))
    second.start()
    until(lambda: len(asked_for) == 2)
    assert told == []
    go_on.set()
    first.join()
    second.join()
    [kept] = node.catalog.select(Selection(instances=(one.SOPInstanceUID,)))
    [spare] = [holding for holding in asked_for if holding != kept.holding]
    node.store.open(kept.holding).close()
    with pytest.raises(NotFound):
        node.store.open(spare)
    assert told == [0, 0]


@pytest.mark.parametrize("accepts", [False, True])
def test_31_unknown_classes_and_syntaxes_are_kept_if_the_setting_says_so(
    tmp_path: Path, accepts: bool
) -> None:
    private, syntax = "1.2.276.0.7230010.9.9", "1.2.276.0.7230010.8.8"
    new, packed = ct(SOPClassUID=private), ct()
    with serving(tmp_path / "home", dicom={"host": "127.0.0.1", "accept_unknown": accepts}) as node:
        stored = [sent(node, new)[0], sent(node, packed, syntax=syntax)[0]]
        assert stored == ([0, 0] if accepts else [0x0110, 0x0110])
        matched = found(node, keys("IMAGE", SOPInstanceUID="", SOPClassUID=private), STUDY, bytes((1,)))
        assert [one.SOPInstanceUID for one in matched] == [new.SOPInstanceUID] * accepts
        if accepts:
            register_uid(private, "PrivateStorage", StorageServiceClass)
            with destination(node, "NEWER", uids=(private,)) as newer:
                identifier = keys("STUDY", StudyInstanceUID=new.StudyInstanceUID)
                assert outcome(node, identifier, "NEWER") == (0, 1, 0, 0)
            assert newer.datasets == [raw(new)]


def test_19_45_what_is_rejected_is_in_no_count_and_no_retrieve(node: Node) -> None:
    uid, made = study_of_two("HIDDEN")
    assert set(sent(node, *made)) == {0}
    node.desk.of("").reject(f"{uid}/{uid}.1", "the wrong side", "test")
    asks = {"NumberOfStudyRelatedInstances": "", "ModalitiesInStudy": "", "InstanceAvailability": ""}
    [study] = found(node, keys("STUDY", StudyInstanceUID=uid, **asks))
    assert [study[keyword].value for keyword in asks] == [2, "CT", "ONLINE"]
    [patient] = found(node, keys("PATIENT", PatientID="HIDDEN", NumberOfPatientRelatedInstances=""), PATIENT)
    assert patient.NumberOfPatientRelatedInstances == 6
    assert uid not in studies(node, PatientID="HIDDEN", ModalitiesInStudy="MR")
    assert set(sent(node, *made)) == {0}
    with destination(node, "ARCHIVE"):
        identifier = keys("SERIES", StudyInstanceUID=uid, SeriesInstanceUID=f"{uid}.1")
        assert outcome(node, identifier, "ARCHIVE") == (0, 0, 0, 0)
        assert outcome(node, keys("PATIENT", PatientID="HIDDEN"), "ARCHIVE", PATIENT) == (0, 6, 0, 0)


def test_two_issuers_with_one_patient_id_are_two_patients(node: Node) -> None:
    made = [ct(PatientID="TWO", IssuerOfPatientID=issuer) for issuer in ("A", "B")]
    assert sent(node, *made, ct(PatientID="TWO")) == [0, 0, 0]
    asks = {"PatientID": "TWO", "NumberOfPatientRelatedStudies": ""}
    answers = found(node, keys("PATIENT", IssuerOfPatientID="", **asks), PATIENT)
    told = [(one.IssuerOfPatientID, one.NumberOfPatientRelatedStudies) for one in answers]
    assert sorted(told) == [("A", 1), ("B", 1), ("HERE", 1)]
    with destination(node, "ONEOFTWO") as receiver:
        identifier = keys("PATIENT", PatientID="TWO", IssuerOfPatientID="A")
        assert outcome(node, identifier, "ONEOFTWO", PATIENT) == (0, 1, 0, 0)
        assert receiver.requests[0].AffectedSOPInstanceUID == made[0].SOPInstanceUID
        assert outcome(node, keys("PATIENT", PatientID="TWO"), "ONEOFTWO", PATIENT) == (0, 3, 0, 0)


def test_a_placeholder_is_a_patient_of_its_own_for_each_study(node: Node) -> None:
    assert sent(node, *(ct(PatientID=id) for id in ("UNKNOWN", "UNKNOWN", "", ""))) == [0] * 4
    asks = {"NumberOfPatientRelatedStudies": "", "PatientName": ""}
    for id in ("UNKNOWN", ""):
        answers = found(node, keys("PATIENT", PatientID=id, **asks), PATIENT)
        mine = [one.NumberOfPatientRelatedStudies for one in answers if (one.PatientID or "") == id]
        assert mine == [1, 1]
