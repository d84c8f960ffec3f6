"""The lines of `peerpacs check` about buckets: reached, let in, written and read, key, clock."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from node.cli import readable

from .findings import Finding, Mark

if TYPE_CHECKING:
    from node.archives import Plan
    from node.bucket import BucketSettings
    from node.bucket.client import Bucket
    from node.sections import Config

_PROBE: Final = 4 << 20
_SLOW: Final = 5e6
_SKEW_NOTED, _SKEW_REFUSED = 60.0, 900.0
"""Seconds; S3 refuses requests whose clock is 15 minutes off (RequestTimeTooSkewed)."""


def bucket_findings(home: Path, config: Config) -> Iterator[Finding]:
    """Yield what is found about each archive that lies in a bucket; nothing of it is changed."""
    from catalog import PacsError
    from node.app.settings import bucket_settings
    from node.archives import ArchiveBook
    from node.config import DISK
    from node.state import State

    with State(home / "state") as state:
        book = ArchiveBook(state, config)
        plans = [plan for plan in book if plan.storage != DISK]
        sections = [book.bucket_of(plan) for plan in plans]
    for plan, section in zip(plans, sections, strict=True):
        try:
            settings = bucket_settings(plan.storage, section, home)
        except PacsError as error:
            yield Finding(Mark.FAILURE, f"{plan.name}: {error.what.rstrip('.')}", error.next)
            continue
        yield _key(home, plan, settings)
        yield from _bucket(plan, settings)


def _key(home: Path, plan: Plan, settings: BucketSettings) -> Finding:
    from catalog import PacsError
    from node.bucket import Encryption, load_key

    path = home / "secrets" / f"objects-{plan.name}.key"
    if settings.encryption is Encryption.NONE:
        what = f"{plan.name}: objects leave this node without encryption"
        return Finding(Mark.WARNING, what, 's3.encryption = "aes-256-gcm" seals what comes from then on')
    if not path.exists():
        if not (home / "archives" / plan.name).exists():
            return Finding(Mark.GOOD, f"{plan.name}: its key {path} will be made at the first start")
        fix = "put it back from the backup; without it nobody can read what lies in the bucket"
        return Finding(Mark.FAILURE, f"{plan.name}: its key {path} is gone", fix)
    try:
        load_key(path)
    except PacsError as error:
        return Finding(Mark.FAILURE, f"{plan.name}: {error.what.rstrip('.')}", error.next)
    return Finding(
        Mark.GOOD, f"{plan.name}: only this node's user may read its key {path}; keep a copy elsewhere"
    )


def _bucket(plan: Plan, settings: BucketSettings) -> Iterator[Finding]:
    from catalog import PacsError
    from node.bucket.client import Bucket

    endpoint = replace(settings.endpoint, tries=1)
    bucket = Bucket(endpoint, time.time)
    where = f"{plan.name}: the bucket {endpoint.bucket}" + (f" at {endpoint.url}" if endpoint.url else "")
    try:
        began = time.perf_counter()
        told = bucket.server_time()
        seconds = time.perf_counter() - began
        yield Finding(Mark.GOOD, f"{where} answers in {seconds * 1000:.0f} ms and takes the credentials")
        if told is not None:
            yield _skew(plan, time.time() - told)
        yield _probe(where, bucket)
        word = (
            "compares the SHA-256 of"
            if bucket.verifies_sha256
            else "compares no SHA-256: the node reads back"
        )
        yield Finding(Mark.GOOD, f"{where} {word} what it takes")
    except PacsError as error:
        yield Finding(Mark.FAILURE, f"{plan.name}: {error.what.rstrip('.')}", error.next)
    finally:
        bucket.close()


def _skew(plan: Plan, ahead: float) -> Finding:
    side = "ahead of" if ahead > 0 else "behind"
    what = f"{plan.name}: the clock is {abs(ahead):.0f} s {side} the bucket's"
    if abs(ahead) <= _SKEW_NOTED:
        return Finding(Mark.GOOD, what)
    mark = Mark.WARNING if abs(ahead) < _SKEW_REFUSED else Mark.FAILURE
    return Finding(mark, what, "timedatectl set-ntp true; from 900 s on it refuses every request")


def _probe(where: str, bucket: Bucket) -> Finding:
    """Write, read and delete an object of a few megabytes.

    Raises:
        PacsError: the bucket refused.
    """
    key, data = f"probe/check-{os.getpid()}", os.urandom(_PROBE)
    began = time.perf_counter()
    bucket.put(key, data)
    written = _PROBE / (time.perf_counter() - began)
    began = time.perf_counter()
    is_same = bucket.read(key, 0, _PROBE + 1) == data
    read = _PROBE / (time.perf_counter() - began)
    bucket.delete(key)
    what = f"{where} takes {readable(written)}/s and gives {readable(read)}/s"
    if not is_same:
        return Finding(Mark.FAILURE, f"{what}, but other bytes", "do not use this server; ask who runs it")
    if min(written, read) < _SLOW:
        return Finding(Mark.WARNING, what, "slow for images: look at the network between here and there")
    return Finding(Mark.GOOD, f"{what}, and lets them be deleted")
