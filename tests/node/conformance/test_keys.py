"""Each key of the statement is matched in the ways listed for it; one that cannot be is answered FF01."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydicom import Dataset
from pynetdicom import AE

from catalog import NUMBER_VR, WILDCARD_VR, Level
from node.app import Node
from node.conformance import Key, keys
from tests.homes import Peer, edited, phantoms, serving

FIND = "1.2.840.10008.5.1.4.1.2.2.1"
VALUES: dict[str, Any] = {
    "PN": "Doe^Jane", "DA": "20240102", "TM": "101112", "AS": "040Y", "IS": "3", "US": 16, "SH": "KEY1",
    "LO": "KEY1", "CS": "KEY1",
}  # fmt: skip
OWN = {"TimezoneOffsetFromUTC": "+0000", "NumberOfFrames": "1", "PatientSex": "F", "Laterality": "L"}
COMPUTED = {
    "ModalitiesInStudy": "KEY1",
    "SOPClassesInStudy": "1.2.840.10008.5.1.4.1.1.2",
    "InstanceAvailability": "ONLINE",
}


@pytest.fixture(scope="module")
def alpha(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node with one instance that has a value for every key, and one of another patient."""
    raw = phantoms(1, size=4000)[0]
    values = {key.keyword: value_of(key) for key in keys() if not key.is_computed and key.vr != "UI"}
    with serving(tmp_path_factory.mktemp("keys") / "alpha") as node:
        assert Peer(node).store(edited(raw, **values), phantoms(2, size=4000)[0]) == [0, 0]
        yield node


def value_of(key: Key) -> Any:
    """Return the value that the instance has."""
    if key.is_computed:
        return COMPUTED.get(key.keyword, "1")
    return OWN.get(key.keyword, VALUES.get(key.vr))


def ask(node: Node, level: str, **asked: Any) -> tuple[list[int], list[Dataset]]:
    """Return the statuses and the matches of a C-FIND by pynetdicom."""
    identifier = Dataset()
    identifier.QueryRetrieveLevel = level
    for keyword, value in asked.items():
        setattr(identifier, keyword, value)
    entity = AE("PEER")
    entity.add_requested_context(FIND)
    association = entity.associate("127.0.0.1", node.ports["dicom"], ae_title="ALPHA")
    answers = [*association.send_c_find(identifier, FIND)]
    association.release()
    assert answers[-1][0].Status == 0
    return [status.Status for status, _ in answers[:-1]], [match for _, match in answers[:-1] if match]


def good_and_bad(key: Key, value: Any) -> tuple[list[Any], list[Any]]:
    """Return keys that match the value, each kind of matching once, and keys that do not."""
    if key.matching.startswith("none"):
        return [value, "+0100"], []
    if key.vr == "UI":
        return [value, [value, "1.2.3"]], ["1.2.3"]
    if key.vr == "PN":
        return [value, "doe^jane", "DO*", "Doe^J?ne"], ["Roe*", "Doe"]
    if key.vr in WILDCARD_VR:
        return [value, value[0] + "*", "?" * len(value)], ["ZZ*", "Z"]
    if key.vr == "DA":
        return [value, "20240101-20240103", "-20240102", "20240102-"], ["20250101-", "20240103"]
    if key.vr == "TM":
        return [value, "100000-110000", "-1012"], ["110000-", "101113", "10"]
    return [value], [999] if key.vr in NUMBER_VR else ["001D"]


@pytest.mark.parametrize("key", keys(), ids=lambda key: key.keyword)
def test_a_key_is_matched_as_the_statement_says(alpha: Node, key: Key) -> None:
    [whole] = ask(alpha, "STUDY", PatientID="KEY1", StudyInstanceUID="")[1]
    uids = {"StudyInstanceUID": whole.StudyInstanceUID}
    level = max(key.level, Level.STUDY, key=[*Level].index)
    if level in (Level.SERIES, Level.IMAGE):
        uids["SeriesInstanceUID"] = ask(alpha, "SERIES", **uids, SeriesInstanceUID="")[1][0].SeriesInstanceUID
    if level is Level.IMAGE:
        uids["SOPInstanceUID"] = ask(alpha, "IMAGE", **uids, SOPInstanceUID="")[1][0].SOPInstanceUID
    value = value_of(key)
    if key.vr == "UI" and not key.is_computed:
        value = uids.get(key.keyword, COMPUTED["SOPClassesInStudy"])
        value = (
            ask(alpha, level, **(uids | {key.keyword: ""}))[1][0][key.keyword].value
            if key.keyword == "SOPClassUID"
            else value
        )
    good, bad = good_and_bad(key, value)
    for wanted in good:
        statuses, matches = ask(alpha, level, **(uids | {key.keyword: wanted}))
        assert (statuses, len(matches)) == ([0xFF00], 1), wanted
        assert key.keyword in matches[0]
    for wanted in bad:
        assert ask(alpha, level, **(uids | {key.keyword: wanted})) == ([], []), wanted


def test_a_key_that_cannot_be_matched_is_ignored_and_said_so(alpha: Node) -> None:
    statuses, matches = ask(alpha, "STUDY", PatientID="KEY1", EncapsulatedDocument=b"\0\1")
    assert (statuses, len(matches)) == ([0xFF01], 1)
