"""Any process of a split node may die: nothing acknowledged is lost, and what is left says so and goes on."""

from __future__ import annotations

import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from catalog import PacsError
from node.config import load_config
from node.dimse import Requestor
from sim.ports import free_port
from tests.homes import RawInstance, Received, phantoms
from tests.running import until
from tests.split import SplitNode, running_split

STUDY = {"00080052": {"vr": "CS", "Value": ["STUDY"]}}
IMAGE = ("--level", "IMAGE", "--limit", "0", "-k", "SOPInstanceUID")
OUT_OF_RESOURCES = 0xA700


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SplitNode]:
    watched = "--watch-port", str(free_port())
    with running_split(tmp_path_factory.mktemp("split"), *watched, gateways=2) as node:
        yield node


def requestor(node: SplitNode, gateway: int = 0) -> Requestor:
    return Requestor("CT", "127.0.0.1", node.gateways[gateway].port, "ALPHA")


def sent(node: SplitNode, instances: list[RawInstance], gateway: int = 0) -> list[str]:
    """Return the instances that were acknowledged; whatever ends the association is no surprise."""
    acknowledged = []
    try:
        for one, answer in zip(instances, requestor(node, gateway).store(instances), strict=False):
            if answer.status == 0:
                acknowledged.append(one.SOPInstanceUID)
    except (PacsError, OSError):
        pass
    return acknowledged


def kept(node: SplitNode) -> list[str]:
    """Return the instances of which the catalog knows."""
    return [row["00080018"]["Value"][0] for row in node.json("find", *IMAGE)]


def given(node: SplitNode, study: str, gateway: int = 0) -> list[str]:
    """Return the instances of a study that a C-GET brings."""
    received = Received()
    requestor(node, gateway).get({**STUDY, "0020000D": {"vr": "UI", "Value": [study]}}, received)
    return sorted(one.SOPInstanceUID for one in received.instances)


def study_of(node: SplitNode, instance: RawInstance) -> str:
    """Return the StudyInstanceUID of an instance that is kept."""
    keys = ("-k", f"SOPInstanceUID={instance.SOPInstanceUID}", "-k", "StudyInstanceUID")
    [row] = node.json("find", "--level", "IMAGE", *keys)
    uid: str = row["0020000D"]["Value"][0]
    return uid


def test_kill_9_of_any_role_loses_nothing_that_was_acknowledged(node: SplitNode) -> None:
    acknowledged: set[str] = set()
    is_over = threading.Event()

    def send(number: int) -> None:
        series = 0
        while not is_over.is_set():
            series += 1
            before = len(acknowledged)
            acknowledged.update(sent(node, phantoms(10 + number, series, size=50_000)))
            if len(acknowledged) == before:
                time.sleep(0.1)

    threads = [threading.Thread(target=send, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    try:
        for part in (node.storage, node.catalog, node.gateways[0]):
            goes_on(acknowledged)
            part.kill()
            part.start()
            goes_on(acknowledged)
    finally:
        is_over.set()
        for thread in threads:
            thread.join()
    assert acknowledged <= set(kept(node))
    assert node.cli("verify")


def goes_on(acknowledged: set[str]) -> None:
    """Wait until more is acknowledged."""
    enough = len(acknowledged) + 10
    until(lambda: len(acknowledged) >= enough, seconds=90)


def test_a_second_gateway_takes_over_in_the_middle_of_a_study(node: SplitNode) -> None:
    study = [one for series in range(4) for one in phantoms(30, series, size=30_000)]
    before = len(kept(node))
    half = len(study) // 2
    answers = requestor(node, 0).store(study)
    told = [next(iter(answers)).status for _ in range(half)]
    node.gateways[0].kill()
    # The device does not know whether the next one was taken: it sends it again, with all that follow.
    rest = [answer.status for answer in requestor(node, 1).store(study[half - 1 :])]
    node.gateways[0].start()
    assert told == [0] * half
    assert rest == [0] * (len(study) - half + 1)
    assert len(kept(node)) == before + len(study), "nothing is lost, nothing is there twice"
    assert not node.json("status")["conflicts"]
    for uid in {study_of(node, one) for one in study}:
        assert given(node, uid, 0) == given(node, uid, 1)
    everything = [uid for study in {study_of(node, one) for one in study} for uid in given(node, study)]
    assert sorted(everything) == sorted(one.SOPInstanceUID for one in study)


def test_without_its_storage_a_node_refuses_and_finds_and_recovers_by_itself(node: SplitNode) -> None:
    here, later = phantoms(40, size=30_000), phantoms(41, size=30_000)
    assert len(sent(node, here)) == len(here)
    study = study_of(node, here[0])
    node.storage.kill()
    assert "does not answer at tcp://" in ready(node)
    refused = list(requestor(node).store(later[:1]))
    assert [answer.status for answer in refused] == [OUT_OF_RESOURCES]
    assert found(node, study)
    node.storage.start()
    until(lambda: len(sent(node, later)) == len(later))
    until(lambda: "readyz check passed" in ready(node))
    assert given(node, study) == sorted(one.SOPInstanceUID for one in here)


def ready(node: SplitNode) -> str:
    """Return what the catalog's `/readyz` says."""
    url = f"http://127.0.0.1:{load_config(node.home).watch.port}/readyz?verbose"
    try:
        with urllib.request.urlopen(url, timeout=60) as page:
            return str(page.read().decode())
    except urllib.error.HTTPError as error:
        with error:
            return error.read().decode()


def test_without_its_catalog_a_gateway_lets_nobody_in_and_recovers_by_itself(node: SplitNode) -> None:
    later = phantoms(50, size=30_000)
    node.catalog.kill()
    with pytest.raises(PacsError, match="congested"):
        list(requestor(node).store(later[:1]))
    node.catalog.start()
    until(lambda: len(sent(node, later)) == len(later))
    assert found(node, study_of(node, later[0]))


def found(node: SplitNode, study: str) -> bool:
    """Say whether a C-FIND at the gateway lists the study."""
    return bool(list(requestor(node).find({**STUDY, "0020000D": {"vr": "UI", "Value": [study]}})))
