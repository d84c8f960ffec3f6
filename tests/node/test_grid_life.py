"""Three hospitals, one grid, DCMTK as the devices: what a person decides at one holds at all of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from pydicom import Dataset, dcmread

from sim.phantoms import instances, study
from sim.ports import free_port
from tests.grid import GridNode
from tests.privacy import files_with
from tests.running import dcmtk, until

SECRET = {
    "PatientID": "ERASEME-7",
    "PatientName": "ZYXERASED^QUENTIN",
    "AccessionNumber": "ACCZ9977",
    "PatientAddress": "SECRETSTREET 12",
    "ImageComments": "ONLYHERE",
}
pytestmark = pytest.mark.slow
Three = tuple[GridNode, GridNode, GridNode]


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Three]:
    """Alpha, beta and gamma, connected, each following the others."""
    home = tmp_path_factory.mktemp("grid")
    alpha, beta, gamma = (GridNode(home / name, name) for name in ("alpha", "beta", "gamma"))
    nodes = (alpha, beta, gamma)
    for node in nodes:
        node.start(**node.env)
    for node in (beta, gamma):
        alpha.admit(node)
    for node in nodes:
        node.cli("devices", "add", "WS", "--services", "echo,find,move,get,store,commit", "--called", "*",
                 "--issuer", "ALPHA", "--port", str(free_port()), "--address", "127.0.0.1",
                 "--foreign-ids", "keep", "--all-issuers")  # fmt: skip
    yield nodes
    for node in nodes:
        if node.process is not None:
            node.stop()


def stored(node: GridNode, folder: Path, seed: int, number: int = 3, **values: str) -> tuple[str, list[Path]]:
    """Store a study as a modality does, with these values; return its UID and files."""
    folder.mkdir()
    paths = []
    for instance in instances(study(seed, 0, instances=number, size=20_000)):
        paths.append(folder / f"{instance.SOPInstanceUID}.dcm")
        paths[-1].write_bytes(instance.part10())
        data = dcmread(paths[-1])
        for keyword, value in values.items():
            setattr(data, keyword, value)
        data.save_as(paths[-1])
    send(node, paths)
    return str(dcmread(paths[0]).StudyInstanceUID), paths


def send(node: GridNode, paths: list[Path]) -> None:
    dcmtk("storescu", "-xe", "-aet", "CT", "-aec", node.ae_title, "127.0.0.1", str(node.port),
          *map(str, paths))  # fmt: skip


def find(node: GridNode, title: str = "", **keys: str) -> str:
    """Return what findscu prints of a question to a node's grid."""
    asked = [word for key, value in keys.items() for word in ("-k", f"{key}={value}")]
    return dcmtk("findscu", "-S", "-aet", "WS", "-aec", title or f"{node.ae_title}_GRID",
                 "-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID", "-k", "PatientName",
                 "-k", "PatientID", *asked, "127.0.0.1", str(node.port))  # fmt: skip


def get(node: GridNode, uid: str, folder: Path, title: str = "") -> list[Dataset]:
    """Return what getscu fetches of a study."""
    folder.mkdir(parents=True)
    dcmtk("getscu", "-S", "-aet", "WS", "-aec", title or f"{node.ae_title}_GRID", "-od", str(folder),
          "-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={uid}",
          "127.0.0.1", str(node.port), exit_code=None)  # fmt: skip
    return [dcmread(path) for path in sorted(folder.iterdir())]


def answers(node: GridNode, **keys: str) -> int:
    """Return how many studies a question to a node's grid finds that can be had."""
    said = find(node, InstanceAvailability="", **keys)
    return said.count("[ONLINE") + said.count("[NEARLINE")


def traces(nodes: tuple[GridNode, ...], values: set[str]) -> list[tuple[str, str, str]]:
    """Return in which files of which homes one of the values stands."""
    words = [value.encode() for value in values]
    return [
        (node.name, str(path.relative_to(node.home)), word.decode())
        for node in nodes
        for path, word in files_with(words, node.home)
    ]


