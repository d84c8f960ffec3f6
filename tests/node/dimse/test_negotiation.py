"""What is answered to an A-ASSOCIATE-RQ; our bytes against pynetdicom's reading, and the other way round."""

from __future__ import annotations

from typing import Any

import pytest
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    AsynchronousOperationsWindowNegotiation,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
    SCP_SCU_RoleSelectionNegotiation,
    SOPClassExtendedNegotiation,
    UserIdentityNegotiation,
)
from pynetdicom.presentation import build_context

from catalog import Matching
from node.contracts import Device, Service
from node.dimse.limits import Limits
from node.dimse.negotiation import Negotiated, negotiate
from node.dimse.pdu import (
    ASSOCIATE_AC,
    ASSOCIATE_RQ,
    Associate,
    ProposedContext,
    UserInformation,
    decode_associate,
    encode_associate,
)
from node.dimse.syntaxes import STORAGE, TRANSFER_SYNTAXES
from tests.node.dimse.archive import CT_IMAGE
from tests.node.dimse.wire import EXPLICIT, IMPLICIT, STUDY_FIND, VERIFICATION, everything

JPEG = "1.2.840.10008.1.2.4.70"
STUDY_MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
PRIVATE = "1.3.12.2.1107.5.9.1"


def answer(
    *proposed: tuple[str, tuple[str, ...]],
    device: Device | None = None,
    accept_unknown: bool = False,
    user: UserInformation | None = None,
) -> Negotiated:
    contexts = tuple(
        ProposedContext(2 * number + 1, uid, syntaxes) for number, (uid, syntaxes) in enumerate(proposed)
    )
    request = Associate("ALPHA", "X", contexts, user=user or UserInformation())
    return negotiate(request, device, Limits(), everything, accept_unknown=accept_unknown)


def results(negotiated: Negotiated) -> list[tuple[int, str]]:
    return [(one.result, one.transfer_syntax) for one in negotiated.answer.results]


def test_every_patient_storage_class_of_pydicom_and_pynetdicom_is_accepted() -> None:
    assert len(STORAGE) > 180
    for uid in sorted(STORAGE):
        assert results(answer((uid, (IMPLICIT,)))) == [(0, IMPLICIT)]


@pytest.mark.parametrize(
    "uid",
    ["1.2.840.10008.1.3.10", "1.2.840.10008.1.20.1", "1.2.840.10008.5.1.4.38.1", "1.2.840.10008.5.1.4.39.1",
     "1.2.840.10008.5.1.4.43.1", "1.2.840.10008.5.1.4.1.1.201.1", "1.2.840.10008.5.1.4.31", PRIVATE],
)  # fmt: skip
def test_what_is_no_patients_storage_is_result_3(uid: str) -> None:
    assert results(answer((uid, (IMPLICIT,)))) == [(3, IMPLICIT)]


def test_storage_takes_the_first_syntax_proposed_whatever_it_is() -> None:
    for syntax in sorted(TRANSFER_SYNTAXES):
        assert results(answer((CT_IMAGE, (syntax, IMPLICIT)))) == [(0, syntax)]


def test_unknown_classes_and_syntaxes_need_the_setting() -> None:
    assert results(answer((CT_IMAGE, ("1.2.840.113619.5.2",)))) == [(4, "1.2.840.113619.5.2")]
    assert results(answer((CT_IMAGE, ("1.2.840.113619.5.2", EXPLICIT)))) == [(0, EXPLICIT)]
    assert results(answer((CT_IMAGE, ("1.2.840.113619.5.2",)), accept_unknown=True)) == [
        (0, "1.2.840.113619.5.2")
    ]
    assert results(answer((PRIVATE, (EXPLICIT,)), accept_unknown=True)) == [(0, EXPLICIT)]
    assert results(answer(("1.2.840.10008.5.1.4.31", (EXPLICIT,)), accept_unknown=True)) == [(3, EXPLICIT)]


def test_the_device_book_narrows_syntaxes_of_storage_only() -> None:
    device = Device(ae_title="X", transfer_syntaxes=(JPEG,))
    negotiated = answer(
        (CT_IMAGE, (EXPLICIT, JPEG)), (CT_IMAGE, (EXPLICIT,)), (STUDY_FIND, (EXPLICIT,)), device=device
    )
    assert results(negotiated) == [(0, JPEG), (4, EXPLICIT), (0, EXPLICIT)]


def test_identifiers_are_never_negotiated_in_a_compressed_syntax() -> None:
    assert results(answer((STUDY_FIND, (JPEG,)), (STUDY_FIND, (JPEG, IMPLICIT)))) == [
        (4, JPEG),
        (0, IMPLICIT),
    ]


def test_roles_are_given_as_asked_for_storage_and_no_scp_role_for_the_rest() -> None:
    user = UserInformation(
        roles={
            CT_IMAGE: (True, True),
            STUDY_FIND: (True, True),
            VERIFICATION: (False, True),
            PRIVATE: (True, True),
        }
    )
    negotiated = answer(
        (CT_IMAGE, (EXPLICIT,)), (STUDY_FIND, (EXPLICIT,)), (VERIFICATION, (EXPLICIT,)), user=user
    )
    assert results(negotiated)[2] == (1, EXPLICIT)
    assert negotiated.answer.user.roles == {CT_IMAGE: (True, True), STUDY_FIND: (True, False)}
    assert negotiated.contexts[1].peer_is_scp
    assert not negotiated.contexts[3].peer_is_scp


