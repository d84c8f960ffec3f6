"""A node that keeps its archive in a bucket: what senders, readers and its people see when it goes wrong."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from catalog import NotPermitted
from node.app import Node, open_node, rebuild
from node.devices import DEV_RULE
from node.dimse import Requestor
from node.watching.exposition import Exposition
from tests.homes import Peer, attribute, new_home, phantoms, serving
from tests.node.bucket.serving import ACCESS, SECRET, Server
from tests.node.committing import Results, action, asking, pairs
from tests.node.test_archives import At
from tests.running import RunningNode, until

WHO = {"reason": "a test", "who": "tester"}


def bucket_home(home: Path, server: Server, **s3: Any) -> Path:
    """Make the home of a node whose default archive lies in the server's bucket."""
    secrets = home / "secrets"
    secrets.mkdir(parents=True, mode=0o700)
    for name, key in (("s3-access-key", ACCESS), ("s3-secret-key", SECRET)):
        (secrets / name).touch(mode=0o600)
        (secrets / name).write_text(key + "\n")
    settings = {"endpoint": server.endpoint().url, **s3}
    return new_home(home, storage={"url": f"s3://{server.bucket}/alpha"}, s3=settings)


@contextlib.contextmanager
def on_bucket(home: Path, server: Server, **s3: Any) -> Iterator[Node]:
    if not home.exists():
        bucket_home(home, server, **s3)
    with serving(home) as node:
        yield node


def evict(node: Node) -> None:
    """Wait until the bucket has everything, and empty the cache."""
    bucket = node.main.bucket
    assert bucket is not None
    until(lambda: bucket.waiting() == 0)
    while bucket.drop_one():
        pass


def uid_of(peer: Peer) -> str:
    [row] = peer.find(StudyInstanceUID="")
    return str(row["StudyInstanceUID"])


def test_what_was_acknowledged_is_in_the_bucket_and_comes_back_from_there(
    tmp_path: Path, server: Server
) -> None:
    sent = phantoms(1, series=1, instances=12)
    with on_bucket(tmp_path / "home", server) as node:
        peer = Peer(node)
        assert set(peer.store(*sent)) == {0}
        assert len(server.files("alpha/o")) == len(sent)
        evict(node)
        got = {one.SOPInstanceUID: one.data for one in peer.get(uid_of(peer))}
        assert got == {one.SOPInstanceUID: one.data for one in sent}


def test_with_a_persistent_spool_a_bucket_that_is_gone_delays_nobody(tmp_path: Path, server: Server) -> None:
    with on_bucket(tmp_path / "home", server, persistent_spool=True) as node:
        peer = Peer(node)
        server.stop()
        assert set(peer.store(*phantoms(2))) == {0}
        bucket = node.main.bucket
        assert bucket is not None
        until(lambda: bucket.trouble)
        [told] = node.desk.verbs()["archives"]()
        assert told["bucket"]["waiting"] == len(phantoms(2))
        assert "does not answer" in told["bucket"]["trouble"]
        assert len(peer.get(uid_of(peer))) == len(phantoms(2))
        server.start()
        until(lambda: bucket.waiting() == 0, seconds=60)
        assert not bucket.trouble


def test_metrics_tell_what_waits_for_the_bucket_and_for_how_long(tmp_path: Path, server: Server) -> None:
    def told(node: Node) -> dict[str, float]:
        families = text_string_to_metric_families(Exposition(node.watch.measures).text().decode())
        return {sample.name: sample.value for family in families for sample in family.samples}

    sent = phantoms(2)
    with on_bucket(tmp_path / "home", server, persistent_spool=True) as node:
        server.stop()
        assert set(Peer(node).store(*sent)) == {0}
        assert told(node)["peerpacs_uploads_waiting"] == len(sent)
        until(lambda: told(node)["peerpacs_upload_wait_seconds"] > 0)
        server.start()
        until(lambda: told(node)["peerpacs_uploads_waiting"] == 0, seconds=60)
        assert told(node)["peerpacs_upload_wait_seconds"] == 0


def test_without_one_a_sender_is_told_and_sends_again(tmp_path: Path, server: Server) -> None:
    sent = phantoms(3)
    with on_bucket(tmp_path / "home", server) as node:
        server.stop()
        assert set(Peer(node).store(sent[0])) == {0xA700}
        assert not Peer(node).find(StudyInstanceUID="")
        server.start()
        assert set(Peer(node).store(*sent)) == {0}
        assert len(Peer(node).get(uid_of(Peer(node)))) == len(sent)


