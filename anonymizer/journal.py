"""What a batch has already staged and verified, so that a second start need not do it again."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict
from pathlib import Path

from anonymizer.worker import Outcome, Surveyed


class Journal:
    """The staging folder and its list of verified files; a list with another header is thrown away."""

    def __init__(self, staging: Path, header: dict[str, object]) -> None:
        self.path = staging / "journal.jsonl"
        self.files = staging / "files"
        self.done: dict[tuple[str, str], Outcome] = {}
        if not self._resumes(header):
            shutil.rmtree(staging, ignore_errors=True)
            self.files.mkdir(parents=True, mode=0o700)
            staging.chmod(0o700)
            self.path.write_text(json.dumps(header) + "\n", encoding="utf-8")
        self._file = self.path.open("a", encoding="utf-8")

    def add(self, outcome: Outcome) -> None:
        """Remembers a staged file."""
        if outcome.name:
            self._file.write(json.dumps(asdict(outcome)) + "\n")
            self._file.flush()

    def close(self) -> None:
        """Nothing will be added any more."""
        self._file.close()

    def staged(self, surveyed: Surveyed) -> Outcome | None:
        """The outcome of this very source file, if what was staged is still what was verified."""
        outcome = self.done.get((surveyed.source, surveyed.digest))
        if outcome is None:
            return None
        path = self.files / outcome.name
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != outcome.digest:
            return None
        return outcome

    def _resumes(self, header: dict[str, object]) -> bool:
        if not self.path.is_file():
            return False
        lines = self.path.read_text(encoding="utf-8").split("\n")
        if not lines or lines[0] != json.dumps(header):
            return False
        for line in lines[1:-1]:  # the last is empty, or was cut short by the crash
            known = json.loads(line)
            for key in ("uids", "old_uids", "references", "old_references", "codes", "log", "unknown_words"):
                known[key] = tuple(known[key])
            known["boxes"] = tuple(tuple(box) for box in known["boxes"])
            self.done[known["source"], known["source_digest"]] = Outcome(**known)
        return True
