"""A running node is watched: by Prometheus, a load balancer, a container, and its service manager."""

from __future__ import annotations

import http.client
import json
import os
import platform
import shutil
import socket
import time
from importlib.metadata import version
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from node.app import Node
from node.dimse import Requestor
from node.watching import MEASURES
from sim.ports import free_port
from tests.homes import Peer, RawInstance, phantoms, serving
from tests.node.watching.test_supervision import manager
from tests.privacy import leaks
from tests.running import RunningNode, dcmtk, until


def get(port: int, target: str) -> tuple[int, str]:
    """Return status and body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", target)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


def numbers(node: Node) -> dict[tuple[str, ...], float]:
    """Return what /metrics says, by name and label values."""
    text = get(node.ports["watch"], "/metrics")[1]
    assert not leaks(text)
    return {
        (sample.name.removeprefix("peerpacs_"), *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def fresh(node: Node) -> dict[tuple[str, ...], float]:
    """Return what /metrics says of associations that are over, on a page made since."""
    until(lambda: not node.dimse.counters()["open"])
    time.sleep(0.25)
    return numbers(node)


def test_what_a_node_does_shows_in_its_numbers(tmp_path: Path) -> None:
    sent = phantoms(1, size=4000, instances=3)
    with serving(tmp_path / "alpha", watch={"port": free_port()}) as node:
        before = numbers(node)
        assert [{*labels} for name, *labels in before if name == "build_info"] == [
            {version("peerpacs"), platform.python_version()}
        ]
        assert Peer(node).store(*sent) == [0, 0, 0]
        assert len(Peer(node).find(StudyInstanceUID="")) == 1
        dcmtk("echoscu", "-aec", "NOBODY", "127.0.0.1", str(node.ports["dicom"]), exit_code=None)
        found = fresh(node)
        assert found["instances_received_total", "dimse"] == 3
        assert found["received_bytes_total", "dimse"] == sum(len(raw.data) for raw in sent)
        assert found[("store_seconds_count",)] == 3
        assert 0 < found[("store_seconds_sum",)] < 5
        assert found["find_seconds_count", "local"] == 1
        assert found["association_rejections_total", "called_ae"] == 1
        assert found["holdings", "ONLINE"] == 3
        assert found[("store_free_bytes",)] > 1 << 20
        assert found["associations", "scp"] == 0
        assert found[("process_open_fds",)] > 5


def test_imports_are_counted_at_their_own_door(tmp_path: Path) -> None:
    folder = tmp_path / "media"
    folder.mkdir()
    from node.storage import file_meta

    for number, raw in enumerate(phantoms(2, size=4000, instances=2)):
        meta = file_meta(raw.SOPClassUID, raw.SOPInstanceUID, raw.TransferSyntaxUID)
        (folder / f"{number}.dcm").write_bytes(meta + raw.data)
    with serving(tmp_path / "alpha", watch={"port": free_port()}) as node:
        name = node.imports.start(str(folder), node.main)
        until(lambda: node.imports.import_progress(name)["is_over"])
        found = fresh(node)
    assert found["instances_received_total", "import"] == 2
    assert found["received_bytes_total", "import"] > 6000
    assert found["instances_received_total", "dimse"] == 0


def test_every_number_is_in_the_table_and_no_label_grows_with_the_data(tmp_path: Path) -> None:
    with serving(tmp_path / "alpha", watch={"port": free_port()}) as node:
        before = set(numbers(node))
        for seed in range(1, 4):
            Peer(node, f"PEER{seed}").store(*phantoms(seed, size=4000))
            Peer(node).find(PatientName=f"NOBODY{seed}")
        assert set(fresh(node)) == before
        samples = [sample for source in node.watch.measures.sources() for sample in source()]
        assert {sample.name for sample in samples} <= MEASURES.keys()
        assert all(len(sample.labels) == len(MEASURES[sample.name].labels) for sample in samples)


def test_readiness_is_the_nodes_own_and_says_what_is_wrong(tmp_path: Path) -> None:
    with serving(tmp_path / "alpha", watch={"port": free_port()}) as node:
        port = node.ports["watch"]
        assert get(port, "/readyz?verbose")[1].splitlines() == [
            *(f"[+]{name} ok" for name in ("catalog", "storage", "disk", "dicom", "drain", "hearing")),
            "readyz check passed",
        ]
        incoming = node.main.folder / "incoming"
        incoming.rename(tmp_path / "away")
        _, text = until(lambda: next((got for got in [get(port, "/readyz")] if got[0] == 503), None))
        assert "[-]storage failed: No such file or directory" in text
        (tmp_path / "away").rename(incoming)
        assert until(lambda: get(port, "/readyz") == (200, "ok\n"))
        node.dimse.stop(0.0)
        assert until(lambda: "[-]dicom failed: nobody listens" in get(port, "/readyz")[1])
        assert get(port, "/livez") == (200, "ok\n")


def test_a_full_disk_is_not_ready(tmp_path: Path) -> None:
    full = {"stop_below_mb": 1 << 20, "resume_above_mb": 1 << 20}
    with serving(tmp_path / "alpha", watch={"port": free_port()}, storage=full) as node:
        status, text = get(node.ports["watch"], "/readyz")
    assert status == 503
    assert "[-]disk failed: " in text


def test_a_taken_port_stops_no_node(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with serving(tmp_path / "alpha", watch={"port": port}) as node:
            assert "watch" not in node.ports
            assert Peer(node).store(*phantoms(1, size=4000)) == [0]
    assert "set watch.port" in caplog.text


def test_the_doctor_names_who_holds_the_watchers_port(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        node = RunningNode(tmp_path / "alpha", "ALPHA", "--watch-port", str(port))
        assert f"✗ port {port} cannot be opened" in node.cli("check", exit_code=1)
        node.start()
        assert f"✗ port {port} belongs to" in node.cli("check", exit_code=1)
        node.stop()
    assert f"✓ port {port} is free for watchers" in node.cli("check", exit_code=0)


def test_the_watchdog_asks_who_must_turn(tmp_path: Path) -> None:
    with serving(tmp_path / "alpha") as node:
        hearts = node.watch.hearts
        until(lambda: not hearts.silent())
        assert until(lambda: "chores" in hearts._beats)
        node.dimse.stop(0.0)
        assert "dimse-acceptor" in hearts.silent()


def test_a_service_manager_hears_of_start_life_and_end(tmp_path: Path) -> None:
    node = RunningNode(tmp_path / "alpha")
    address = str(tmp_path / "notify")
    with manager(address) as hear:
        node.start(NOTIFY_SOCKET=address, WATCHDOG_USEC="1000000")
        ready = hear().splitlines()
        assert ready[0] == "READY=1"
        assert ready[1].startswith("STATUS=ALPHA answers on DICOM port")
        assert [hear() for _ in range(3)] == ["WATCHDOG=1"] * 3
        started = time.monotonic()
        assert node.stop() == 0
        assert time.monotonic() - started < 10
        # It lived on for a while, and said so.
        until(lambda: hear().startswith("STOPPING=1"))


@pytest.mark.parametrize("has_port", [True, False])
def test_a_container_asks_by_exit_code(tmp_path: Path, has_port: bool) -> None:
    node = RunningNode(tmp_path / "alpha", "ALPHA", *(["--watch-port", str(free_port())] if has_port else []))
    assert "[-]process failed" in node.cli("health", exit_code=1)
    node.start()
    assert "[+]storage ok" in node.cli("health")
    shutil.move(node.home / "archives/main/incoming", tmp_path / "away")
    assert "[-]storage failed" in until(lambda: _unhealthy(node))
    shutil.move(tmp_path / "away", node.home / "archives/main/incoming")
    node.kill()
    assert "[-]process failed" in node.cli("health", exit_code=1)


def _unhealthy(node: RunningNode) -> str:
    import subprocess

    from tests.running import PEERPACS

    done = subprocess.run([PEERPACS, "health", "--home", str(node.home)], capture_output=True, text=True)
    return done.stdout if done.returncode == 1 else ""


def test_where_each_setting_comes_from_is_told(tmp_path: Path) -> None:
    node = RunningNode(tmp_path / "alpha")
    os.environ["PEERPACS__LOG__LEVEL"] = "debug"
    try:
        rows = {(row["section"], row["key"]): row for row in json.loads(node.cli("config", "show", "--json"))}
        shown = node.cli("config", "show", "--origin")
    finally:
        del os.environ["PEERPACS__LOG__LEVEL"]
    assert rows["dicom", "port"]["origin"].endswith("peerpacs.toml")
    assert rows["dicom", "port"]["value"] == node.port
    assert rows["log", "level"] == {
        "section": "log",
        "key": "level",
        "value": "debug",
        "origin": "the environment (PEERPACS__LOG__LEVEL)",
    }
    assert "log.level" in shown
    assert "is right" in node.cli("config", "check")
    (node.home / "peerpacs.toml").write_text("[dicom]\nprot = 1\n")
    node.cli("config", "check", exit_code=2)


def send(node: RunningNode, instances: list[RawInstance]) -> None:
    """Store instances at a node that is a process of its own."""
    answers = Requestor("PEER", "127.0.0.1", node.port, node.ae_title).store(instances)
    assert {answer.status for answer in answers} == {0}


def test_a_log_that_was_moved_away_goes_on_in_a_new_file(tmp_path: Path) -> None:
    file = tmp_path / "peerpacs.log"
    node = RunningNode(tmp_path / "alpha")
    node.start(PEERPACS__LOG__FILE=str(file))
    send(node, phantoms(1, size=4000))
    until(lambda: "spoke to ALPHA" in file.read_text())
    file.rename(tmp_path / "peerpacs.log.1")
    send(node, phantoms(2, size=4000))
    until(lambda: file.exists() and "spoke to ALPHA" in file.read_text())
    node.stop()
    assert not leaks((tmp_path / "peerpacs.log.1").read_text() + file.read_text())
    assert node.log() == ""


def test_the_end_of_the_nodes_certificate_is_a_number(tmp_path: Path) -> None:
    with serving(tmp_path / "alpha", watch={"port": free_port()}, tls={"port": free_port()}) as node:
        ends = numbers(node)["certificate_expiry_timestamp_seconds", ""]
        assert ends > time.time() + 86400
        assert "[+]dicom ok" in get(node.ports["watch"], "/readyz?verbose")[1]