def test_availability_is_true_while_the_bucket_is_away(tmp_path: Path, server: Server) -> None:
    now = [time.time()]
    home = bucket_home(tmp_path / "home", server, persistent_spool=True)
    with open_node(home, clock=lambda: now[0]) as node:
        node.devices.put(DEV_RULE)
        node.start()
        peer = Peer(node)
        assert set(peer.store(*phantoms(4))) == {0}
        until(lambda: node.main.bucket and node.main.bucket.waiting() == 0)
        server.stop()
        evict(node)
        assert set(peer.store(*phantoms(5))) == {0}
        query = {"StudyInstanceUID": "", "InstanceAvailability": ""}
        assert {row["InstanceAvailability"] for row in peer.find(**query)} == {"ONLINE"}
        now[0] += 61
        rows = {row["StudyInstanceUID"]: row["InstanceAvailability"] for row in peer.find(**query)}
        away = phantoms(4)[0]
        assert sorted(rows.values()) == ["ONLINE", "UNAVAILABLE"]
        [series] = {
            row["InstanceAvailability"]
            for row in peer.find(
                "IMAGE",
                StudyInstanceUID=study_of(away),
                SeriesInstanceUID=series_of(away),
                SOPInstanceUID="",
                InstanceAvailability="",
            )
        }
        assert series == "UNAVAILABLE"
        assert rows[study_of(away)] == "UNAVAILABLE"


def study_of(instance: Any) -> str:
    return str(attribute(instance, "StudyInstanceUID"))


def series_of(instance: Any) -> str:
    return str(attribute(instance, "SeriesInstanceUID"))


def test_the_bucket_alone_gives_a_new_disk_everything_decisions_too(tmp_path: Path, server: Server) -> None:
    home, sent = tmp_path / "home", phantoms(6)
    with on_bucket(home, server) as node:
        peer = Peer(node)
        assert set(peer.store(*sent)) == {0}
        uid = uid_of(peer)
        node.desk.verbs()["correct"](target=uid, attributes=["PatientID=RIGHT"], **WHO)
        evict(node)
    shutil.rmtree(home / "archives")
    shutil.rmtree(home / "state")
    recovered = rebuild(home)
    assert (recovered.instances, recovered.decisions) == (len(sent), 1)
    with serving(home) as node:
        [row] = Peer(node).find(StudyInstanceUID="", PatientID="")
        assert row["PatientID"] == "RIGHT"
        assert len(Peer(node).get(uid)) == len(sent)


def test_the_bucket_alone_knows_what_was_erased_and_held_and_the_rules_and_links(
    tmp_path: Path, server: Server
) -> None:
    home, kept, gone = tmp_path / "home", phantoms(16), phantoms(17)
    pair = ("A", "1"), ("B", "2")
    with on_bucket(home, server) as node:
        peer, verbs = Peer(node), node.desk.verbs()
        assert set(peer.store(*kept, *gone)) == {0}
        verbs["correct"](target=study_of(gone[0]), attributes=["PatientID=RIGHT"], **WHO)
        verbs["hold"](target=study_of(kept[0]), **WHO)
        verbs["put_retention"](name="ten years", keys=[], years=10, who="ann")
        node.neighbourhood.links.add([pair], "ann", 7)  # type: ignore[list-item]
        evict(node)
        verbs["erase"](target=study_of(gone[0]), **WHO)
        until(lambda: [row["outcome"] for row in verbs["deletions"]()["orders"]] == ["erased"])
        until(lambda: len(server.files("alpha/o")) == len(kept))
        evict(node)
    shutil.rmtree(home / "archives")
    shutil.rmtree(home / "state")
    assert rebuild(home).instances == len(kept)
    with serving(home) as node:
        verbs = node.desk.verbs()
        assert set(Peer(node).store(*gone)) == {0x0124}
        with pytest.raises(NotPermitted, match="hold"):
            verbs["delete"](target=study_of(kept[0]), **WHO)
        assert [rule["name"] for rule in verbs["retention"]()["rules"]] == ["ten years"]
        assert [(link.one, link.other) for link in node.neighbourhood.links.all()] == [pair]
        assert [each.verb for each in node.catalog.decisions(study_of(gone[0]))] == ["erase"]


def test_a_spool_wiped_after_the_acknowledgement_loses_nothing_the_bucket_confirmed(
    tmp_path: Path, server: Server
) -> None:
    home, sent = tmp_path / "home", phantoms(7)
    with on_bucket(home, server) as node:
        assert set(Peer(node).store(*sent)) == {0}
    shutil.rmtree(home / "archives" / "main" / "objects")
    with serving(home) as node:
        assert len(Peer(node).get(uid_of(Peer(node)))) == len(sent)


