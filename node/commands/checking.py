"""`peerpacs check`: the doctor. Each line says ✓, or ✗ or ! with what to do about it."""

from __future__ import annotations

import ctypes
import os
import resource
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from node.cli import FAILED, Session, readable, shared

from .checking_bucket import bucket_findings
from .checking_old import old_findings
from .checking_roles import role_findings
from .findings import Finding, Mark

if TYPE_CHECKING:
    from catalog import Busy
    from node.dimse import Security
    from node.sections import Config

_PROBE: Final = 16 << 20
_SYNCS: Final = 20
_SLOW_SYNC: Final = 0.030
_SLOW_DISK: Final = 50e6
_FILES: Final = 4096
_MEANT: Final = {"dicom": "DICOM", "tls": "DICOM TLS", "web": "the web", "watch": "watchers"}
_LISTENING: Final = "0A"
"""TCP_LISTEN in /proc/net/tcp, see include/net/tcp_states.h of Linux."""
_UNSYNCHRONISED: Final = 5
"""TIME_ERROR, adjtimex(2)."""


@click.command("check")
@shared
def check_command(session: Session) -> int:
    """Look the node over. Each line that is not ✓ says how to put it right.

    Example: peerpacs check --home /var/lib/peerpacs
    """
    findings = list(examine(session.home))
    said = [{"mark": one.mark.name.lower(), "what": one.what, "fix": one.fix} for one in findings]
    session.say(said, [f"{one.mark} {one.what}{_joint(one.fix)}{one.fix}" for one in findings])
    return FAILED if any(one.mark is Mark.FAILURE for one in findings) else 0


def _joint(fix: str) -> str:
    return "" if not fix else ". " if fix[0].isupper() else ": "


def examine(home: Path) -> Iterator[Finding]:
    """Yield what is found, one thing after the other; wrong configuration ends it."""
    from catalog import PacsError
    from node.config import load_config

    try:
        config = load_config(home)
    except PacsError as error:
        yield Finding(Mark.FAILURE, error.what.rstrip("."), error.next)
        return
    yield Finding(
        Mark.GOOD, f"{home}/peerpacs.toml is right: {config.node.name}, AE title {config.node.ae_title}"
    )
    checks: tuple[Callable[[Path, Config], Finding | None], ...] = (
        _title,
        _lock,
        _dicom_port,
        _tls_port,
        _web_port,
        _watch_port,
        _certificate,
        _dev_rule,
        _space,
        _speed,
        _clock,
        _files,
    )
    for check in checks:
        finding = check(home, config)
        if finding is not None:
            yield finding
    yield from bucket_findings(home, config)
    yield from old_findings(home, config)
    yield from role_findings(home, config)


def _title(home: Path, config: Config) -> Finding | None:
    title = config.node.ae_title
    if title == title.upper():
        return None
    return Finding(Mark.WARNING, f"AE title {title} has small letters", "some devices can only send capitals")


def _lock(home: Path, config: Config) -> Finding:
    from node.control import ask, is_running
    from node.roles.plan import has
    from node.sections import Role

    if is_running(home):
        ask(home, "status", timeout=10.0)
        return Finding(Mark.GOOD, "the node runs and answers commands")
    busy = _working(home)
    if not has(config, Role.CATALOG):
        what = f"the {' and '.join(config.roles.run)} of this node"
        if busy:
            return Finding(Mark.GOOD, f"{what} runs here")
        return Finding(Mark.WARNING, f"{what} does not run", f"peerpacs run --home {home}")
    if busy:
        return Finding(Mark.WARNING, busy.what.rstrip("."), busy.next)
    return Finding(Mark.WARNING, "the node does not run", f"peerpacs run --home {home}")


def _working(home: Path) -> Busy | None:
    """Return who works on the home, which a process without the catalog does that answers no commands."""
    from catalog import Busy
    from node.control import HomeLock

    try:
        HomeLock(home, "peerpacs check").close()
    except Busy as error:
        return error
    return None


def _is_for_devices(config: Config) -> bool:
    from node.roles.plan import has
    from node.sections import Role

    return has(config, Role.GATEWAY)


def _dicom_port(home: Path, config: Config) -> Finding | None:
    from node.control import ask, is_running

    if not _is_for_devices(config):
        return None
    host = "127.0.0.1" if config.dicom.host in ("0.0.0.0", "::") else config.dicom.host
    if not config.dicom.port:
        return Finding(Mark.WARNING, "dicom.port is 0: nobody can send anything", "set it in peerpacs.toml")
    if is_running(home):
        port = ask(home, "status", timeout=10.0)["ports"].get("dicom", config.dicom.port)
        return _answers(host, port, config.node.ae_title)
    if _working(home):
        return _answers(host, config.dicom.port, config.node.ae_title)
    return _is_free(host, config.dicom.port, "dicom")


