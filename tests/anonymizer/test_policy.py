"""Policies: what they may ask for, and that they may not keep more than the profile."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from anonymizer import PRESETS, PolicyRejected, describe, load_policy, policy_from
from anonymizer.table import load_table


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_loads_and_its_digest_does_not_depend_on_the_order_of_keys(name: str) -> None:
    document = PRESETS[name]
    turned = dict(reversed(document.items()))
    assert policy_from(name, document).digest == policy_from("other name", turned).digest


@pytest.mark.parametrize(
    ("document", "hint"),
    [
        ({"optons": []}, "Did you mean 'options'"),
        ({"options": ["113106", "113107"]}, "exclude each other"),
        ({"options": ["113199"]}, "no option"),
        ({"dates": {"min_weeks": 0}}, "no shift is 0"),
        ({"references": "all"}, "strict, remap"),
        ({"unsupported": "pass"}, "quarantine"),
        ({"overrides": [{"tag": "00100010", "action": "K"}]}, "weaker"),
        ({"overrides": [{"tag": "00080018", "action": "K"}]}, "weaker"),
        ({"overrides": [{"tag": "00081030", "action": "C"}]}, "weaker"),
        ({"overrides": [{"tag": "patient", "action": "X"}]}, "eight hexadecimal digits"),
        ({"clinical_trial": {"sponser": "A"}}, "Did you mean 'sponsor'"),
        ({"clinical_trial": {"sponsor": "Škoda"}}, "ASCII"),
        ({"pixel": {"rules": [{"match": {}, "boxes": []}]}}, "vouch for every image"),
        ({"pixel": {"rules": [{"match": {"Model": "X"}, "boxes": []}]}}, "no key 'Model'"),
        ({"pixel": {"rules": [{"match": {"Modality": "US"}, "boxes": [[1, 2]]}]}}, "left, top, width"),
        (
            {"private": {"list": [{"group": "0010", "creator": "A", "element": "01"}]}},
            "odd group",
        ),
        ([], "JSON object"),
    ],
)
def test_a_policy_that_contradicts_itself_or_keeps_too_much_is_rejected(document: Any, hint: str) -> None:
    with pytest.raises(PolicyRejected, match=hint):
        policy_from("bad", document)


def test_an_override_may_strengthen_and_may_keep_what_a_chosen_option_keeps() -> None:
    stronger = policy_from("a", {"overrides": [{"tag": "00100040", "action": "X"}]})
    assert stronger.actions[0x00100040] == "X"
    permitted = {"options": ["113108"], "overrides": [{"tag": "00100040", "action": "K"}]}
    assert policy_from("b", permitted).actions[0x00100040] == "K"


def test_a_policy_of_ones_own_is_a_json_file(tmp_path: Path) -> None:
    path = tmp_path / "ours.json"
    path.write_text(json.dumps({"options": ["113105"], "text": {"vocabulary": ["Flurbiprofen"]}}))
    policy = load_policy(path)
    assert policy.name == "ours"
    assert policy.words == {"flurbiprofen"}
    with pytest.raises(PolicyRejected, match="basic, research, tcia, teaching"):
        load_policy("reserch")


@pytest.mark.parametrize("name", PRESETS)
def test_the_description_says_something_about_every_attribute_of_the_table(name: str) -> None:
    lines = "\n".join(describe(load_policy(name)))
    assert all(f"({tag >> 16:04X},{tag & 0xFFFF:04X})" in lines for tag in load_table().rows)
    assert load_policy(name).digest[:12] in lines