@pytest.mark.parametrize(
    ("uid", "asked", "performed", "matching"),
    [
        (STUDY_FIND, b"\1", b"\1", Matching.RELATIONAL),
        (STUDY_FIND, b"\1\1\1\1\1\1\1", b"\1\1\0\0\0\0\0", Matching.RELATIONAL | Matching.COMBINED_DATE_TIME),
        (STUDY_FIND, b"\0\1", b"\0\1", Matching.COMBINED_DATE_TIME),
        (STUDY_FIND, b"\0", b"\0", Matching.PLAIN),
        (STUDY_MOVE, b"\1\1", b"\1\0", Matching.RELATIONAL),
    ],
)
def test_extended_negotiation_answers_what_is_performed(
    uid: str, asked: bytes, performed: bytes, matching: Matching
) -> None:
    negotiated = answer((uid, (EXPLICIT,)), user=UserInformation(extended={uid: asked, CT_IMAGE: b"\1"}))
    assert negotiated.answer.user.extended == {uid: performed}
    assert negotiated.matching == {uid: matching}


def test_asynchronous_operations_are_one_and_one_if_asked() -> None:
    assert answer((VERIFICATION, (IMPLICIT,))).answer.user.async_window is None
    asked = answer((VERIFICATION, (IMPLICIT,)), user=UserInformation(async_window=(8, 8)))
    assert asked.answer.user.async_window == (1, 1)


def pynetdicom_request() -> Any:
    primitive: Any = A_ASSOCIATE()
    primitive.calling_ae_title, primitive.called_ae_title = "THEIRS", "ALPHA"
    primitive.application_context_name = "1.2.840.10008.3.1.1.1"
    contexts = [build_context(CT_IMAGE, [JPEG, IMPLICIT]), build_context(STUDY_FIND, EXPLICIT)]
    for number, context in enumerate(contexts):
        context.context_id = 2 * number + 1
    primitive.presentation_context_definition_list = contexts
    length, uid, version = (
        MaximumLengthNotification(), ImplementationClassUIDNotification(),
        ImplementationVersionNameNotification(),
    )  # fmt: skip
    length.maximum_length_received, uid.implementation_class_uid = 12345, "1.2.3"
    version.implementation_version_name = "THEIRS_1"
    role, extended = SCP_SCU_RoleSelectionNegotiation(), SOPClassExtendedNegotiation()
    role.sop_class_uid, role.scu_role, role.scp_role = CT_IMAGE, False, True
    extended.sop_class_uid, extended.service_class_application_information = STUDY_FIND, b"\1\1"
    window, identity = AsynchronousOperationsWindowNegotiation(), UserIdentityNegotiation()
    window.maximum_number_operations_invoked, window.maximum_number_operations_performed = 5, 6
    identity.user_identity_type, identity.primary_field, identity.secondary_field = 2, b"user", b"password"
    primitive.user_information = [length, uid, version, role, extended, window, identity]
    return primitive


def test_we_read_a_request_of_pynetdicom() -> None:
    encoded = A_ASSOCIATE_RQ(pynetdicom_request()).encode()
    request = decode_associate(encoded[6:])
    assert (request.called_ae, request.calling_ae) == ("ALPHA", "THEIRS")
    assert request.proposed == (
        ProposedContext(1, CT_IMAGE, (JPEG, IMPLICIT)), ProposedContext(3, STUDY_FIND, (EXPLICIT,)),
    )  # fmt: skip
    assert request.user == UserInformation(
        12345, "1.2.3", "THEIRS_1", {CT_IMAGE: (False, True)}, {STUDY_FIND: b"\1\1"}, (5, 6), 2
    )
    assert b"password" not in repr(request).encode()


def test_pynetdicom_reads_our_request_and_our_accept() -> None:
    request = decode_associate(A_ASSOCIATE_RQ(pynetdicom_request()).encode()[6:])
    theirs: Any = A_ASSOCIATE_RQ()
    theirs.decode(encode_associate(request, ASSOCIATE_RQ))
    assert [context.abstract_syntax for context in theirs.presentation_context] == [CT_IMAGE, STUDY_FIND]
    accept: Any = A_ASSOCIATE_AC()
    accept.decode(
        encode_associate(
            negotiate(request, None, Limits(), everything, accept_unknown=False).answer, ASSOCIATE_AC
        )
    )
    assert [(one.result, one.transfer_syntax) for one in accept.presentation_context] == [
        (0, JPEG),
        (0, EXPLICIT),
    ]
    primitive = accept.to_primitive()
    assert primitive.maximum_length_received == 262144
    info: dict[str, Any] = {type(item).__name__: item for item in primitive.user_information}
    assert info["SCP_SCU_RoleSelectionNegotiation"].scp_role is True
    assert info["SOPClassExtendedNegotiation"].service_class_application_information == b"\1\1"
    assert info["AsynchronousOperationsWindowNegotiation"].maximum_number_operations_invoked == 1


def test_a_context_for_a_service_that_is_not_allowed_is_rejected_by_the_user() -> None:
    contexts = tuple(
        ProposedContext(number, uid, (IMPLICIT,))
        for number, uid in ((1, VERIFICATION), (3, STUDY_FIND), (5, CT_IMAGE))
    )
    request = Associate("ALPHA", "X", contexts, user=UserInformation())
    negotiated = negotiate(
        request, None, Limits(), lambda service: service is Service.ECHO, accept_unknown=False
    )
    assert [result for result, _ in results(negotiated)] == [0, 1, 1]


def test_a_receiver_of_c_get_needs_no_right_to_store() -> None:
    contexts = (ProposedContext(1, CT_IMAGE, (IMPLICIT,)),)
    request = Associate("ALPHA", "X", contexts, user=UserInformation(roles={CT_IMAGE: (False, True)}))
    negotiated = negotiate(request, None, Limits(), lambda service: False, accept_unknown=False)
    assert [result for result, _ in results(negotiated)] == [0]
