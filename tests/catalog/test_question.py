"""What Identifiers ask for and what answers carry: rules 10, 14, 16, 17, 18 and 27 of PS3.4 C.4."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog import (
    Attributes,
    BadRequest,
    Level,
    Matching,
    Query,
    Selection,
    answer,
    decode_identifier,
    encode_identifier,
    is_fully_supported,
    selection,
    understand,
)
from tests.catalog.real_files import EXPLICIT, IMPLICIT

LEVEL, PATIENT, STUDY, SERIES, IMAGE = "00080052", "00100020", "0020000D", "0020000E", "00080018"


def identifier(level: str, **keys: str) -> Attributes:
    """Return an Identifier; `patient`, `study`, `series`, `image` are the unique keys."""
    asked: Attributes = {LEVEL: {"vr": "CS", "Value": [level]}} if level else {}
    for keyword, tag, vr in (
        ("patient", PATIENT, "LO"),
        ("study", STUDY, "UI"),
        ("series", SERIES, "UI"),
        ("image", IMAGE, "UI"),
    ):
        if keyword in keys:
            values = keys[keyword].split("\\") if keys[keyword] else []
            asked[tag] = {"vr": vr, "Value": values} if values else {"vr": vr}
    return asked


def asked(
    attributes: Attributes,
    *,
    patient_root: bool = True,
    matching: Matching = Matching.PLAIN,
    is_lenient: bool = False,
) -> Query:
    return understand(attributes, patient_root=patient_root, matching=matching, is_lenient=is_lenient)


P, S, R, I = {"patient": "4711"}, {"study": "1.2"}, {"series": "1.2.3"}, {"image": "1.2.3.4"}  # noqa: E741
COMPLETE = [
    (True, "PATIENT", {}),
    (True, "STUDY", P),
    (True, "SERIES", P | S),
    (True, "IMAGE", P | S | R),
    (False, "STUDY", {}),
    (False, "SERIES", S),
    (False, "IMAGE", S | R),
]


@pytest.mark.parametrize(("patient_root", "level", "keys"), COMPLETE)
def test_16_a_query_with_the_unique_keys_above_is_understood(
    patient_root: bool, level: str, keys: dict[str, str]
) -> None:
    query = asked(identifier(level, **keys), patient_root=patient_root)
    assert (query.level, query.patient_root) == (Level(level), patient_root)


@pytest.mark.parametrize(
    ("patient_root", "level", "keys", "offending"),
    [
        (True, "STUDY", {}, PATIENT),
        (True, "STUDY", {"patient": ""}, PATIENT),
        (True, "STUDY", {"patient": "47*"}, PATIENT),
        (True, "SERIES", S, PATIENT),
        (True, "SERIES", P, STUDY),
        (True, "IMAGE", P | S, SERIES),
        (False, "SERIES", {}, STUDY),
        (False, "SERIES", {"study": ""}, STUDY),
        (False, "SERIES", {"study": "1.2\\1.3"}, STUDY),
        (False, "SERIES", {"study": "*"}, STUDY),
        (False, "IMAGE", S, SERIES),
        (False, "IMAGE", R, STUDY),
        (False, "PATIENT", P, LEVEL),
        (True, "", {}, LEVEL),
        (True, "WORKLIST", {}, LEVEL),
    ],
)
def test_16_a_missing_unique_key_is_named(
    patient_root: bool, level: str, keys: dict[str, str], offending: str
) -> None:
    with pytest.raises(BadRequest) as refused:
        asked(identifier(level, **keys), patient_root=patient_root)
    assert refused.value.tags == (offending,)
    assert refused.value.next


@pytest.mark.parametrize("freedom", [{"matching": Matching.RELATIONAL}, {"is_lenient": True}])
def test_16_relational_queries_and_lenient_devices_need_none(freedom: dict[str, Any]) -> None:
    assert asked(identifier("IMAGE"), **freedom).level is Level.IMAGE
    assert asked(identifier("SERIES", study=""), patient_root=False, **freedom).level is Level.SERIES


def test_19_modalities_in_study_may_be_asked_for_as_a_list_by_everybody() -> None:
    keys = identifier("STUDY") | {"00080061": {"vr": "CS", "Value": ["CT", "MR"]}}
    assert asked(keys, patient_root=False).keys["00080061"]["Value"] == ["CT", "MR"]


def test_10_several_values_of_another_key_than_a_uid_are_for_lenient_devices() -> None:
    keys = identifier("STUDY") | {"00100040": {"vr": "CS", "Value": ["F", "O"]}}
    with pytest.raises(BadRequest) as refused:
        asked(keys, patient_root=False)
    assert refused.value.tags == ("00100040",)
    assert asked(keys, patient_root=False, is_lenient=True).keys["00100040"]["Value"] == ["F", "O"]
    assert asked(identifier("STUDY", study="1.2\\1.3"), patient_root=False).keys[STUDY]["Value"] == [
        "1.2",
        "1.3",
    ]


def test_07_a_star_where_it_is_no_wildcard_is_for_lenient_devices() -> None:
    keys = identifier("STUDY") | {"00080020": {"vr": "DA", "Value": ["*"]}}
    with pytest.raises(BadRequest) as refused:
        asked(keys, patient_root=False)
    assert refused.value.tags == ("00080020",)
    assert asked(keys, patient_root=False, is_lenient=True).keys["00080020"] == {"vr": "DA"}


@pytest.mark.parametrize("is_lenient", [False, True])
def test_11_a_key_that_cannot_be_one_is_named_before_anything_is_searched(is_lenient: bool) -> None:
    keys = identifier("STUDY") | {"00080030": {"vr": "TM", "Value": ["2200-0600"]}}
    with pytest.raises(BadRequest) as refused:
        asked(keys, patient_root=False, is_lenient=is_lenient)
    assert refused.value.tags == ("00080030",)


def test_a_key_has_the_vr_of_the_dictionary() -> None:
    keys = identifier("STUDY") | {"00100010": {"vr": "LO", "Value": ["Doe*"]}, "00080020": {"vr": "UN"}}
    query = asked(keys, patient_root=False)
    assert (query.keys["00100010"]["vr"], query.keys["00080020"]["vr"]) == ("PN", "DA")


def test_a_key_of_an_impossible_vr_is_named() -> None:
    keys = identifier("STUDY") | {"00081032": {"vr": "LO", "Value": ["x"]}}
    with pytest.raises(BadRequest) as refused:
        asked(keys, patient_root=False)
    assert refused.value.tags == ("00081032",)


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ({"00100010": {"vr": "PN", "Value": [{"Alphabetic": "Doe*"}]}}, True),
        ({"00091001": {"vr": "LO", "Value": ["x"]}}, True),
        ({"00420011": {"vr": "OB"}}, True),
        ({"00420011": {"vr": "OB", "InlineBinary": "AAE="}}, False),
        ({"00081032": {"vr": "SQ", "Value": [{"00420011": {"vr": "OB", "InlineBinary": "AAE="}}]}}, False),
        ({"00080054": {"vr": "AE", "Value": ["ALPHA"]}}, True),
    ],
)
def test_17_a_key_that_is_ignored_is_confessed(key: Attributes, expected: bool) -> None:
    query = asked(identifier("STUDY") | key, patient_root=False)
    assert is_fully_supported(query) is expected


KNOWN: Attributes = {
    "00080020": {"vr": "DA", "Value": ["20240229"]},
    "00080050": {"vr": "SH"},
    "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Müller"}]},
    STUDY: {"vr": "UI", "Value": ["1.2"]},
    "00081032": {
        "vr": "SQ",
        "Value": [{"00080100": {"vr": "SH", "Value": ["A"]}, "00080104": {"vr": "LO", "Value": ["Chest"]}}],
    },
}


def test_18_an_answer_has_the_keys_asked_for_and_no_other() -> None:
    keys = identifier("STUDY", study="") | {
        tag: {"vr": vr} for tag, vr in (("00080020", "DA"), ("00080050", "SH"), ("00081030", "LO"))
    }
    told = answer(asked(keys, patient_root=False), KNOWN, ae_title="ALPHA")
    assert told == {
        "00080020": {"vr": "DA", "Value": ["20240229"]},
        "00080050": {"vr": "SH"},
        "00080052": {"vr": "CS", "Value": ["STUDY"]},
        "00080054": {"vr": "AE", "Value": ["ALPHA"]},
        "00081030": {"vr": "LO"},
        STUDY: {"vr": "UI", "Value": ["1.2"]},
    }


def test_18_the_character_set_of_the_request_is_not_that_of_the_answer() -> None:
    keys = identifier("STUDY") | {
        "00080005": {"vr": "CS", "Value": ["ISO_IR 144"]},
        "00100010": {"vr": "PN"},
    }
    told = answer(asked(keys, patient_root=False), KNOWN, ae_title="ALPHA")
    assert "00080005" not in told
    sent = decode_identifier(encode_identifier(told, IMPLICIT, "ISO_IR 100"), IMPLICIT)
    assert sent["00080005"]["Value"] == ["ISO_IR 100"]
    assert sent["00100010"] == KNOWN["00100010"]


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ({"vr": "SQ"}, KNOWN["00081032"]["Value"]),
        ({"vr": "SQ", "Value": [{}]}, KNOWN["00081032"]["Value"]),
        ({"vr": "SQ", "Value": [{"00080100": {"vr": "SH"}}]}, [{"00080100": {"vr": "SH", "Value": ["A"]}}]),
        (
            {"vr": "SQ", "Value": [{"00080102": {"vr": "SH"}, "00080104": {"vr": "LO", "Value": ["C*"]}}]},
            [{"00080102": {"vr": "SH"}, "00080104": {"vr": "LO", "Value": ["Chest"]}}],
        ),
    ],
)
def test_14_items_of_an_answer_have_what_the_item_asked_for(key: dict[str, Any], expected: Any) -> None:
    query = asked(identifier("STUDY") | {"00081032": key}, patient_root=False)
    assert answer(query, KNOWN, ae_title="ALPHA")["00081032"] == {"vr": "SQ", "Value": expected}


def chosen(
    attributes: Attributes,
    *,
    patient_root: bool = True,
    matching: Matching = Matching.PLAIN,
    is_lenient: bool = False,
) -> Selection:
    return selection(attributes, patient_root=patient_root, matching=matching, is_lenient=is_lenient)


@pytest.mark.parametrize(
    ("patient_root", "level", "keys", "expected"),
    [
        (True, "PATIENT", P, Selection(patient=("4711",))),
        (True, "STUDY", P | {"study": "1.2\\1.3"}, Selection(patient=("4711",), studies=("1.2", "1.3"))),
        (True, "SERIES", P | S | R, Selection(patient=("4711",), studies=("1.2",), series=("1.2.3",))),
        (False, "STUDY", {"study": "1.2\\1.3"}, Selection(studies=("1.2", "1.3"))),
        (False, "STUDY", P | S | R, Selection(studies=("1.2",))),
        (False, "SERIES", S | {"series": "1\\2"}, Selection(studies=("1.2",), series=("1", "2"))),
        (
            False,
            "IMAGE",
            S | R | {"image": "1\\2"},
            Selection(studies=("1.2",), series=("1.2.3",), instances=("1", "2")),
        ),
    ],
)
def test_27_a_retrieve_names_unique_keys_and_lists_of_uids(
    patient_root: bool, level: str, keys: dict[str, str], expected: Selection
) -> None:
    assert chosen(identifier(level, **keys), patient_root=patient_root) == expected


@pytest.mark.parametrize(
    ("patient_root", "level", "keys", "offending"),
    [
        (True, "PATIENT", {"patient": "1\\2"}, PATIENT),
        (True, "PATIENT", {}, PATIENT),
        (True, "STUDY", S, PATIENT),
        (False, "PATIENT", P, LEVEL),
        (False, "STUDY", {}, STUDY),
        (False, "STUDY", {"study": ""}, STUDY),
        (False, "STUDY", {"study": "*"}, STUDY),
        (False, "SERIES", R, STUDY),
        (False, "SERIES", {"study": "1\\2"} | R, STUDY),
        (False, "IMAGE", S | R, IMAGE),
    ],
)
def test_27_a_retrieve_without_its_keys_is_refused_by_name(
    patient_root: bool, level: str, keys: dict[str, str], offending: str
) -> None:
    with pytest.raises(BadRequest) as refused:
        chosen(identifier(level, **keys), patient_root=patient_root)
    assert refused.value.tags == (offending,)


@pytest.mark.parametrize("freedom", [{"matching": Matching.RELATIONAL}, {"is_lenient": True}])
def test_27_relational_retrieval_needs_no_keys_above(freedom: dict[str, Any]) -> None:
    assert chosen(identifier("IMAGE", **I), **freedom) == Selection(instances=("1.2.3.4",))
    with_study = identifier("IMAGE", study="1\\2", **I)
    assert chosen(with_study, **freedom) == Selection(studies=("1", "2"), instances=("1.2.3.4",))


def test_issuers_are_handed_on() -> None:
    narrowed = {"patient_root": False, "matching": Matching.PLAIN, "is_lenient": False, "issuers": ("A", "")}
    assert understand(identifier("STUDY"), **narrowed).issuers == ("A", "")
    assert selection(identifier("STUDY", **S), **narrowed).issuers == ("A", "")


@given(st.binary(max_size=200), st.booleans(), st.sampled_from(list(Matching)), st.booleans())
def test_any_identifier_is_understood_or_refused(
    tail: bytes, patient_root: bool, matching: Matching, is_lenient: bool
) -> None:
    data = encode_identifier(identifier("STUDY", **P), EXPLICIT) + tail
    try:
        decoded = decode_identifier(data, EXPLICIT)
        query = asked(decoded, patient_root=patient_root, matching=matching, is_lenient=is_lenient)
        answer(query, KNOWN, ae_title="ALPHA")
    except Exception as error:
        assert type(error).__name__ in ("BadRequest", "Unreadable")  # noqa: PT017
