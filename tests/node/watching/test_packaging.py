"""What is shipped for the service manager, the firewall and the log is right by their own tools."""

from __future__ import annotations

import configparser
import json
import os
import re
import runpy
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from node.config import read_config
from node.dimse import Requestor
from node.watching.names import MEASURES, PREFIX
from sim.ports import free_port
from tests.homes import phantoms
from tests.running import PEERPACS, RunningNode

PACKAGING = Path(__file__).parents[3] / "packaging"
UNIT = PACKAGING / "systemd" / "peerpacs.service"
PROMISED = """
Type=notify
WatchdogSec=60
User=peerpacs
DynamicUser=no
LimitNOFILE=65536
StateDirectory=peerpacs
AmbientCapabilities=CAP_NET_BIND_SERVICE
ProtectSystem=strict
NoNewPrivileges=yes
PrivateTmp=yes
PrivateDevices=yes
RestrictNamespaces=yes
SystemCallFilter=@system-service
UMask=0027
"""


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """Return the unit as it is on a machine where the program is here."""
    for name in ("sysinit", "basic", "shutdown", "network-online", "time-sync", "multi-user"):
        (tmp_path / f"{name}.target").write_text("[Unit]\nDefaultDependencies=no\n")
    unit = tmp_path / "peerpacs.service"
    unit.write_text(UNIT.read_text().replace("/usr/bin/peerpacs", PEERPACS))
    return unit


def analyze(*words: str, units: Path) -> str:
    """Run systemd-analyze with no units but those in the folder; return what it printed."""
    environ = {**os.environ, "SYSTEMD_UNIT_PATH": str(units)}
    done = subprocess.run(
        ["systemd-analyze", *words], capture_output=True, text=True, timeout=60, env=environ
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_unit_has_the_limits_and_the_sandbox_that_are_promised() -> None:
    lines = UNIT.read_text().splitlines()
    assert [*filter(None, PROMISED.splitlines())] == [
        line for line in PROMISED.splitlines() if line and line in lines
    ]
    assert not [line for line in lines if line.startswith("MemoryDenyWriteExecute")]


def test_the_node_has_more_time_to_stop_than_it_takes() -> None:
    from node.commands.running import _LAST_CALL

    [stop] = re.findall(r"^TimeoutStopSec=(\d+)$", UNIT.read_text(), re.MULTILINE)
    assert int(stop) > _LAST_CALL + 5


def test_systemd_understands_every_line_of_the_unit(installed: Path) -> None:
    assert str(installed) not in analyze("verify", "--man=no", str(installed), units=installed.parent)
    installed.write_text(installed.read_text().replace("PrivateTmp=", "PrivatTmp="))
    assert str(installed) in analyze("verify", "--man=no", str(installed), units=installed.parent)


def test_the_sandbox_is_as_tight_as_it_was_made(installed: Path) -> None:
    said = analyze("security", "--offline=true", "--no-pager", str(installed), units=installed.parent)
    [exposure] = re.findall(r"Overall exposure level for \S+: ([\d.]+)", said)
    assert float(exposure) <= 2.0, said


def test_ufw_reads_the_profiles() -> None:
    """ufw reads them with configparser, and refuses other characters in names (ufw/applications.py)."""
    profiles = configparser.RawConfigParser()
    profiles.read(PACKAGING / "ufw" / "peerpacs")
    assert {profiles[name]["ports"] for name in profiles.sections()} >= {"11112/tcp", "2762/tcp", "8443/tcp"}
    for name in profiles.sections():
        assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 ._+-]*", name)
        assert {*profiles[name]} == {"title", "description", "ports"}


def calls_in(group: str) -> set[str]:
    """Return the system calls of a group like @system-service, those of the groups within it too."""
    said = subprocess.run(["systemd-analyze", "syscall-filter", group], capture_output=True, text=True).stdout
    names = {
        line.strip() for line in said.splitlines()[1:] if line.strip() and not line.strip().startswith("#")
    }
    return {call for name in names for call in (calls_in(name) if name.startswith("@") else {name})}