def test_a_byte_flipped_in_the_bucket_fails_that_instance_and_no_other(
    tmp_path: Path, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    sent = phantoms(8)
    with on_bucket(tmp_path / "home", server) as node:
        peer = Peer(node)
        assert set(peer.store(*sent)) == {0}
        evict(node)
        path = server.files("alpha/o")[0]
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        server.replace(path, content)
        assert len(peer.get(uid_of(peer))) == len(sent) - 1
    assert "is damaged" in caplog.text


def test_wrong_credentials_stop_nothing_and_are_told_with_a_remedy(tmp_path: Path, server: Server) -> None:
    home = bucket_home(tmp_path / "home", server, persistent_spool=True)
    (home / "secrets" / "s3-secret-key").write_text("not-the-right-secret-0001\n")
    with serving(home) as node:
        assert set(Peer(node).store(*phantoms(9))) == {0}
        bucket = node.main.bucket
        assert bucket is not None
        until(lambda: "refuses this node's credentials" in bucket.trouble)
        assert "Correct access key" in bucket.trouble


def test_credentials_that_others_can_read_are_not_used(tmp_path: Path, server: Server) -> None:
    home = bucket_home(tmp_path / "home", server)
    (home / "secrets" / "s3-secret-key").chmod(0o644)
    with pytest.raises(NotPermitted, match="chmod 600"), open_node(home):
        pass


def test_two_archives_share_a_bucket_by_prefix_and_see_nothing_of_each_other(
    tmp_path: Path, server: Server
) -> None:
    with on_bucket(tmp_path / "home", server) as node:
        plan = {"ae_titles": ["LAB"], "who": "tester", "is_new": True, "s3": ["encryption=none"]}
        node.desk.verbs()["put_archive"](name="lab", storage=f"s3://{server.bucket}/lab", **plan)
        ours, theirs = phantoms(10), phantoms(11, size=30_000)
        assert set(At(node, "ALPHA").store(*ours)) == {0} == set(At(node, "LAB").store(*theirs))
        assert (len(server.files("alpha/o")), len(server.files("lab/o"))) == (len(ours), len(theirs))
        plain = theirs[0].data[-20_000:]
        assert any(plain in path.read_bytes() for path in server.files("lab/o"))
        assert not any(ours[0].data[-10_000:] in path.read_bytes() for path in server.files("alpha/o"))


def test_kill_9_while_it_stores_and_uploads_loses_nothing_acknowledged(
    tmp_path: Path, server: Server
) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"{ACCESS}\n{SECRET}\n")
    where = ["--storage", f"s3://{server.bucket}/k", "--s3-endpoint", server.endpoint().url]
    node = RunningNode(tmp_path / "home", "ALPHA", *where, "--s3-keys", str(keys))
    acknowledged = 0
    for number in range(3):
        node.start(PEERPACS__S3__PERSISTENT_SPOOL="true", PEERPACS__STORAGE__STOP_BELOW_MB="1")
        sent = phantoms(20 + number, size=200_000)
        requestor = Requestor("CT", "127.0.0.1", node.port, "ALPHA")
        acknowledged += [answer.status for answer in requestor.store(sent)].count(0)
        node.kill()
    node.start(PEERPACS__S3__PERSISTENT_SPOOL="true")
    until(lambda: len(server.files("k/o")) == acknowledged, seconds=60)
    assert node.json("status")["archive"]["instances"] == acknowledged
    node.stop()


def test_commitment_waits_for_the_bucket_and_fails_at_once_for_what_was_lost(
    tmp_path: Path, server: Server
) -> None:
    """Not confirmed yet is no reason to refuse: PS3.4 Annex J sets no time. Lost is 0110, a failure."""
    sent, doomed = phantoms(30, instances=2), phantoms(31, instances=2)
    results, late = Results(), Results()
    with on_bucket(tmp_path / "home", server, persistent_spool=True) as node:
        server.stop()
        assert set(Peer(node).store(*sent, *doomed)) == {0}
        bucket = node.main.bucket
        assert bucket is not None
        until(lambda: bucket.trouble)
        with asking(node.ports["dicom"], results) as scu, asking(node.ports["dicom"], late) as other:
            assert scu.ask(action(pairs(*sent))) == 0
            until(lambda: node.main.commitment.waiting())
            assert not results.taken
            server.start()
            kind, committed, failed = results.only()
            assert (kind, committed, failed) == (1, {one.SOPInstanceUID for one in sent}, {})
            until(lambda: bucket.waiting() == 0)
            evict(node)
            server.stop()
            for path in server.files("alpha/o"):
                path.unlink()
            server.start()
            assert Peer(node).get(study_of(doomed[0])) == []
            assert other.ask(action(pairs(*doomed))) == 0
            kind, committed, failed = late.only()
    assert (kind, committed) == (2, set())
    assert failed == {one.SOPInstanceUID: 0x0110 for one in doomed}
