"""Deny by default; each refusal says why and which command would allow it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from threading import Event

import pytest

from node.access import Gatekeeper
from node.config import read_config
from node.contracts import Caller, Device, Rejection, Service
from node.devices import DEV_RULE, DeviceBook
from node.drain import Drain
from node.sections import Config
from node.state import State, Table
from tests.running import until

ALL = tuple(Service)


def config(unknown_senders: str = "hold") -> Config:
    text = "[node]\nname = 'alpha'\nae_title = 'ALPHA'\nnode_id = 'id'\n"
    return read_config(f"{text}[senders]\nunknown_senders = '{unknown_senders}'", "test", {})


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    with State(tmp_path / "state") as opened:
        yield opened


@pytest.fixture
def book(state: State) -> DeviceBook:
    return DeviceBook(state)


@pytest.fixture
def gate(state: State) -> Gatekeeper:
    return Gatekeeper(state, config(), lambda: 1000.0)


def admitted(
    gate: Gatekeeper, calling: str = "CT1", address: str = "10.1.7.20", called: str = "ALPHA"
) -> Caller:
    answer = gate.admit(calling, address, called)
    assert isinstance(answer, Caller), answer
    return answer


def rejected(gate: Gatekeeper, calling: str, address: str, called: str = "ALPHA") -> Rejection:
    answer = gate.admit(calling, address, called)
    assert isinstance(answer, Rejection), answer
    return answer


def allowed(gate: Gatekeeper, caller: Caller) -> set[Service]:
    return {service for service in Service if gate.may(caller, service).is_allowed}


def test_a_stranger_may_echo_and_have_what_it_stores_held(gate: Gatekeeper) -> None:
    caller = admitted(gate)
    assert allowed(gate, caller) == {Service.ECHO, Service.STORE}
    assert gate.may(caller, Service.STORE).is_held


@pytest.mark.parametrize(("setting", "may_store"), [("accept", True), ("refuse", False)])
def test_what_strangers_store_follows_the_configuration(state: State, setting: str, may_store: bool) -> None:
    gate = Gatekeeper(state, config(setting), lambda: 0.0)
    verdict = gate.may(admitted(gate), Service.STORE)
    assert (verdict.is_allowed, verdict.is_held) == (may_store, False)


def test_a_device_may_do_what_its_row_says_from_the_next_association_on(
    gate: Gatekeeper, book: DeviceBook
) -> None:
    caller = admitted(gate)
    book.put(Device(ae_title="CT1", address="10.1.7.0/24", services=(Service.STORE, Service.FIND)))
    assert allowed(gate, caller) == {Service.ECHO, Service.STORE, Service.FIND}
    assert not gate.may(admitted(gate, " CT1 "), Service.STORE).is_held
    book.remove("CT1")
    assert gate.may(caller, Service.STORE).is_held


def test_an_unknown_called_ae_title_is_rejected_with_its_reason(gate: Gatekeeper) -> None:
    answer = rejected(gate, "CT1", "10.1.7.20", "BETA")
    assert answer[:3] == (1, 1, 7)
    assert "ALPHA" in answer.remedy


@pytest.mark.parametrize(
    ("address", "caller", "is_right"),
    [
        ("10.1.7.20", "10.1.7.20", True),
        ("10.1.7.20", "::ffff:10.1.7.20", True),
        ("10.1.7.20", "10.1.7.21", False),
        ("10.1.7.0/24", "10.1.7.21", True),
        ("10.1.7.0/24", "10.1.8.21", False),
        ("fd00::/8", "fd00::5", True),
        ("localhost", "127.0.0.1", True),
        ("localhost", "10.0.0.1", False),
        ("no-such-host.invalid", "10.0.0.1", False),
    ],
)
def test_a_device_is_let_in_from_its_own_address_only(
    gate: Gatekeeper, book: DeviceBook, address: str, caller: str, is_right: bool
) -> None:
    book.put(Device(ae_title="CT1", address=address, services=ALL))
    if is_right:
        assert allowed(gate, admitted(gate, "CT1", caller)) == set(ALL)
    else:
        assert rejected(gate, "CT1", caller)[:3] == (1, 1, 3)


def test_a_device_may_be_kept_to_some_called_ae_titles(state: State, book: DeviceBook) -> None:
    gate = Gatekeeper(state, config(), lambda: 0.0, lambda: {"ALPHA": "main", "ALPHA_GRID": "main"})
    book.put(Device(ae_title="WS1", services=(Service.FIND,), called=("ALPHA",)))
    assert Service.FIND in allowed(gate, admitted(gate, "WS1"))
    assert rejected(gate, "WS1", "10.0.0.1", "ALPHA_GRID")[:3] == (1, 1, 7)


def test_a_device_without_services_is_not_let_in(gate: Gatekeeper, book: DeviceBook) -> None:
    book.put(Device(ae_title="OLD", services=()))
    assert rejected(gate, "OLD", "10.0.0.1")[:3] == (1, 1, 3)


def test_the_dev_rule_trusts_loopback_and_nobody_else(gate: Gatekeeper, book: DeviceBook) -> None:
    book.put(DEV_RULE)
    book.put(Device(ae_title="STORE1", address="127.0.0.1", port=11113))
    assert allowed(gate, admitted(gate, "ANY1", "127.0.0.1")) == set(ALL)
    assert allowed(gate, admitted(gate, "STORE1", "127.0.0.1")) == set(ALL)
    assert allowed(gate, admitted(gate, "ANY1", "10.0.0.1")) == {Service.ECHO, Service.STORE}
    destination = gate.destination(admitted(gate, "ANY1", "::1"), "STORE1")
    assert destination is not None
    assert destination.port == 11113


def test_a_move_goes_to_the_mover_itself_or_where_its_row_says(gate: Gatekeeper, book: DeviceBook) -> None:
    book.put(Device(ae_title="WS1", address="10.0.0.1", port=104, services=(Service.MOVE,)))
    book.put(Device(ae_title="WS2", address="10.0.0.2", port=104))
    caller = admitted(gate, "WS1", "10.0.0.1")
    assert gate.destination(caller, "WS1 ") is not None
    assert gate.destination(caller, "WS2") is None
    assert gate.destination(caller, "WS3") is None
    why = {refusal.what: refusal.remedy for refusal in gate.refusals.last()}
    assert why["C-MOVE to WS2"] == "peerpacs devices edit WS1 --move-to +WS2"
    assert why["C-MOVE to WS3"] == "peerpacs devices add WS3 --address HOST --port PORT"


def test_refusals_are_counted_and_carry_the_command_that_allows_them(state: State, gate: Gatekeeper) -> None:
    for _ in range(3):
        gate.may(admitted(gate, "CT3"), Service.FIND)
    gate.refusals.step()
    gate.may(admitted(gate, "CT3"), Service.FIND)
    [refusal] = gate.refusals.last()
    assert (refusal.count, refusal.what) == (4, "C-FIND")
    assert refusal.remedy == "peerpacs devices add CT3 --address 10.1.7.20 --services echo,find"
    gate.refusals.forget("CT3")
    assert gate.refusals.last() == []


def test_a_refusal_that_is_being_written_is_among_the_last(state: State, gate: Gatekeeper) -> None:
    begun, may_end = Event(), Event()

    def hold(_: int | None) -> None:
        begun.set()
        may_end.wait(60)

    with ThreadPoolExecutor() as threads:
        threads.submit(state.table("other", int).change, {b"row": hold})
        assert begun.wait(60)
        gate.refusals.note(Caller("CT3", "10.1.7.20", "ALPHA"), "C-FIND", "why", "remedy")
        threads.submit(gate.refusals.step)
        until(lambda: not gate.refusals._pending)
        asked = threads.submit(gate.refusals.last)
        wait([asked], 1.0)
        may_end.set()
        assert [refusal.ae_title for refusal in asked.result()] == ["CT3"]


def test_only_the_newest_refusals_are_kept(state: State) -> None:
    times = iter(range(10_000))
    gate = Gatekeeper(state, config(), lambda: float(next(times)))
    for batch in range(3):
        for number in range(150):
            gate.admit(f"AE{batch}-{number}", "10.0.0.1", "WRONG")
        gate.refusals.step()
    kept = gate.refusals.last()
    assert len(kept) == 200
    assert kept[0].ae_title == "AE2-149"


def test_a_hostile_ae_title_is_harmless_on_a_terminal_and_in_a_shell(gate: Gatekeeper) -> None:
    caller = admitted(gate, "X; rm -rf ~\x1b[2J")
    gate.may(caller, Service.FIND)
    [refusal] = gate.refusals.last()
    assert "\x1b" not in refusal.why + refusal.remedy
    assert shlex.split(refusal.remedy)[3] == caller.ae_title


def test_a_decision_costs_a_few_row_lookups(
    gate: Gatekeeper, book: DeviceBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(50):
        book.put(Device(ae_title=f"CT{number}", address="10.1.7.0/24", services=ALL))
    caller, looked = admitted(gate, "CT7"), []
    get = Table.get
    monkeypatch.setattr(Table, "get", lambda table, key: looked.append(key) or get(table, key))
    assert gate.may(caller, Service.STORE).is_allowed
    assert len(looked) <= 4, "however many devices there are"


def test_a_drained_node_lets_in_only_who_brings_what_it_asked_for(gate: Gatekeeper, state: State) -> None:
    Drain(state).begin("novak", 1000.0)
    assert "about to be stopped" in rejected(gate, "CT1", "10.1.7.20").why
    gate.brings_what_was_asked_for = lambda caller: caller.ae_title == "OLDPACS"
    assert admitted(gate, "OLDPACS")
    assert rejected(gate, "CT1", "10.1.7.20")
