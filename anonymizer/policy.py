"""What is to be done, as a document a curator can read and sign: profile, options and details in JSON.

A policy starts from the Basic Application Level Confidentiality Profile. Options change actions as the
columns of Table E.1-1 say; overrides may only make an action stronger, unless a chosen option permits
keeping. The SHA-256 of the canonical JSON, its digest, is recorded wherever the policy was applied.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any

from anonymizer.private_csv import UnreadableList, private_list
from anonymizer.table import Option, load_table

PRESETS: dict[str, dict[str, Any]] = {
    "basic": {"profile": "basic", "options": []},
    "research": {
        "profile": "basic",
        "options": ["113100", "113101", "113103", "113104", "113105", "113107", "113108", "113111"],
    },
    "tcia": {
        "profile": "basic",
        "options": ["113100", "113101", "113103", "113104", "113105", "113107", "113108", "113111"],
        "references": "remap",
        "faces": "quarantine",
    },
    "teaching": {
        "profile": "basic",
        "options": ["113100", "113101", "113103", "113104", "113105", "113108"],
        "faces": "quarantine",
    },
}

_DEFAULTS: dict[str, Any] = {
    "profile": "basic",
    "options": [],
    "dates": {"min_weeks": 52, "max_weeks": 520},
    "text": {"vocabulary": [], "review": "drop"},
    "private": {"list": []},
    "pixel": {"rules": [], "ocr": False, "catalogue": False},
    "references": "strict",
    "clinical_trial": {},
    "overrides": [],
    "encapsulated": "quarantine",
    "faces": "flag",
    "accession": "empty",
    "leading_zeros": "keep",
    "ae_titles": [],
    "unsupported": "quarantine",
}
_CHOICES = {
    "profile": ("basic",),
    "references": ("strict", "remap"),
    "encapsulated": ("quarantine", "placeholder"),
    "faces": ("flag", "quarantine"),
    "accession": ("empty", "pseudonym"),
    "leading_zeros": ("keep", "strip"),
    "unsupported": ("quarantine",),
}
# How little of a value each code can leave, least first.
_STRENGTH = {"K": 0, "C": 1, "U": 2, "D": 3, "Z": 4, "X": 5}
# What a pixel rule can go by.
RULE_KEYS = {
    "SOPClassUID": 0x00080016,
    "Modality": 0x00080060,
    "Manufacturer": 0x00080070,
    "ManufacturerModelName": 0x00081090,
    "SoftwareVersions": 0x00181020,
    "StationName": 0x00081010,
    "ImageType": 0x00080008,
    "ConversionType": 0x00080064,
    "SeriesInstanceUID": 0x0020000E,
    "SOPInstanceUID": 0x00080018,
    "Rows": 0x00280010,
    "Columns": 0x00280011,
}
_TRIAL_KEYS = ("sponsor", "protocol_id", "protocol_name", "site_id", "site_name", "time_point")


class PolicyRejected(ValueError):
    """The policy contradicts itself or would keep more than the profile allows."""


@dataclass(frozen=True)
class Policy:
    """A checked policy; `document` is complete, with every default written out."""

    name: str
    document: dict[str, Any] = field(hash=False)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON: sorted keys, no blanks, UTF-8."""
        canonical = json.dumps(self.document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(canonical.encode()).hexdigest()

    @cached_property
    def options(self) -> frozenset[Option]:
        """The chosen options."""
        return frozenset(Option(code) for code in self.document["options"] if code != "113100")

    @cached_property
    def actions(self) -> dict[int, str]:
        """The action code of every attribute of Table E.1-1, options and overrides applied."""
        actions = {tag: row.action(self.options) for tag, row in load_table().rows.items()}
        if self.document["references"] == "remap":
            actions |= {tag: "U*" for tag, code in actions.items() if code == "X/Z/U*"}
        return actions | {int(o["tag"], 16): o["action"] for o in self.document["overrides"]}

    @cached_property
    def ae_titles(self) -> frozenset[str]:
        """The project's own AE titles, which may stay."""
        return frozenset(self.document["ae_titles"])

    @cached_property
    def words(self) -> frozenset[str]:
        """Words this project allows in free text beyond the vocabulary."""
        return frozenset(word.casefold() for word in self.document["text"]["vocabulary"])

    def shows(self, option: Option) -> bool:
        """Whether `option` is chosen."""
        return option in self.options


def load_policy(profile: str | Path) -> Policy:
    """A preset by name or a policy from a JSON file; raises PolicyRejected with what to change."""
    name = str(profile)
    if name in PRESETS:
        return policy_from(name, PRESETS[name])
    path = Path(profile)
    if not path.is_file():
        raise PolicyRejected(
            f"There is no profile {name!r}: name one of {', '.join(PRESETS)}, or a JSON file."
        )
    return policy_from(path.stem, document_in(path))


def document_in(path: Path) -> Any:
    """The JSON document in a file, with the rows of the CSV file that its `private.csv` names beside it.

    Raises PolicyRejected with what to change.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise PolicyRejected(f"{path.name} is not JSON: {error}.") from error
    private = document.get("private") if isinstance(document, dict) else None
    if not isinstance(private, dict) or not private.get("csv"):
        return document
    _reject_unknown(private, {**_DEFAULTS["private"], "csv": ""}, "private")
    try:
        more = private_list(path.parent / str(private["csv"]))
    except UnreadableList as error:
        raise PolicyRejected(str(error)) from error
    return {**document, "private": {"list": [*private.get("list", ()), *more]}}


def policy_from(name: str, document: Any) -> Policy:
    """A policy from its JSON document; raises PolicyRejected with what to change."""
    if not isinstance(document, dict):
        raise PolicyRejected("A policy is a JSON object.")
    _reject_unknown(document, _DEFAULTS, "a policy")
    complete = {key: document.get(key, default) for key, default in _DEFAULTS.items()}
    for key in ("dates", "text", "private", "pixel"):
        _reject_unknown(complete[key], _DEFAULTS[key], key)
        complete[key] = {**_DEFAULTS[key], **complete[key]}
    for key, choices in _CHOICES.items():
        if complete[key] not in choices:
            raise PolicyRejected(f"{key} is one of {', '.join(choices)}, not {complete[key]!r}.")
    _check_options(complete["options"])
    _check_dates(complete["dates"])
    _reject_unknown(complete["clinical_trial"], dict.fromkeys(_TRIAL_KEYS), "clinical_trial")
    if not all(str(value).isascii() for value in complete["clinical_trial"].values()):
        raise PolicyRejected("clinical_trial is written in ASCII, which every character set has.")
    for rule in complete["pixel"]["rules"]:
        _check_rule(rule)
    if not isinstance(complete["pixel"]["ocr"], bool):
        raise PolicyRejected("pixel.ocr is true or false.")
    if not isinstance(complete["pixel"]["catalogue"], bool):
        raise PolicyRejected("pixel.catalogue is true or false.")
    for row in complete["private"]["list"]:
        _check_private(row)
    if complete["text"]["review"] not in ("drop", "hold"):
        raise PolicyRejected("text.review is drop or hold.")
    complete["options"] = sorted({*complete["options"], "113100"})
    policy = Policy(name, complete)
    for override in complete["overrides"]:
        _check_override(override, policy.options)
    return policy


def _reject_unknown(given: Any, known: dict[str, Any], where: str) -> None:
    if not isinstance(given, dict):
        raise PolicyRejected(f"In a policy, {where} is a JSON object.")
    for key in given:
        if key not in known:
            near = get_close_matches(key, known, 1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise PolicyRejected(f"{where} has no key {key!r}.{hint}")


def _check_options(codes: Any) -> None:
    known = {*Option, "113100"}
    unknown = [code for code in codes if code not in known]
    if unknown:
        raise PolicyRejected(f"There is no option {unknown[0]!r} in CID 7050.")
    if {"113106", "113107"} <= set(codes):
        raise PolicyRejected("Full dates (113106) and modified dates (113107) exclude each other.")


def _check_dates(dates: dict[str, Any]) -> None:
    low, high = dates["min_weeks"], dates["max_weeks"]
    if not (isinstance(low, int) and isinstance(high, int) and 1 <= low <= high <= 2600):
        raise PolicyRejected("dates needs 1 <= min_weeks <= max_weeks <= 2600, so that no shift is 0.")


def _check_rule(rule: Any) -> None:
    _reject_unknown(rule, {"match": {}, "boxes": [], "why": ""}, "a pixel rule")
    _reject_unknown(rule.get("match"), dict.fromkeys(RULE_KEYS), "a pixel rule's match")
    if not rule["match"]:
        raise PolicyRejected("A pixel rule that matches everything would vouch for every image.")
    for box in rule.get("boxes", [None]):
        if not (isinstance(box, list) and len(box) == 4 and all(isinstance(n, int) and n >= 0 for n in box)):
            raise PolicyRejected("A pixel rule has boxes of left, top, width and height, or an empty list.")


def _check_private(row: Any) -> None:
    _reject_unknown(row, dict.fromkeys(("group", "creator", "element", "vr")), "private.list")
    try:
        is_private = int(row["group"], 16) % 2 == 1 and 0 <= int(row["element"], 16) <= 0xFF
    except (KeyError, TypeError, ValueError):
        is_private = False
    if not (is_private and row.get("creator") and row.get("vr")):
        raise PolicyRejected("private.list needs an odd group, a creator, a low byte as element, and a VR.")


def _check_override(override: dict[str, Any], options: frozenset[Option]) -> None:
    _reject_unknown(override, {"tag": "", "action": "", "why": ""}, "an override")
    action = override.get("action")
    try:
        tag = int(override["tag"], 16)
    except (KeyError, TypeError, ValueError) as error:
        raise PolicyRejected("An override names its tag as eight hexadecimal digits.") from error
    if action not in _STRENGTH:
        raise PolicyRejected(f"An override's action is one of {', '.join(_STRENGTH)}.")
    row = load_table().rows.get(tag)
    if row is None:
        allowed = 0
    else:
        permitted = {code for option, code in row.options.items() if option in options}
        allowed = min(_STRENGTH[c] for c in permitted | set(_parts(row.action(options))))
    if _STRENGTH[action] < allowed:
        raise PolicyRejected(
            f"The override of {override['tag']} to {action} is weaker than the profile; "
            "choose the option that permits it instead."
        )


def _parts(code: str) -> list[str]:
    return [part.rstrip("*") for part in code.split("/")]
