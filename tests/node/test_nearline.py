"""What lies at another node comes whole, once, under its owner's policy, or fails with a reason."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from catalog import Damaged, NotPermitted, PacsError, PatientKey, Unavailable
from federation.identities import Asker, ForeignIds
from node.contracts import Unwanted
from node.nearline_cache import name_of
from tests.federation.nodes import wait_for
from tests.homes import attribute, phantoms
from tests.node.nearlines import Hospital, Reader, connected, content, pair


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


@pytest.fixture
def two(tmp_path: Path, stack: ExitStack) -> tuple[Hospital, Reader]:
    """Alpha with studies, and beta that fetches."""
    return next(pair(tmp_path, stack))


def test_a_study_at_alpha_comes_with_the_same_bytes_and_one_request_id(two: tuple[Hospital, Reader]) -> None:
    alpha, beta = two
    sent = phantoms(1, instances=6, size=1_500_000)
    entries = alpha.entries(alpha.store(sent))
    door = beta.door(request_id="deadbeef")
    door.expect(entries)
    assert {content(door.open(each)) for each in entries} == {each.data for each in sent}
    assert {each.visitor.asker.request_id for each in alpha.given} == {"deadbeef"}
    fetched = [each for each in beta.hospital.peer.visits if each.method.endswith("Fetch")]
    assert {(each.asker.request_id, each.outcome) for each in fetched} <= {("deadbeef", "ok")}
    wait_for(lambda: sum(each.objects for each in alpha.given) == len(sent))


def test_twenty_at_once_share_one_fetch(two: tuple[Hospital, Reader]) -> None:
    alpha, beta = two
    entries = alpha.entries(alpha.store(phantoms(2, instances=6, size=300_000)))
    whole: list[int] = []

    def get() -> None:
        door = beta.door()
        door.expect(entries)
        whole.extend(len(content(door.open(each))) for each in entries)

    threads = [threading.Thread(target=get) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(whole) == 20 * len(entries)
    wait_for(lambda: sum(each.objects for each in alpha.given) == len(entries))


def test_copies_serve_when_their_owner_is_down_and_go_with_its_grant(two: tuple[Hospital, Reader]) -> None:
    alpha, beta = two
    entries = alpha.entries(alpha.store(phantoms(3, instances=6)))
    first = [content(beta.door().open(each)) for each in entries]
    beta.knows(alpha, is_reachable=False)
    assert [content(beta.door().open(each)) for each in entries] == first
    series = entries[0].StudyInstanceUID, entries[0].SeriesInstanceUID
    copies = beta.cache.entries(alpha.owner, *series)
    assert {each.role for each in copies} == {"cache"}
    assert beta.cache.sweep(lambda owner, entry: False) == len(entries)
    assert beta.cache.entries(alpha.owner, *series) == []
    with pytest.raises(Unavailable, match="Held by alpha"):
        beta.door().open(entries[0])


def test_a_correction_at_the_owner_comes_with_the_copy_and_after_it(two: tuple[Hospital, Reader]) -> None:
    alpha, beta = two
    sent = phantoms(4, instances=6)
    study = alpha.store(sent)
    [entry, *_] = alpha.entries(study)
    before = beta.door().open(entry)
    assert content(before) in {each.data for each in sent}
    alpha.node.desk.of("").correct(study, ["PatientName=Corrected^Name"], "wrong", "test")
    beta.knows(alpha, state=b"2")
    raw = sent[0]
    raw.data = content(beta.door().open(entry))
    assert str(attribute(raw, "PatientName")) == "Corrected^Name"
    assert attribute(raw, "OriginalAttributesSequence")[0].ModifyingSystem == "ALPHA"
    beta.knows(alpha, is_reachable=False, state=b"3")
    with pytest.raises(Unavailable):
        beta.door().open(entry)


def test_a_foreign_patient_leaves_under_issuer_and_id(two: tuple[Hospital, Reader]) -> None:
    alpha, beta = two
    sent = phantoms(5, instances=6)
    [entry, *_] = alpha.entries(alpha.store(sent))
    was = attribute(sent[0], "PatientID")
    beta.patient = PatientKey("ALPHA-ID", was)
    beta.asker = Asker("BETA-ID")
    sent[0].data = content(beta.door().open(entry))
    assert attribute(sent[0], "PatientID") == f"ALPHA-ID/{was}"
    assert attribute(sent[0], "IssuerOfPatientID") == "ALPHA-ID"
    [told] = attribute(sent[0], "OriginalAttributesSequence")
    assert (told.ReasonForTheAttributeModification, told.ModifyingSystem) == ("COERCE", "BETA")
    assert told.ModifiedAttributesSequence[0].PatientID == was
    beta.asker = Asker("BETA-ID", foreign_ids=ForeignIds.KEEP)
    sent[0].data = content(beta.door().open(entry))
    assert attribute(sent[0], "PatientID") == was


def test_a_whole_study_leaves_with_one_account_of_its_identity(two: tuple[Hospital, Reader]) -> None:
    """What equal headers become is worked out once, not once for each object."""
    alpha, beta = two
    sent = phantoms(8, instances=6)
    entries = alpha.entries(alpha.store(sent))
    beta.patient = PatientKey("ALPHA-ID", attribute(sent[0], "PatientID"))
    beta.asker = Asker("BETA-ID")
    door, accounts = beta.door(), []
    for entry, instance in zip(entries, sent, strict=True):
        instance.data = content(door.open(entry))
        assert attribute(instance, "IssuerOfPatientID") == "ALPHA-ID"
        accounts += attribute(instance, "OriginalAttributesSequence")
    assert len(accounts) == 6
    assert all(each == accounts[0] for each in accounts)


def test_one_bad_object_fails_alone(two: tuple[Hospital, Reader]) -> None:
    alpha, beta = two
    entries = alpha.entries(alpha.store(phantoms(6, instances=6)))
    book = alpha.node.archive("main").care.book
    book.mark(entries[1], "A test says so.")
    door = beta.door()
    door.expect(entries)
    with pytest.raises(Damaged):
        door.open(entries[1])
    assert all(content(door.open(each)) for each in entries if each is not entries[1])
    # Twice, if what was expected had failed before it was opened.
    samples = beta.fetches.samples()
    failed = [each for each in samples if each[::2] == ("transfer_failures_total", ("alpha", "Damaged"))]
    assert [each[1] in (1, 2) for each in failed] == [True]


def test_what_is_not_granted_is_refused(two: tuple[Hospital, Reader]) -> None:
    alpha, beta = two
    [entry, *_] = alpha.entries(alpha.store(phantoms(7, instances=6)))
    alpha.grants.clear()
    with pytest.raises(NotPermitted):
        beta.door().open(entry)


def test_a_copy_that_devices_alone_are_granted_serves_no_person(two: tuple[Hospital, Reader]) -> None:
    alpha, beta = two
    [entry, *_] = alpha.entries(alpha.store(phantoms(14, instances=6)))
    alpha.grants.clear()
    alpha.grant(beta.hospital, roles=("ae",))
    whole = content(beta.door().open(entry))
    with pytest.raises(NotPermitted, match="when user asks"):
        beta.door(role="user").open(entry)
    assert content(beta.door().open(entry)) == whole, "it still serves devices"
    wait_for(lambda: len(alpha.given) == 1)
    alpha.grants.clear()
    alpha.grant(beta.hospital)
    assert content(beta.door(role="user").open(entry)) == whole
    assert content(beta.door().open(entry)) == whole
    wait_for(lambda: len(alpha.given) == 2)


def test_who_shares_a_fetch_is_not_refused_with_another_role(two: tuple[Hospital, Reader]) -> None:
    alpha, beta = two
    [entry, *_] = alpha.entries(alpha.store(phantoms(15, instances=6)))
    alpha.grants.clear()
    alpha.grant(beta.hospital, roles=("ae",))
    for _ in range(5):
        beta.door(role="user").expect([entry])
        content(beta.door().open(entry))
        beta.cache.sweep(lambda owner, entry: False)


def test_the_next_holder_goes_on_where_the_first_one_failed(tmp_path: Path, stack: ExitStack) -> None:
    alpha, beta = Hospital(tmp_path / "a", "alpha", stack), Hospital(tmp_path / "b", "beta", stack)
    gamma = Hospital(tmp_path / "c", "gamma", stack)
    connected(alpha, beta, gamma)
    sent = phantoms(8, instances=6)
    study = alpha.store(sent)
    assert gamma.store(sent) == study
    gamma.grant(beta)
    reader = Reader(tmp_path, beta, stack)
    reader.knows(alpha, gamma)
    entries = alpha.entries(study)
    assert {content(reader.door().open(each)) for each in entries} == {each.data for each in sent}
    wait_for(lambda: sum(each.objects for each in gamma.given) == len(sent))
    assert not alpha.given or not sum(each.objects for each in alpha.given)


def test_a_silent_owner_hangs_nobody(two: tuple[Hospital, Reader], monkeypatch: pytest.MonkeyPatch) -> None:
    alpha, beta = two
    monkeypatch.setattr("node.nearline.STALLED", 0.5)
    entries = alpha.entries(alpha.store(phantoms(9, instances=6, size=2_000_000)))
    alpha.grants.clear()
    alpha.grant(beta.hospital, rate=1000)
    held = threading.Event()
    alpha.rest = lambda seconds: held.wait(5)
    started = time.monotonic()
    with pytest.raises(PacsError):
        beta.door().open(entries[0])
    held.set()
    assert time.monotonic() - started < 4


def test_who_keeps_an_object_gives_it_when_its_owner_is_there_and_silent(
    tmp_path: Path, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.nearline.STALLED", 0.5)
    alpha, beta = Hospital(tmp_path / "a", "alpha", stack), Hospital(tmp_path / "b", "beta", stack)
    gamma = Hospital(tmp_path / "c", "gamma", stack)
    connected(alpha, beta, gamma)
    sent = phantoms(10, instances=4, size=2_000_000)
    study = alpha.store(sent)
    assert gamma.store(sent) == study
    alpha.grant(beta, rate=1000)
    gamma.grant(beta)
    held = threading.Event()
    stack.callback(held.set)
    alpha.rest = lambda seconds: held.wait(5)
    reader = Reader(tmp_path, beta, stack)
    reader.knows(gamma)
    reader.keepers = reader.sources
    reader.knows(alpha)
    entries = alpha.entries(study)
    assert {content(reader.door().open(each)) for each in entries} == {each.data for each in sent}


def test_what_nobody_wants_any_more_is_given_up_within_a_second(two: tuple[Hospital, Reader]) -> None:
    alpha, beta = two
    held = _held(two)
    entries = alpha.entries(alpha.store(phantoms(12, instances=6, size=2_000_000)))
    door, unwanted = beta.door(), threading.Event()
    door.expect(entries, unwanted.is_set)
    threading.Timer(0.3, unwanted.set).start()
    started = time.monotonic()
    with pytest.raises(Unwanted):
        door.open(entries[0])
    assert 0.3 <= time.monotonic() - started < 1.3
    door.expect(())
    wait_for(lambda: "Fetch" in {each.method.rpartition("/")[2] for each in beta.hospital.peer.visits})
    held.set()
    wait_for(lambda: alpha.given)
    assert sum(each.objects for each in alpha.given) < len(entries)
    assert not [each for each in entries if beta.cache.has(alpha.owner, each)]
    assert list(beta.fetches.samples())[1:] == [], "nothing failed"
    alpha.grants.clear()
    alpha.grant(beta.hospital)
    assert [len(content(beta.door().open(each))) for each in entries], "and can be had again at once"


def test_who_shares_a_fetch_gets_it_when_the_other_gives_up(two: tuple[Hospital, Reader]) -> None:
    alpha, beta = two
    held = _held(two)
    sent = phantoms(13, instances=6, size=2_000_000)
    entries = alpha.entries(alpha.store(sent))
    first, second, got = beta.door(request_id="first"), beta.door(request_id="second"), []
    first.expect(entries)
    second.expect(entries[1:3])
    reader = threading.Thread(target=lambda: got.extend(content(second.open(each)) for each in entries[1:3]))
    reader.start()
    first.expect(())
    alpha.grants.clear()
    alpha.grant(beta.hospital)
    held.set()
    reader.join(60)
    assert len(got) == 2
    assert set(got) < {each.data for each in sent}
    wait_for(lambda: "second" in {each.visitor.asker.request_id for each in alpha.given if each.objects})
    assert not [each for each in entries[3:] if beta.cache.has(alpha.owner, each)]


def _held(two: tuple[Hospital, Reader]) -> threading.Event:
    """Have alpha send nothing more after a few bytes until the event is set, or for five seconds."""
    alpha, beta = two
    held = threading.Event()
    alpha.grants.clear()
    alpha.grant(beta.hospital, rate=1000)
    alpha.rest = lambda seconds: held.wait(5)
    return held


def test_copies_stay_within_their_limit_and_age(tmp_path: Path, stack: ExitStack) -> None:
    alpha, beta = Hospital(tmp_path / "a", "alpha", stack), Hospital(tmp_path / "b", "beta", stack)
    connected(alpha, beta)
    alpha.grant(beta)
    reader = Reader(tmp_path, beta, stack, limit=450_000)
    reader.knows(alpha)
    entries = alpha.entries(alpha.store(phantoms(10, instances=6, size=100_000)))
    assert len(entries) > 4
    door = reader.door()
    for entry in entries:
        assert content(door.open(entry))
        assert reader.cache.size <= 450_000
    assert not reader.cache.has(alpha.owner, entries[0]), "the least used went first"
    now = time.time()
    reader.clock = lambda: now + 4000
    assert not reader.cache.has(alpha.owner, entries[-1])
    reader.cache.step()
    assert reader.cache.size == 0


def test_a_copy_that_a_crash_tore_is_fetched_again(two: tuple[Hospital, Reader], stack: ExitStack) -> None:
    alpha, beta = two
    [entry, *_] = alpha.entries(alpha.store(phantoms(11, instances=6)))
    whole = content(beta.door().open(entry))
    path = beta.home.joinpath("cache", *name_of(alpha.owner, entry))
    assert not path.exists(), "nobody waited for a file"
    beta.fetches.cache.close()
    assert content(beta.door().open(entry)) == whole
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.write_bytes(data)
    again = Reader(beta.home, beta.hospital, stack)
    again.knows(alpha)
    assert content(again.door().open(entry)) == whole
