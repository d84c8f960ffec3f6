"""The log, on standard error or in a file: text for a person at a terminal, JSON lines for everything else.

A JSON line has ts, level, logger and event, and assoc, peer and job where the caller named them with
`extra=`. Libraries that quote values of data sets in their own messages are kept silent: no attribute of
a patient may reach a log. When the process itself breaks (SIGSEGV), the places where its threads were go to
standard error.
"""

from __future__ import annotations

import faulthandler
import json
import logging
import sys
import time
import traceback
import warnings
from logging.handlers import WatchedFileHandler
from typing import Final, TextIO

from node.sections import LogFormat, LogLevel

_CONTEXT: Final = ("assoc", "peer", "job")
_QUOTING_LIBRARIES: Final = ("pydicom", "pynetdicom")


def start_logging(level: LogLevel, form: LogFormat, stream: TextIO | None = None, file: str = "") -> None:
    """Send everything from `level` on to the stream in the form that fits it; what was set before is gone.

    With `file` it goes there instead, to the file that has this name at each moment.

    Raises:
        OSError: the file cannot be written.
    """
    faulthandler.enable(sys.__stderr__ or sys.stderr)
    out = stream or sys.stderr
    is_text = form is LogFormat.TEXT or (form is LogFormat.AUTO and not file and out.isatty())
    handler = WatchedFileHandler(file, encoding="utf-8") if file else logging.StreamHandler(out)
    handler.setFormatter(TextLines() if is_text else JsonLines())
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.value.upper())
    for library in _QUOTING_LIBRARIES:
        logging.getLogger(library).setLevel(logging.CRITICAL + 1)
        warnings.filterwarnings("ignore", module=library)


class JsonLines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as JSON; an exception becomes `error`, its traceback `trace`."""
        whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {
            "ts": f"{whole}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        line |= {key: value for key in _CONTEXT if (value := getattr(record, key, None)) is not None}
        if record.exc_info and record.exc_info[0] is not None:
            line["error"] = record.exc_info[0].__name__
            line["trace"] = _frames(record)
        return json.dumps(line, ensure_ascii=False, default=str)


class TextLines(logging.Formatter):
    """Time, level if it is not INFO, and the sentence."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line, and the frames of an exception below it."""
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        level = "" if record.levelno == logging.INFO else f"{record.levelname}: "
        context = [f"{key} {value}" for key in _CONTEXT if (value := getattr(record, key, None)) is not None]
        line = f"{clock} {level}{record.getMessage()}" + (f"  ({', '.join(context)})" if context else "")
        if record.exc_info and record.exc_info[0] is not None:
            line += f"\n{record.exc_info[0].__name__} in {_frames(record)}"
        return line


def _frames(record: logging.LogRecord) -> str:
    """Return where an exception came from, without its message: that may quote a data set."""
    assert record.exc_info is not None
    frames = traceback.extract_tb(record.exc_info[2])
    return " < ".join(f"{frame.filename}:{frame.lineno} {frame.name}" for frame in reversed(frames))
