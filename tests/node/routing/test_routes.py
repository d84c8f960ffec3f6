"""Routes: what becomes complete and matches arrives where its rule says, whatever is in the way meanwhile."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import dcmread

from catalog import BadRequest, Selection, Verb
from node.contracts import Device
from node.standing import read_standing
from sim.ports import free_port
from tests.homes import Peer, attribute, edited, phantoms, serving
from tests.node.bucket.serving import ACCESS, SECRET, Server
from tests.node.commandline import CommandLine
from tests.node.dimse.peers import storescp
from tests.node.oldpacs.odd import odd
from tests.node.oldpacs.servers import orthanc
from tests.node.research.site import Site
from tests.node.routing.homes import ask, routed, ruled, sent
from tests.running import until


def test_a_study_that_matches_is_sent_to_storescp_and_another_is_not(tmp_path: Path) -> None:
    rules = """
    [[route]]
    name = "ct"
    match = ["Modality=CT"]
    to = "ae:READER"
    """
    (tmp_path / "out").mkdir()
    with storescp(tmp_path / "out") as port, ruled(tmp_path / "home", rules) as node:
        node.devices.put(Device(ae_title="READER", address="127.0.0.1", port=port))
        study, made = sent(node, 1, modality="CT")
        sent(node, 2, modality="MR")
        found = routed(node, "ct")
        assert found["last"]["StudyInstanceUID"] == study
        until(lambda: node.main.study_events.last >= 2)
        assert len(ask(node, "transfers")) == 1
        assert len(list((tmp_path / "out").iterdir())) == len(made)
        told = ask(node, "check_route", rule="ct", study=study)
        assert (told["matches"], told["asked"], told["waiting"]) == (True, False, None)


def test_what_a_study_grows_by_later_is_sent_and_nothing_twice(tmp_path: Path) -> None:
    port = free_port()
    rules = f"""
    [[route]]
    name = "web"
    to = "http://127.0.0.1:{port}/dicom-web"
    """
    with ruled(tmp_path / "home", rules) as node:
        first, *rest = phantoms(3, size=4_000, instances=4)
        assert Peer(node, "WARD").store(first) == [0]
        study = until(lambda: [each["last"] for each in ask(node, "routes") if each["last"]])[0][
            "StudyInstanceUID"
        ]
        lacking = until(lambda: [e for e in ask(node, "routes")[0]["lacking"] if e["why"]])
        assert "does not answer" in lacking[0]["why"]
        with serving(tmp_path / "other", web={"plain_port": port}, node={"ae_title": "OTHER"}) as other:
            for transfer in ask(node, "transfers"):
                ask(node, "raise_transfer", id=transfer["id"])
            routed(node, "web")
            assert other.catalog.totals().instances == 1
            assert set(Peer(node, "WARD").store(*rest)) == {0}
            until(lambda: other.catalog.totals().instances == 1 + len(rest), 30)
            routed(node, "web")
            transfers = [each for each in ask(node, "transfers") if each["StudyInstanceUID"] == study]
            assert [each["done"] for each in transfers] == [1, len(rest)]
            told = ask(node, "check_route", rule="web", study=study)
            assert (told["asked"], told["lacking"]) == (True, 0)
            gone = other.catalog.select(Selection(studies=(study,)))[0]
            target = study, gone.SeriesInstanceUID, gone.SOPInstanceUID
            other.register.make(Verb.REJECT, target, reason="bad", who="novak")
            assert ask(node, "check_route", rule="web", study=study)["lacks"] == [gone.SOPInstanceUID]


def test_orthanc_gets_it_and_says_itself_what_it_lacks(tmp_path: Path) -> None:
    rules = """
    [[route]]
    name = "orthanc"
    from = ["WARD"]
    to = "ae:OLD"
    lane = "now"
    """
    with orthanc(tmp_path / "orthanc") as server, ruled(tmp_path / "home", rules) as node:
        node.devices.put(Device(ae_title="OLD", address="127.0.0.1", port=server.port))
        study, made = sent(node)
        routed(node, "orthanc")
        told = ask(node, "check_route", rule="orthanc", study=study)
        assert (told["asked"], told["lacking"], told["instances"]) == (True, 0, len(made))
        later = edited(made[0], SOPInstanceUID="1.2.3.4.5.6")
        assert Peer(node, "OTHER").store(replace(later, SOPInstanceUID="1.2.3.4.5.6")) == [0]
        assert ask(node, "check_route", rule="orthanc", study=study)["lacks"] == ["1.2.3.4.5.6"]
        ask(node, "send_route", rule="orthanc", study=study, who="novak")
        until(lambda: ask(node, "check_route", rule="orthanc", study=study)["lacking"] == 0)


def test_what_a_target_lacks_is_not_told_from_a_list_that_it_cut_short(tmp_path: Path) -> None:
    rules = """
    [[route]]
    name = "old"
    from = ["ELSEWHERE"]
    to = "ae:OLD"
    """
    with odd(0) as target, ruled(tmp_path / "home", rules) as node:
        node.devices.put(Device(ae_title="OLD", address="127.0.0.1", port=target.port))
        study, made = sent(node)
        target.keep(*made)
        target.at_most = 2
        told = ask(node, "check_route", rule="old", study=study)
        assert (told["asked"], told["lacking"]) == (False, None)
        assert "FE00 after 2 answers" in told["why_not_asked"]
        target.at_most = 0
        told = ask(node, "check_route", rule="old", study=study)
        assert (told["asked"], told["lacking"]) == (True, 0)


def test_a_bucket_gets_files_that_any_program_reads(tmp_path: Path) -> None:
    server = Server(tmp_path / "s3")
    secrets = tmp_path / "access", tmp_path / "secret"
    for path, word in zip(secrets, (ACCESS, SECRET), strict=True):
        path.write_text(word)
        path.chmod(0o600)
    rules = f"""
    [[route]]
    name = "files"
    to = "s3://archive/out"
    endpoint = "http://127.0.0.1:{server.port}"
    access_key_file = "{secrets[0]}"
    secret_key_file = "{secrets[1]}"
    """
    try:
        with ruled(tmp_path / "home", rules) as node:
            study, made = sent(node)
            routed(node, "files")
            files = sorted((server.folder / "out" / study).rglob("*.dcm"))
            assert {path.stem for path in files} == {one.SOPInstanceUID for one in made}
            assert dcmread(files[0]).StudyInstanceUID == study
            assert ask(node, "check_route", rule="files", study=study)["lacking"] == 0
            server.stop()
            files[0].unlink()
            server.start()
            assert ask(node, "check_route", rule="files", study=study)["lacks"] == [files[0].stem]
    finally:
        server.stop()


def test_a_profile_lets_nothing_out_that_is_not_de_identified(tmp_path: Path) -> None:
    rules = """
    [[route]]
    name = "research"
    to = "ae:OTHER"
    profile = "TRIAL-7"
    """
    with (
        serving(tmp_path / "other", node={"ae_title": "OTHER"}) as other,
        ruled(tmp_path / "home", rules) as node,
    ):
        port = other.ports["dicom"]
        node.devices.put(Device(ae_title="OTHER", address="127.0.0.1", port=port))
        Site(node).project()
        study, made = sent(node)
        until(lambda: other.catalog.totals().instances == len(made), 60)
        [there] = Peer(other).find(PatientID="", StudyInstanceUID="")
        assert there["PatientID"].startswith("TRIAL-7")
        assert there["StudyInstanceUID"] != study
        got = Peer(other).get(there["StudyInstanceUID"])
        name = str(attribute(made[0], "PatientName")).encode()
        assert len(got) == len(made)
        assert not [one for one in got if name in one.data]
        assert ask(node, "check_route", rule="research", study=study)["why_not_asked"]


def test_a_project_whose_releases_people_look_at_sends_nothing_by_a_rule(tmp_path: Path) -> None:
    rules = """
    [[route]]
    name = "research"
    to = "ae:OTHER"
    profile = "TRIAL-7"
    """
    with ruled(tmp_path / "home", rules) as node:
        node.devices.put(Device(ae_title="OTHER", address="127.0.0.1", port=free_port()))
        Site(node).project(reviewers=["novak"])
        sent(node)
        why = until(lambda: [each["why"] for each in ask(node, "transfers") if each["why"]], 30)
        assert "so no rule may send it" in why[0]


def test_the_command_line_tells_routes_and_what_they_lack(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = """
    [[route]]
    name = "away"
    from = ["WARD"]
    to = "ae:NOBODY"
    """
    with ruled(tmp_path / "home", rules) as node:
        study, _ = sent(node)
        until(lambda: [e for e in ask(node, "routes")[0]["lacking"] if e["why"]])
        say = CommandLine(node.home, capsys)
        assert "The route away waits to send 1 study: peerpacs routes" in say("status")
        listed = say("routes", code=3)
        assert "away   everything  ae:NOBODY  as it is" in listed
        assert f"away lacks {study} (transfer" in listed
        checked = say("routes", "check", "away", study, code=3)
        assert "✓ The route is about this study." in checked
        assert "was not asked: No device is called 'NOBODY'" in checked
        assert "Ordered" in say("routes", "send", "away", study)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "\n[[route]]\nname = 'a'\nmatch = ['Modlity=CT']\nto = 'ae:X'",
            "Line 4 of FILE, [[route]]: 'Modlity'",
        ),
        ("[[route]]\nname='a'\nto='ae:X'\nmatch=['StudyDate=soon']", "Line 4 of FILE"),
        ("[[route]]\nname='a'\nto='ae:X'\nmatch=['Modality']", "Line 4 of FILE"),
        ("[[route]]\nname = 'a'\nto = 'X'", "Line 3 of FILE, [[route]]: 'X' is no place to send to."),
        ("[[route]]\nname = 'a'", "Line 1 of FILE, [[route]]: Object missing required field `to`"),
        ("[[route]]\nname = 'a'\nto = 'ae:X'\nlne = 'now'", "Did you mean lane?"),
        ("[[route]]\nname = 'a'\nto = 'ae:X'\nlane = 'fast'", "Line 4 of FILE"),
        ("[[route]]\nname='a'\nto='ae:X'\n[[route]]\nname='a'\nto='ae:Y'", "Line 5 of FILE: there are two"),
        ("[[prefetch]]\nname = 'p'\nmost = 0", "Line 3 of FILE, [[prefetch]]"),
        ("[[old_pacs]]\nname='o'\nae_title='O'\nreceive_as='R'\nhours='7pm'", "Line 5 of FILE"),
        ("[route]\nname = 'a'", "[route] in FILE must be [[route]]."),
    ],
)
def test_a_bad_rule_is_refused_with_its_line(text: str, sentence: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read_standing(text, "FILE")
    assert sentence in str(caught.value)


def test_a_node_with_a_bad_rule_does_not_start_and_check_says_the_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = "[[route]]\nname = 'a'\nto = 'ae:X'\nprofil = 'x'"
    with pytest.raises(BadRequest, match="Did you mean profile"), ruled(tmp_path / "home", rules):
        pass
    line = (tmp_path / "home" / "peerpacs.toml").read_text().splitlines().index("profil = 'x'") + 1
    assert f"Line {line} of" in CommandLine(tmp_path / "home", capsys)("check", code=1)
