"""A machine set back as a whole: peers tell it, it answers nobody until it has heard them, and says so."""

from __future__ import annotations

import os
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from sim.ports import free_port
from tests.node.copies import KEEPS, are_equal, end, hospitals, sent
from tests.running import PEERPACS, dcmtk, until

pytestmark = pytest.mark.slow
WHY = ("--reason", "a drill")


class Story:
    """Three hospitals; beta's machine has a snapshot from before it corrected a study and erased another."""

    def __init__(self, folder: Path) -> None:
        self.nodes = self.alpha, self.beta, self.gamma = hospitals(folder / "grid", "alpha", "beta", "gamma")
        try:
            self._live(folder)
        except BaseException:
            end(self.nodes)
            raise

    def _live(self, folder: Path) -> None:
        self.snapshot, beta = folder / "snapshot", self.beta
        beta.env["PEERPACS__WEB__PLAIN_PORT"] = str(free_port())
        for other in (self.alpha, self.gamma):
            beta.grant(other, *KEEPS)
        kept, _ = sent(beta, folder / "kept", 990, 2)
        gone, _ = sent(beta, folder / "gone", 991, 2)
        until(lambda: are_equal(beta, self.alpha) and are_equal(beta, self.gamma))
        self.old = self.found()
        beta.stop()
        shutil.copytree(beta.home, self.snapshot, ignore=shutil.ignore_patterns("run"))
        beta.start(**beta.env)
        beta.cli("correct", kept, "PatientID=RIGHT-1", *WHY)
        beta.cli("erase", gone, *WHY, "--yes")
        until(lambda: self.is_erased())
        until(lambda: are_equal(beta, self.alpha) and are_equal(beta, self.gamma))

    def is_erased(self) -> bool:
        [order] = self.beta.told("deletions")["orders"]
        return bool(order["outcome"] == "erased" and order["owing"] == [])

    def found(self) -> list[str]:
        """Return the Patient IDs that a device finds at beta, or what it is told instead."""
        keys = ("-k", "QueryRetrieveLevel=STUDY", "-k", "PatientID", "-k", "StudyInstanceUID")
        to = ("-aec", self.beta.ae_title, "127.0.0.1", str(self.beta.port))
        said = dcmtk("findscu", "-S", *keys, *to, exit_code=None)
        if "Association Rejected" in said:
            return ["rejected"]
        return sorted(
            line.split("[")[1].split("]")[0].strip() for line in said.splitlines() if "(0010,0020)" in line
        )

    def set_back(self) -> None:
        """Put the snapshot in the place of beta's disk."""
        self.beta.stop()
        shutil.rmtree(self.beta.home)
        shutil.copytree(self.snapshot, self.beta.home)

    def page(self, port: str, path: str) -> tuple[int, str]:
        """Return what beta answers to a watcher or a browser."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.beta.env[port]}{path}") as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""


@pytest.fixture
def story(tmp_path: Path) -> Iterator[Story]:
    made = Story(tmp_path)
    yield made
    end(made.nodes)


WATCH, WEB = "PEERPACS__WATCH__PORT", "PEERPACS__WEB__PLAIN_PORT"
ASKS = "asks its peers first what was decided since: gamma"


def test_a_node_that_waits_for_its_peers_says_so_and_answers_nobody_before(story: Story) -> None:
    beta, gamma = story.beta, story.gamma
    gamma.stop()
    story.set_back()
    command = [PEERPACS, "run", "--home", str(beta.home)]
    beta.process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=os.environ | beta.env
    )
    until(lambda: ASKS in story.page(WATCH, "/readyz")[1])
    assert story.page(WATCH, "/livez")[0] == 200
    assert f"Nobody is answered yet: This node was set back, and {ASKS}." in beta.say("status")
    assert story.page(WEB, "/api/status")[0] == 200
    assert (told := story.page(WEB, "/api/studies"))[0] == 503
    assert ASKS in told[1]
    assert story.page(WEB, "/dicom-web/studies")[0] == 503
    assert story.page(WEB, "/")[0] == 200
    gamma.start(**gamma.env)
    until(lambda: story.page(WATCH, "/readyz")[0] == 200)
    assert story.found() == ["RIGHT-1"], "from the first answer on"
    until(story.is_erased)


def test_a_node_that_learns_while_it_serves_that_it_was_set_back_answers_nobody_until_it_has_heard(
    story: Story,
) -> None:
    alpha, beta, gamma = story.nodes
    alpha.stop()
    gamma.stop()
    story.set_back()
    beta.start(**beta.env)
    assert story.found() == story.old, "nobody is there who could tell it"
    alpha.start(**alpha.env)
    until(lambda: ASKS in beta.say("status"))
    assert story.found() == ["rejected"]
    assert story.page(WEB, "/api/studies")[0] == 503
    gamma.start(**gamma.env)
    until(lambda: story.page(WATCH, "/readyz")[0] == 200)
    assert story.found() == ["RIGHT-1"]
    assert story.page(WEB, "/api/studies")[0] == 200
    until(lambda: story.is_erased() and are_equal(beta, alpha) and are_equal(beta, gamma))
