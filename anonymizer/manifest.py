"""What goes with a release, and what stays at the site.

The manifest names new identifiers, digests and counts only; each line carries the SHA-256 of the line
before it, so that none can be taken out. The confidential record links old and new and never leaves.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from anonymizer.keys import ProjectKey
from anonymizer.markers import PRODUCT, VERSION
from anonymizer.policy import Policy
from anonymizer.table import EDITION
from anonymizer.worker import Outcome

MANIFEST = "manifest.jsonl"


def write_manifest(
    folder: Path, released: list[Outcome], quarantined: dict[str, int], policy: Policy, key: ProjectKey
) -> None:
    """Writes the hash-chained manifest of a release into its folder."""
    everything = "".join(outcome.digest for outcome in released)
    header = {
        "batch": hashlib.sha256(f"{policy.digest}{key.key_id}{everything}".encode()).hexdigest()[:16],
        "product": f"{PRODUCT} {VERSION}",
        "table": f"PS3.15-{EDITION}",
        "project": key.name,
        "key": key.key_id,
        "policy": policy.digest,
        "released": len(released),
        "quarantined": quarantined,
    }
    chain(folder / MANIFEST, [header, *(_released(outcome) for outcome in released)])


def write_confidential(folder: Path, outcomes: list[Outcome], key: ProjectKey) -> None:
    """Writes the site's record: which source became what, what was done, and what was held and why."""
    folder.mkdir(mode=0o700, exist_ok=True)
    folder.chmod(0o700)
    rows = [_confidential(outcome, key) for outcome in sorted(outcomes, key=lambda o: o.source)]
    chain(folder / "record.jsonl", rows)


def chain(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Writes rows as JSON lines, each with the SHA-256 of the line before it, and syncs them."""
    before = ""
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            line = json.dumps({**row, "previous": before}, sort_keys=True)
            before = hashlib.sha256(line.encode()).hexdigest()
            file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())


def is_unbroken(path: Path) -> bool:
    """Whether no line of a chained file was changed, taken out or put in between."""
    before = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if json.loads(line)["previous"] != before:
            return False
        before = hashlib.sha256(line.encode()).hexdigest()
    return True


def _released(outcome: Outcome) -> dict[str, Any]:
    study, series, instance = outcome.uids
    return {
        "file": outcome.name,
        "sha256": outcome.digest,
        "bytes": outcome.size,
        "study": study,
        "series": series,
        "instance": instance,
        "subject": outcome.subject,
        "options": list(outcome.codes),
        "masks": [list(box) for box in outcome.boxes],
        "actions": outcome.counts,
    }


def _confidential(outcome: Outcome, key: ProjectKey) -> dict[str, Any]:
    return {
        "source": outcome.source,
        "source_sha256": outcome.source_digest,
        "file": outcome.name,
        "old_uids": list(outcome.old_uids),
        "new_uids": list(outcome.uids),
        "subject": outcome.subject,
        "reason": outcome.reason,
        "sentence": outcome.sentence,
        "actions": list(outcome.log),
        "unknown_words": [key.blind(word.casefold().encode()) for word in outcome.unknown_words],
    }
