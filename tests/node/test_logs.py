"""A log line is a sentence for people, an object for programs, and never quotes a data set."""

from __future__ import annotations

import io
import json
import logging
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator

import pytest

from node.logs import start_logging
from node.sections import LogFormat, LogLevel


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    with warnings.catch_warnings():
        yield io.StringIO()
    root.handlers[:] = handlers
    root.setLevel(level)
    for library in ("pydicom", "pynetdicom"):
        logging.getLogger(library).setLevel(logging.NOTSET)


def test_a_json_line_has_its_sentence_and_its_context(stream: io.StringIO) -> None:
    start_logging(LogLevel.INFO, LogFormat.AUTO, stream)
    logging.getLogger("node.dimse").info("CT1 sent %d instances", 3, extra={"assoc": 7})
    line = json.loads(stream.getvalue())
    assert [line[key] for key in ("level", "logger", "event", "assoc")] == [
        "info",
        "node.dimse",
        "CT1 sent 3 instances",
        7,
    ]
    assert line["ts"].endswith("Z")


def test_a_text_line_is_the_sentence(stream: io.StringIO) -> None:
    start_logging(LogLevel.WARNING, LogFormat.TEXT, stream)
    logging.getLogger("node").info("not shown")
    logging.getLogger("node").warning("the disk is nearly full", extra={"job": "import"})
    assert stream.getvalue().endswith("WARNING: the disk is nearly full  (job import)\n")
    assert "not shown" not in stream.getvalue()


@pytest.mark.parametrize("form", [LogFormat.JSON, LogFormat.TEXT])
def test_an_exception_is_told_by_its_kind_and_place_without_its_words(
    stream: io.StringIO, form: LogFormat
) -> None:
    start_logging(LogLevel.INFO, form, stream)
    try:
        raise ValueError("Novák^Jan is not a date")
    except ValueError:
        logging.getLogger("node").exception("a data set could not be read")
    assert "ValueError" in stream.getvalue()
    assert "test_logs.py" in stream.getvalue()
    assert "Nov" not in stream.getvalue()


def test_libraries_that_quote_data_sets_are_silent(stream: io.StringIO) -> None:
    start_logging(LogLevel.DEBUG, LogFormat.JSON, stream)
    logging.getLogger("pydicom").error("Invalid value for VR PN: 'Novák^Jan'")
    logging.getLogger("pynetdicom.assoc").error("Novák^Jan")
    assert stream.getvalue() == ""


def test_a_process_that_breaks_says_where_its_threads_were() -> None:
    breaking = """
import os, signal
from node.logs import start_logging
from node.sections import LogFormat, LogLevel
start_logging(LogLevel.INFO, LogFormat.JSON)
os.kill(os.getpid(), signal.SIGSEGV)
"""
    broken = subprocess.run([sys.executable, "-c", breaking], capture_output=True, text=True)
    assert broken.returncode == -signal.SIGSEGV
    assert 'File "<string>", line 6 in <module>' in broken.stderr