def _tls_port(home: Path, config: Config) -> Finding | None:
    """Call the running node with TLS, as a device that knows its certificate."""
    from catalog import BadRequest
    from node.certificates import describe
    from node.contracts import Device
    from node.control import ask, is_running
    from node.credentials import own_credentials
    from node.devices import PINNED

    if not config.tls.port or not _is_for_devices(config):
        return None
    host = config.tls.host or config.dicom.host
    host = "127.0.0.1" if host in ("0.0.0.0", "::") else host
    port = config.tls.port
    if is_running(home):
        port = ask(home, "status", timeout=10.0)["ports"].get("tls", port)
    elif not _working(home):
        return _is_free(host, port, "tls")
    try:
        pinned = PINNED + describe(home / config.tls.certificate_file).fingerprint
    except BadRequest:
        return None
    own = Device(ae_title=config.node.ae_title, tls=pinned)
    return _answers(host, port, config.node.ae_title, own_credentials(home, config).towards(own))


def _web_port(home: Path, config: Config) -> Finding | None:
    from node.control import ask, is_running
    from node.roles.plan import has
    from node.sections import Role

    port = config.web.port
    if not port or not has(config, Role.CATALOG) or (_working(home) and not is_running(home)):
        return None
    if not is_running(home):
        host = config.web.host
        return _is_free("127.0.0.1" if host in ("0.0.0.0", "::") else host, port, "web")
    port = ask(home, "status", timeout=10.0)["ports"].get("https", port)
    return Finding(Mark.GOOD, f"browsers and programs come to https://{socket.gethostname()}:{port}")


def _certificate(home: Path, config: Config) -> Finding | None:
    from catalog import PacsError
    from node.certificates import WARN, describe, how_long
    from node.credentials import own_credentials

    if not config.tls.port:
        return None
    try:
        certificate = describe(home / config.tls.certificate_file)
        own_credentials(home, config).listener()
    except PacsError as error:
        return Finding(Mark.FAILURE, error.what.rstrip("."), error.next)
    key = home / config.tls.key_file
    if key.stat().st_mode & 0o077:
        return Finding(Mark.WARNING, f"others than the node may read {key}", f"chmod 600 {key}")
    now = time.time()
    what = f"the TLS certificate ({certificate.subject}) {how_long(certificate.ends, now)}"
    if certificate.ends > now + WARN:
        return Finding(Mark.GOOD, what)
    path = home / config.tls.certificate_file
    fix = f"put a new one and its key in the place of {path}; no restart is needed"
    return Finding(Mark.WARNING if certificate.ends > now else Mark.FAILURE, what, fix)


def _watch_port(home: Path, config: Config) -> Finding | None:
    from node.control import ask, is_running
    from node.roles.plan import has
    from node.sections import Role

    host, port = config.watch.host, config.watch.port
    if not port or not has(config, Role.CATALOG):
        return None
    if not is_running(home):
        return _is_free(host, port, "watch")
    if "watch" in ask(home, "status", timeout=10.0)["ports"]:
        return Finding(Mark.GOOD, f"port {port} answers watchers")
    holder = _holder(port) or "another process"
    return Finding(
        Mark.FAILURE,
        f"port {port} belongs to {holder}, so nobody can watch the node",
        "stop that, or set another watch.port in peerpacs.toml, and start the node again",
    )


def _is_free(host: str, port: int, section: str) -> Finding:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            holder = _holder(port)
            what = f"port {port} cannot be opened ({error.strerror})"
            fix = f"{holder} has it; stop that" if holder else f"set another {section}.port in peerpacs.toml"
            return Finding(Mark.FAILURE, what, fix)
    return Finding(Mark.GOOD, f"port {port} is free for {_MEANT[section]}")


def _answers(host: str, port: int, ae_title: str, security: Security | None = None) -> Finding:
    from catalog import PacsError
    from node.dimse import Requestor

    try:
        seconds = Requestor(ae_title, host, port, ae_title, security=security).echo()
    except PacsError as error:
        return Finding(Mark.FAILURE, error.what.rstrip("."), error.next or "look into the node's log")
    return Finding(
        Mark.GOOD, f"port {port} answers C-ECHO{' over TLS' if security else ''} in {seconds * 1000:.0f} ms"
    )