@pytest.mark.slow
def test_the_node_makes_no_system_call_that_the_sandbox_forbids(tmp_path: Path) -> None:
    node = RunningNode(tmp_path / "alpha", "ALPHA", "--watch-port", str(free_port()))
    used = tmp_path / "calls"
    traced = ["strace", "-f", "-qq", "-c", "-U", "name", "-o", str(used)]
    environ = {**os.environ, "PEERPACS__LOG__FORMAT": "json"}
    process = subprocess.Popen(
        [*traced, PEERPACS, "run", "--home", str(node.home)], stdout=subprocess.PIPE, text=True, env=environ
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("ready"), line
    [raw] = phantoms(1, size=4000)
    requestor = Requestor("PEER", "127.0.0.1", node.port, "ALPHA")
    assert [answer.status for answer in requestor.store([raw])] == [0]
    assert node.cli("find", "-k", "StudyInstanceUID=")
    assert "[+]storage ok" in node.cli("health")
    os.kill(int(re.findall(r"process (\d+)", line)[0]), signal.SIGTERM)
    assert process.wait(timeout=30) == 0
    process.stdout.close()
    made = {
        line.strip() for line in used.read_text().splitlines() if re.fullmatch(r"\s*[a-z][a-z0-9_]+\s*", line)
    }
    made -= {"total", "name", "syscall"}
    assert {"openat", "fdatasync", "sendmsg"} & made
    assert made <= calls_in("@system-service") - calls_in("@privileged"), made


RULES = PACKAGING / "prometheus" / "peerpacs.rules.yml"
DASHBOARD = PACKAGING / "grafana" / "grafana.json"
CONTAINER = PACKAGING / "container"
NODE = "[node]\nnode_id = 'x'\nname = 'x'\nae_title = 'X'\n"


def unknown_measures(text: str) -> set[str]:
    """Return the names in queries that no node shows."""
    suffixes = ("_bucket", "_sum", "_count")
    known = {f"{PREFIX}{row.name}" for row in MEASURES.values()}
    known |= {f"{name}{suffix}" for name in known for suffix in suffixes if name.endswith("_seconds")}
    return set(re.findall(r"\bpeerpacs_[a-z_]+", text)) - known


def labels_of(text: str) -> set[tuple[str, str]]:
    """Return what queries group one measure by."""
    return {
        (name, label.strip())
        for labels, name in re.findall(r"by \(([^)]*)\) \((?:rate|increase)?\(?(peerpacs_[a-z_]+)", text)
        for label in labels.split(",")
    }


def test_alert_rules_are_rules_and_ask_only_for_what_a_node_shows() -> None:
    done = subprocess.run(["promtool", "check", "rules", str(RULES)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    text = RULES.read_text()
    assert unknown_measures(text) == set()
    assert text.count("- alert:") == text.count("action:") == text.count("summary:")


def test_the_dashboard_is_the_one_that_is_made_and_asks_only_for_what_a_node_shows() -> None:
    made = runpy.run_path(str(PACKAGING.parent / "tools" / "grafana.py"))
    assert DASHBOARD.read_text() == made["written"](), "run: python tools/grafana.py"
    panels = json.loads(DASHBOARD.read_text())["panels"]
    queries = [target["expr"] for panel in panels for target in panel["targets"]]
    assert unknown_measures("\n".join(queries)) == set()
    always = {"instance", "le"}
    for query in (*queries, RULES.read_text()):
        for name, label in labels_of(query):
            measure = MEASURES[name.removeprefix(PREFIX).removesuffix("_bucket")]
            assert label in {*measure.labels, *always}, (name, label)
    asked = {name for query in queries for name in MEASURES if f"{PREFIX}{name}" in query}
    assert len(asked) > 10


def test_the_compose_file_is_one_and_configures_three_sites_that_find_each_other() -> None:
    compose = CONTAINER / "compose.yaml"
    linted = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*linted, str(compose)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    services = YAML(typ="safe").load(compose)["services"]
    assert list(services) == ["alpha", "beta", "gamma"]
    for name, service in services.items():
        config = read_config(NODE, name, service["environment"])
        assert config.grid.addresses == (f"{name}:7443",)
        assert config.grid.site == f"HOSP-{name.upper()}"
        assert service["volumes"] == [f"{name}:/var/lib/peerpacs"]
    ports = [port.split(":")[0] for service in services.values() for port in service["ports"]]
    assert len(ports) == len(set(ports))


def test_the_containers_program_makes_its_node_once_and_becomes_it(tmp_path: Path) -> None:
    home = tmp_path / "home"
    environ = {
        **os.environ,
        "PATH": f"{Path(PEERPACS).parent}:{os.environ['PATH']}",
        "PEERPACS_HOME": str(home),
        "NODE_NAME": "alpha",
        "NODE_AE": "ALPHA",
        **{f"PEERPACS__{section}__PORT": "0" for section in ("TLS", "WEB", "WATCH")},
        "PEERPACS__DICOM__PORT": str(free_port()),
        "PEERPACS__DICOM__HOST": "127.0.0.1",
    }
    for _ in range(2):
        with subprocess.Popen(
            ["sh", str(CONTAINER / "entrypoint.sh"), "run"], stdout=subprocess.PIPE, text=True, env=environ
        ) as node:
            assert node.stdout is not None
            lines = iter(node.stdout.readline, "")
            assert any(line.startswith("ready") for line in lines)
            node.send_signal(signal.SIGTERM)
            assert node.wait(60) == 0
    done = subprocess.run(["sh", "-n", str(CONTAINER / "grid.sh")], capture_output=True)
    assert done.returncode == 0


def test_the_containers_recipe_names_files_that_are_there() -> None:
    text = (CONTAINER / "Containerfile").read_text()
    copied = [
        line.split()[1:-1] for line in text.splitlines() if line.startswith("COPY") and "--from" not in line
    ]
    for name in (name for names in copied for name in names):
        assert (PACKAGING.parent / name).exists(), name
    told = re.search(r"^EXPOSE (.*)$", text, re.MULTILINE)
    assert told is not None
    config = read_config(NODE, "x", {})
    ports = {config.dicom.port, config.tls.port, config.web.port, config.grid.port, config.grid.join_port}
    assert {int(port) for port in told[1].split()} == ports | {config.watch.port}