def test_wrong_patient(three: Three, tmp_path: Path) -> None:
    alpha, beta, _ = three
    uid, paths = stored(alpha, tmp_path / "sent", 901)
    sent = dcmread(paths[0])
    until(lambda: all(answers(node, StudyInstanceUID=uid) for node in three))
    assert len(get(beta, uid, tmp_path / "before")) == 3
    made = alpha.json("correct", uid, "PatientID=RIGHT-901", "PatientName=RIGHT^PERSON", "--reason", "x")
    until(lambda: all(answers(node, PatientID="RIGHT-901") == 1 for node in three), 5.0)
    for node in three:
        assert answers(node, PatientID=str(sent.PatientID)) == 0, node.name
        assert answers(node, StudyInstanceUID=uid) == 1
        got = get(node, uid, tmp_path / node.name)
        assert [(data.PatientID, str(data.PatientName)) for data in got] == [
            ("RIGHT-901", "RIGHT^PERSON")
        ] * 3
        assert {data.SOPInstanceUID for data in got} == {path.stem for path in paths}
        [said] = [
            item
            for item in got[0].OriginalAttributesSequence
            if item.ReasonForTheAttributeModification == "CORRECT"
        ]
        assert said.ModifiedAttributesSequence[0].PatientID == sent.PatientID
        assert got[0].PixelData == dcmread(tmp_path / "sent" / f"{got[0].SOPInstanceUID}.dcm").PixelData
    other = alpha.json("correct", uid, "PatientComments=OF NO ROW", "--reason", "x")
    for node in three:
        until(
            lambda node=node: (
                {  # type: ignore[misc]
                    data.get("PatientComments") for data in get(node, uid, tmp_path / node.name / uuid4().hex)
                }
                == {"OF NO ROW"}
            )
        )
    alpha.json("undo", other["decision"], "--reason", "x")
    send(alpha, paths)
    until(lambda: [line for line in alpha.audit("alarm") if line["outcome"] == "sent again"])
    assert answers(alpha, PatientID=str(sent.PatientID)) == 0
    alpha.json("undo", made["decision"][:12], "--reason", "x")
    until(lambda: all(answers(node, PatientID=str(sent.PatientID)) == 1 for node in three), 5.0)
    for node in three:
        assert answers(node, PatientID="RIGHT-901") == 0
        [*got] = get(node, uid, tmp_path / f"{node.name}-after")
        assert {data.PatientID for data in got} == {sent.PatientID}
        told = got[0].get("OriginalAttributesSequence") or ()
        assert "CORRECT" not in {item.ReasonForTheAttributeModification for item in told}


def test_a_moved_series_is_part_of_the_right_study_at_every_site(three: Three, tmp_path: Path) -> None:
    alpha = three[0]
    wrong, paths = stored(alpha, tmp_path / "wrong", 905)
    right, others = stored(alpha, tmp_path / "right", 906)
    until(lambda: all(answers(node, StudyInstanceUID=uid) for node in three for uid in (wrong, right)))
    series = str(dcmread(paths[0]).SeriesInstanceUID)
    for node in three:
        assert len(get(node, wrong, tmp_path / node.name / "before")) == 3, "copies of it are at every site"
    alpha.json("move-series", series, "--to", right, "--reason", "x")
    until(lambda: not any(answers(node, StudyInstanceUID=wrong) for node in three), 5.0)
    for node in three:
        until(lambda node=node: len(get(node, right, tmp_path / node.name / uuid4().hex)) == 6)  # type: ignore[misc]
        got = get(node, right, tmp_path / node.name / "all")
        assert {data.SOPInstanceUID for data in got} == {path.stem for path in (*paths, *others)}
        assert {data.StudyInstanceUID for data in got} == {right}
        assert len({str(data.PatientName) for data in got}) == 1


def test_rejected_deleted_and_erased_with_one_site_down(three: Three, tmp_path: Path) -> None:
    alpha, beta, gamma = three
    kinds = ("reject", "delete", "erase")
    uids = {}
    for seed, kind in enumerate(kinds, 911):
        uids[kind], _ = stored(alpha, tmp_path / kind, seed, **(SECRET if kind == "erase" else {}))
    kept, _ = stored(alpha, tmp_path / "kept", 919)
    words = {part for value in SECRET.values() for part in value.split("^")}
    until(lambda: all(answers(node, StudyInstanceUID=uid) for node in three for uid in uids.values()))
    for node in (beta, gamma):
        for kind, uid in uids.items():
            assert len(get(node, uid, tmp_path / f"{node.name}-{kind}")) == 3
    for node in three:
        node.cli("link", "PHANTOMS", SECRET["PatientID"], "UNI", "4712")
        node.cli("link", "UNI", "4713", "LAB", "9")
    words.add(SECRET["PatientID"].encode().hex())
    assert {node for node, _, _ in traces(three, words)} == {"alpha", "beta", "gamma"}
    gamma.stop()
    for kind, uid in uids.items():
        more = ["--yes"] if kind != "reject" else []
        alpha.json(kind, uid, "--reason", "a test", *more)
    until(
        lambda: (
            not any(answers(node, StudyInstanceUID=uid) for node in (alpha, beta) for uid in uids.values())
        )
    )
    for node in (alpha, beta):
        for kind, uid in uids.items():
            assert get(node, uid, tmp_path / f"{node.name}-{kind}-after") == []
    until(lambda: alpha.json("deletions")["orders"][-1]["owing"] == ["gamma"], 30.0)
    assert traces((alpha, beta), words) == []
    gamma.start(**gamma.env)
    until(lambda: alpha.json("deletions")["orders"][-1]["owing"] == [], 40.0)
    assert {row["node"] for row in alpha.json("deletions")["orders"][-1]["receipts"]} == {"beta", "gamma"}
    assert traces(three, words) == []
    for node in three:
        assert [link["one"] for link in node.json("link")] == [["LAB", "9"]]
        assert answers(node, StudyInstanceUID=kept) == 1
        for kind, uid in uids.items():
            assert answers(node, StudyInstanceUID=uid) == 0
            assert get(node, uid, tmp_path / f"{node.name}-{kind}-end") == []
    said = find(alpha, "ALPHA_REJ", StudyInstanceUID=uids["reject"])
    assert uids["reject"] in said
