"""What holds for every test: examples have no deadline; on CI a skipped test fails, as a tool is missing."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A machine that is busy with something else is no fault of what is tested.
settings.register_profile(
    "busy", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("busy")

# pynetdicom brings programs named as DCMTK's are: where .venv is activated, DCMTK's are meant all the same.
_ours = str(Path(sys.executable).parent)
_others = [each for each in os.environ["PATH"].split(os.pathsep) if each != _ours]
os.environ["PATH"] = os.pathsep.join([*_others, _ours])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which tests were skipped where none may be."""
    for report in terminalreporter.stats.get("skipped", []):
        if os.environ.get("CI"):
            terminalreporter.write_line(f"skipped on CI, which counts as failed: {report.nodeid}", red=True)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Turn a run with skipped tests into a failed one on CI."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") and reporter and reporter.stats.get("skipped") and session.exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
