"""What the statement lists is accepted by a running node, in those syntaxes and roles, and no more."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.uid import UID_dictionary  # type: ignore[attr-defined]
from pynetdicom import AE, build_context, build_role
from pynetdicom.pdu_primitives import SOPClassExtendedNegotiation
from pynetdicom.presentation import PresentationContext

from node.app import Node
from node.conformance import sop_classes
from node.dimse.syntaxes import QUERY_RETRIEVE, VERIFICATION
from tests.homes import EXPLICIT, phantoms, serving
from tests.running import dcmtk

CT = "1.2.840.10008.5.1.4.1.1.2"
SYNTAXES = sorted(uid for uid, (_, kind, *_) in UID_dictionary.items() if kind == "Transfer Syntax")


@pytest.fixture(scope="module")
def alpha(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with serving(tmp_path_factory.mktemp("statement") / "alpha") as node:
        yield node


def proposed(
    node: Node, contexts: list[PresentationContext], *extended: object
) -> Iterator[PresentationContext]:
    """Yield how each context was answered, in associations of 127 and one that is always accepted."""
    for start in range(0, len(contexts), 127):
        part = [*contexts[start : start + 127], build_context(VERIFICATION, EXPLICIT)]
        association = AE("PEER").associate(
            "127.0.0.1", node.ports["dicom"], contexts=part, ae_title="ALPHA", ext_neg=[*extended]
        )
        assert association.is_established
        answers = [*association.accepted_contexts, *association.rejected_contexts]
        yield from sorted(answers, key=lambda answer: answer.context_id or 0)[:-1]
        association.release()


def test_every_class_is_accepted_in_every_syntax_that_is_listed_for_it(alpha: Node) -> None:
    wanted = {
        (each.uid, syntax) for each in sop_classes() if each.is_scp for syntax in each.transfer_syntaxes
    }
    every = [
        build_context(each.uid, syntax)
        for each in sop_classes()
        for syntax in SYNTAXES[:: 1 if each.uid == CT else 5]
    ]
    every += [build_context(uid, syntax) for uid, syntax in sorted(wanted)[::3]]
    for answer in proposed(alpha, every):
        pair = (str(answer.abstract_syntax), str(answer.transfer_syntax[0]))
        assert answer.result == (0 if pair in wanted else 4), pair


def test_no_class_is_accepted_that_is_not_listed(alpha: Node) -> None:
    listed = {each.uid for each in sop_classes()}
    others = [
        uid for uid, (_, kind, *_) in UID_dictionary.items() if "SOP Class" in kind and uid not in listed
    ]
    others += ["1.2.840.113619.4.26", "1.3.12.2.1107.5.9.1", "1.2.3.4.5"]
    assert len(others) > 100
    assert {
        answer.result for answer in proposed(alpha, [build_context(uid, EXPLICIT) for uid in others])
    } == {3}


def test_the_first_syntax_that_fits_is_chosen(alpha: Node) -> None:
    jpeg, implicit = "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2"
    [find] = [uid for uid in QUERY_RETRIEVE if uid.endswith("2.2.1")]
    contexts = [build_context(CT, [jpeg, implicit]), build_context(find, [jpeg, implicit])]
    chosen = {answer.abstract_syntax: answer.transfer_syntax[0] for answer in proposed(alpha, contexts)}
    assert chosen == {CT: jpeg, find: implicit}


def test_the_scp_role_is_given_for_storage_and_its_commitment_and_nothing_else(alpha: Node) -> None:
    for each in [one for one in sop_classes() if one.service != "Storage"] + [sop_classes()[-1]]:
        role = build_role(each.uid, scu_role=True, scp_role=True)
        [answer] = proposed(alpha, [build_context(each.uid, EXPLICIT)], role)
        assert answer.as_scp is each.service.startswith("Storage"), each


def test_extended_negotiation_is_answered_as_the_table_says(alpha: Node) -> None:
    for uid in QUERY_RETRIEVE:
        item = SOPClassExtendedNegotiation()
        item.sop_class_uid, item.service_class_application_information = uid, b"\1" * 7
        association = AE("PEER").associate(
            "127.0.0.1", alpha.ports["dicom"], contexts=[build_context(uid)], ae_title="ALPHA", ext_neg=[item]
        )
        answered = association.acceptor.sop_class_extended[uid]
        association.release()
        assert answered == (b"\1\1" if uid.endswith(".1") else b"\1\0") + bytes(5)


def test_dcmtk_sees_the_same(alpha: Node, tmp_path: Path) -> None:
    """storescu proposes what a configuration file says, and prints each context with its answer."""
    storage = [each for each in sop_classes() if each.service == "Storage"]
    file = tmp_path / "one.dcm"
    [raw, *_] = phantoms(1, size=4000)
    from node.storage import file_meta

    file.write_bytes(file_meta(raw.SOPClassUID, raw.SOPInstanceUID, raw.TransferSyntaxUID) + raw.data)
    for start in range(0, len(storage), 120):
        part = [
            *dict.fromkeys(
                (raw.SOPClassUID, *(each.uid for each in storage[start : start + 120]), "1.2.3.4.5")
            )
        ]
        lines = [f"PresentationContext{n} = {uid}\\Plain" for n, uid in enumerate(part, start=1)]
        config = tmp_path / "contexts.cfg"
        config.write_text(
            f"[[TransferSyntaxes]]\n[Plain]\nTransferSyntax1 = {EXPLICIT}\n"
            "[[PresentationContexts]]\n[All]\n"
            + "\n".join(lines)
            + "\n[[Profiles]]\n[All]\nPresentationContexts = All\n"
        )
        said = dcmtk(
            "storescu",
            "-d",
            "-xf",
            str(config),
            "All",
            "-aec",
            "ALPHA",
            "127.0.0.1",
            str(alpha.ports["dicom"]),
            str(file),
        )
        answers = re.findall(
            r"Context ID: +\d+ \((.+?)\)",
            said.split("Associate Accept")[-1] if "Associate Accept" in said else said,
        )
        answers = answers[-len(part) :]
        assert answers[:-1] == ["Accepted"] * (len(part) - 1), said[-3000:]
        assert answers[-1].startswith("Abstract Syntax Not Supported")