def _holder(port: int) -> str:
    """Return the name and id of the process that listens on a port, as far as we may see it."""
    inodes = set()
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                inodes.add(f"socket:[{fields[9]}]")
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(os.readlink(file) in inodes for file in (process / "fd").iterdir()):
                return f"{(process / 'comm').read_text().strip()} (process {process.name})"
        except OSError:
            continue
    return ""


def _dev_rule(home: Path, config: Config) -> Finding | None:
    from node.devices import ANY, LOOPBACK, DeviceBook
    from node.state import State

    with State(home / "state") as state:
        rule = DeviceBook(state).get(ANY)
    if rule is None:
        return None
    what = f"the device book trusts every AE title that calls from {rule.address}"
    is_local = config.dicom.host in ("127.0.0.1", "::1", "localhost")
    if is_local and rule.address == LOOPBACK:
        return Finding(Mark.GOOD, f"{what}, and the node listens on {config.dicom.host} only")
    if rule.address != LOOPBACK:
        return Finding(Mark.WARNING, what, "anybody there can call himself anything; name devices one by one")
    fix = "right for trying things out only: peerpacs devices remove '*', or set dicom.host = \"127.0.0.1\""
    return Finding(Mark.WARNING, f"{what}, while the node listens on {config.dicom.host}", fix)


def _archive(home: Path) -> Path:
    """Return where the objects lie, which may be another disk than the rest of the home."""
    archive = home / "archives" / "main"
    return archive if archive.exists() else home


def _space(home: Path, config: Config) -> Finding:
    free = shutil.disk_usage(_archive(home)).free
    mark = config.storage.stop_below_mb << 20
    what = f"{readable(free)} free on the disk"
    if free < mark:
        enough = readable(config.storage.resume_above_mb << 20)
        fix = f"C-STORE is answered A700 until {enough} are; free some, or move the home to a larger disk"
        return Finding(Mark.FAILURE, what, fix)
    if free < 10 * mark:
        return Finding(Mark.WARNING, what, f"storing stops at {readable(mark)}; plan for more")
    return Finding(Mark.GOOD, what)


def _speed(home: Path, config: Config) -> Finding:
    """Write, sync and read back beside the objects, as ingest does."""
    try:
        rate, sync, is_same = _measure(_archive(home) / f"check-{os.getpid()}.tmp")
    except OSError as error:
        what = f"{_archive(home)} takes nothing ({error.strerror})"
        return Finding(Mark.FAILURE, what, "free some space there, and see that this user may write")
    what = f"storage takes {readable(rate)}/s, one fsync takes {sync * 1000:.1f} ms"
    if not is_same:
        return Finding(Mark.FAILURE, f"{what}, but gives back other bytes", "do not use this disk")
    if sync > _SLOW_SYNC or rate < _SLOW_DISK:
        return Finding(Mark.WARNING, what, "slow for images; an SSD with power-loss protection is right")
    return Finding(Mark.GOOD, f"{what}, and gives the bytes back")


def _measure(path: Path) -> tuple[float, float, bool]:
    """Return bytes written a second, seconds for a sync, and whether the bytes come back."""
    block = os.urandom(1 << 20)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        started = time.perf_counter()
        for _ in range(_PROBE >> 20):
            os.write(descriptor, block)
        os.fdatasync(descriptor)
        rate = _PROBE / (time.perf_counter() - started)
        started = time.perf_counter()
        for _ in range(_SYNCS):
            os.write(descriptor, b"\0" * 512)
            os.fdatasync(descriptor)
        sync = (time.perf_counter() - started) / _SYNCS
        is_same = os.pread(descriptor, 1 << 20, _PROBE - (1 << 20)) == block
    finally:
        os.close(descriptor)
        path.unlink()
    return rate, sync, is_same


def _clock(home: Path, config: Config) -> Finding:
    newest = max((file.stat().st_mtime for file in (home / "audit").glob("*.jsonl")), default=0.0)
    if newest > time.time() + 60:
        what = f"the clock is {newest - time.time():.0f} s behind this node's own last audit line"
        return Finding(Mark.FAILURE, what, "timedatectl set-ntp true")
    libc = ctypes.CDLL(None)
    if hasattr(libc, "adjtimex") and libc.adjtimex(ctypes.create_string_buffer(512)) == _UNSYNCHRONISED:
        return Finding(
            Mark.WARNING, "nothing keeps the clock right, as far as we can see", "timedatectl set-ntp true"
        )
    return Finding(Mark.GOOD, f"the clock says {time.strftime('%Y-%m-%d %H:%M:%S %Z')}")


def _files(home: Path, config: Config) -> Finding | None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or hard >= _FILES:
        return None
    return Finding(Mark.WARNING, f"at most {hard} files may be open at once", f"ulimit -n {_FILES} or more")
