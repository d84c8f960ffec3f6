"""The device book takes what the standard allows and says what is wrong with the rest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from catalog import BadRequest, NotFound
from node.contracts import Device, Service
from node.devices import DEV_RULE, DeviceBook
from node.state import State


@pytest.fixture
def book(tmp_path: Path) -> Iterator[DeviceBook]:
    with State(tmp_path / "state") as state:
        yield DeviceBook(state)


def test_a_device_is_found_under_its_trimmed_ae_title_until_it_is_removed(book: DeviceBook) -> None:
    book.put(Device(ae_title=" CT1 ", address="10.1.7.20", port=104, services=(Service.ECHO, Service.STORE)))
    assert book.find("CT1 ").port == 104
    assert [device.ae_title for device in book] == ["CT1"]
    book.remove("CT1")
    with pytest.raises(NotFound, match="peerpacs devices list"):
        book.find("CT1")


@pytest.mark.parametrize(
    "device",
    [
        Device(ae_title=""),
        Device(ae_title="A\\B"),
        Device(ae_title="*"),
        Device(ae_title="CT1", port=70000),
        Device(ae_title="CT1", port=104),
        Device(ae_title="CT1", port=104, address="10.0.0.0/8"),
        Device(ae_title="CT1", port=104, address="loopback"),
        Device(ae_title="CT1", address="10.0.0.999"),
        Device(ae_title="CT1", address="what ever"),
        Device(ae_title="CT1", called=("A" * 17,)),
        Device(ae_title="CT1", transfer_syntaxes=("JPEG",)),
        Device(ae_title="CT1", character_set="latin1"),
        Device(ae_title="CT1", complete_after=0),
    ],
)
def test_a_row_that_contradicts_itself_is_refused(book: DeviceBook, device: Device) -> None:
    with pytest.raises(BadRequest):
        book.put(device)
    assert list(book) == []


@pytest.mark.parametrize(
    "address", ["10.1.7.20", "::1", "10.1.7.0/24", "fd00::/8", "ct1.hospital.example", ""]
)
def test_hosts_addresses_and_networks_are_addresses(book: DeviceBook, address: str) -> None:
    assert book.put(Device(ae_title="CT1", address=address)).address == address


def test_the_dev_rule_is_an_ordinary_row(book: DeviceBook) -> None:
    book.put(DEV_RULE)
    assert book.find("*").address == "loopback"
