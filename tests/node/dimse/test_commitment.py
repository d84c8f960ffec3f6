"""Storage Commitment on the wire: roles, and data sets that nobody would send in good faith."""

from __future__ import annotations

import contextlib
import random

import pytest
from pydicom.dataset import Dataset
from pynetdicom.dsutils import encode

from node.contracts import CommitmentResult, Reference, Service
from node.dimse.limits import Limits
from node.dimse.negotiation import Negotiated, negotiate
from node.dimse.pdu import Associate, ProposedContext, UserInformation
from node.dimse.syntaxes import COMMITMENT
from node.dimse.transactions import (
    Malformed,
    TooMany,
    decode_request,
    decode_result,
    encode_request,
    encode_result,
)
from tests.node.dimse.wire import EXPLICIT, IMPLICIT

CT = "1.2.840.10008.5.1.4.1.1.2"


def answer(roles: tuple[bool, bool] | None, allowed: bool, commits: bool = True) -> Negotiated:
    user = UserInformation(roles={} if roles is None else {COMMITMENT: roles})
    request = Associate("ALPHA", "X", (ProposedContext(1, COMMITMENT, (IMPLICIT,)),), user=user)

    def may(service: Service) -> bool:
        assert service is Service.COMMIT
        return allowed

    return negotiate(request, None, Limits(), may, accept_unknown=False, commits=commits)


@pytest.mark.parametrize(
    ("roles", "allowed", "commits", "result"),
    [
        (None, True, True, 0),
        (None, False, True, 1),
        ((False, True), False, True, 0),
        ((True, True), True, True, 0),
        (None, True, False, 3),
    ],
)
def test_who_may_ask_and_who_brings_results_is_accepted(
    roles: tuple[bool, bool] | None, allowed: bool, commits: bool, result: int
) -> None:
    negotiated = answer(roles, allowed, commits)
    assert [one.result for one in negotiated.answer.results] == [result]
    if roles and not result:
        assert negotiated.answer.user.roles == {COMMITMENT: roles}
        assert negotiated.contexts[1][3:] == roles


def references(count: int) -> list[Reference]:
    return [Reference(CT, f"1.2.3.{number}") for number in range(count)]


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT])
def test_what_is_written_is_read_again(syntax: str) -> None:
    asked = references(3)
    assert decode_request(encode_request("1.2.9", asked, syntax), syntax) == ("1.2.9", asked)
    result = CommitmentResult("1.2.9", tuple(asked[:1]), ((asked[1], 0x0110), (asked[2], 0x0112)), "ALPHA")
    assert decode_result(encode_result(result, syntax), syntax) == result


def test_a_reference_that_is_named_twice_is_one() -> None:
    asked = references(2)
    data = encode_request("1.2.9", [*asked, asked[0]], EXPLICIT)
    assert decode_request(data, EXPLICIT) == ("1.2.9", asked)


def test_sequences_of_undefined_length_are_read() -> None:
    data = Dataset()
    data.TransactionUID = "1.2.9"
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CT, "1.2.3.0"
    item.is_undefined_length_sequence_item = True
    data.ReferencedSOPSequence = [item]
    data["ReferencedSOPSequence"].is_undefined_length = True
    encoded = encode(data, False, True)
    assert encoded is not None
    assert decode_request(encoded, EXPLICIT) == ("1.2.9", references(1))


def test_more_references_than_anybody_has_are_refused() -> None:
    with pytest.raises(TooMany):
        decode_request(encode_request("1.2.9", references(50_001), EXPLICIT), EXPLICIT)


def test_broken_data_sets_are_malformed_and_nothing_worse() -> None:
    rng = random.Random(33)
    whole = encode_request("1.2.9", references(4), EXPLICIT)
    result = encode_result(CommitmentResult("1.2.9", (), ((references(1)[0], 0x0110),)), EXPLICIT)
    for _ in range(3000):
        data = bytearray(rng.choice((whole, result)))
        for _ in range(rng.randrange(1, 6)):
            place = rng.randrange(len(data))
            change = rng.randrange(3)
            if change == 0:
                data[place] = rng.randrange(256)
            elif change == 1:
                del data[place:]
            else:
                data[place:place] = rng.randbytes(rng.randrange(1, 9))
            if not data:
                break
        for decode in (decode_request, decode_result):
            for syntax in (EXPLICIT, IMPLICIT):
                with contextlib.suppress(Malformed):
                    decode(bytes(data), syntax)
