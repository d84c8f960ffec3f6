"""The rules of DICOM that devices rely on, shown at a serving node with software we did not write.

Numbers in the names are those of the rules; what the engine's own tests show is not repeated here.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import generate_uid
from pynetdicom import AE, build_role, evt
from pynetdicom.pdu_primitives import SOPClassExtendedNegotiation

from node.app import Node
from node.contracts import Device, Service
from node.dimse import Requestor
from node.dimse.pdu import decode_associate
from tests.homes import RawInstance, serving
from tests.node.dimse.wire import Raw, associate, context, item
from tests.running import free_port

CT = "1.2.840.10008.5.1.4.1.1.2"
IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
BIG, DEFLATED, JPEG = "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.50"
PATIENT, STUDY = "1.2.840.10008.5.1.4.1.2.1", "1.2.840.10008.5.1.4.1.2.2"
PENDING = (0xFF00, 0xFF01)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with serving(tmp_path_factory.mktemp("rules"), node={"issuer": "HERE"}) as serving_node:
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
        self.answer: Callable[[int], int] = lambda number: 0
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
        return self.answer(len(self.requests))


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
