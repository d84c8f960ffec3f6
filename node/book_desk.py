"""What the grid publishes to its nodes, devices and settings, and what this node takes over of it, as verbs.

An authority publishes; gossip and the answer to who joins bring the signed document to every node; nothing of
it counts before that node's admin has seen the difference and accepted. What the node decided itself wins.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from catalog import BadRequest, Clock
from federation.trust.keys import write_secret
from federation.trust.publication import (
    Difference,
    Entries,
    Entry,
    Fate,
    Publication,
    differences,
    merged,
    publish,
    read_publication,
)
from federation.trust.trust import Documents
from node.audit import AuditLog
from node.config import PUBLISHED, decided, published_text
from node.contracts import Device
from node.devices import ANY, DeviceBook, check_device
from node.grid import Grid
from node.state import State

DEVICES: Final = "devices"
SETTINGS: Final = "settings"
_KINDS: Final = (DEVICES, SETTINGS)
_SECTIONS: Final = ("dicom", "senders", "rejected", "transfers", "storage", "log", "web", "grid")
_PLACES: Final = ("host", "port", "join_port", "door_port", "plain_port", "listen", "url", "file", "proxy")
_OWN: Final = frozenset((*_PLACES, "site", "addresses", "join_address", "door_address", "is_dial_only"))
"""Settings that say where a node is and what it keeps where: nobody else's business."""
_VERSION: Final = b"version"
_NONE: Final[dict[str, Any]] = {"differences": [], "not_understood": []}


class Taken(msgspec.Struct, frozen=True, array_like=True):
    """What one entry of the last accepted publication said, or which version that was."""

    entry: dict[str, Any] = {}
    version: int = 0


class BookDesk:
    """The verbs `book`, `publish_book` and `accept_book`."""

    def __init__(
        self, home: Path, grid: Grid, devices: DeviceBook, state: State, audit: AuditLog, clock: Clock
    ) -> None:
        self._home, self._grid, self._devices = home, grid, devices
        self._taken = state.table("grid-taken", Taken)
        self._audit, self._clock = audit, clock

    def verbs(self) -> dict[str, Callable[..., Any]]:
        """Return the verbs by name."""
        return {verb.__name__: verb for verb in (self.book, self.publish_book, self.accept_book)}

    def news(self) -> dict[str, int]:
        """Say which version waits for the admin, and how many entries it would change; else nothing."""
        if self._grid.membership is None or (published := self._published()) is None:
            return {}
        if published.version <= self._accepted():
            return {}
        changes = [each for each in self._differences(published) if each.fate is not Fate.KEPT]
        return {"version": published.version, "changes": len(changes)} if changes else {}

    def book(self) -> dict[str, Any]:
        """Return what is published, and where this node differs from it."""
        self._grid.member()
        published = self._published()
        if published is None:
            return {"version": 0, "accepted": self._accepted(), "entries": {}, **_NONE}
        return {
            "version": published.version,
            "accepted": self._accepted(),
            "who": published.who,
            "issued": published.issued,
            "entries": published.entries,
            "differences": [_told(each) for each in self._differences(published)],
            "not_understood": _not_understood(published.entries),
        }

    def publish_book(
        self,
        devices: list[str],
        without: list[str],
        settings: Mapping[str, Any],
        unset: list[str],
        who: str,
        *,
        is_all: bool = False,
    ) -> dict[str, Any]:
        """Publish rows of this node's device book and settings over what was published before.

        Raises:
            BadRequest: this node is no authority, or something cannot be published.
            NotFound: a device is not in the book.
        """
        member, before = self._grid.member(), self._published()
        if member.authority is None:
            what = "This node is no authority of its grid, so it publishes nothing."
            raise BadRequest(what, "Do this at a node that is one; see: peerpacs peers")
        entries: Entries = {kind: dict(before.entries.get(kind, {}) if before else {}) for kind in _KINDS}
        if is_all:
            devices = [device.ae_title for device in self._devices if device.ae_title != ANY]
        for ae_title in devices:
            entries[DEVICES][ae_title] = _publishable_device(self._devices.find(ae_title))
        for name, value in settings.items():
            entries[SETTINGS][_publishable(name)] = {"value": value}
        for kind, names in ((DEVICES, without), (SETTINGS, unset)):
            for name in names:
                if entries[kind].pop(name, None) is None:
                    raise BadRequest(f"{name} is not published.", "See: peerpacs book show")
        published_text({name: entry["value"] for name, entry in entries[SETTINGS].items()})
        version = before.version if before else 0
        sealed = publish(entries, version, member.authority.issuer, self._clock(), who)
        member.trust.accept(Documents(publication=sealed))
        detail = {"who": who, "version": version + 1, "devices": devices, "settings": [*settings]}
        self._audit.record("change", None, "device book published", detail | {"removed": [*without, *unset]})
        return self.book()

    def accept_book(self, version: int, theirs: list[str], who: str) -> dict[str, Any]:
        """Take over what is published; of `theirs` also where this node decided otherwise.

        Raises:
            BadRequest: nothing is published, or it is not the version that the admin saw.
        """
        published = self._published()
        if published is None or (version and published.version != version):
            what = (
                f"What is published is version {published.version}." if published else "Nothing is published."
            )
            raise BadRequest(what, "Look at it first: peerpacs book diff")
        found = self._differences(published)
        if unknown := set(theirs) - {each.name for each in found}:
            raise BadRequest(f"{', '.join(sorted(unknown))} does not differ.", "See: peerpacs book diff")
        here, taken, said = self._here(), self._before(), _known(published.entries)
        for each in found:
            if each.name in theirs:
                _give_way(each, here, taken)
        self._write(merged(here, taken, said)[DEVICES], said[SETTINGS])
        self._remember(said, published.version)
        changed = [_told(each) for each in found if each.fate is not Fate.KEPT or each.name in theirs]
        kept = [_told(each) for each in found if each.fate is Fate.KEPT and each.name not in theirs]
        detail = {"who": who, "version": published.version, "changed": [each["name"] for each in changed]}
        self._audit.record("change", None, "published device book accepted", detail)
        is_restart_due = any(each["kind"] == SETTINGS for each in changed)
        return {
            "version": published.version,
            "changed": changed,
            "kept": kept,
            "is_restart_due": is_restart_due,
        }

    @property
    def _grid_id(self) -> bytes:
        """Of what another grid once said nothing counts here."""
        return self._grid.member().trust.grid_id

    def _published(self) -> Publication | None:
        document = self._grid.member().trust.publication()
        return read_publication(document) if document else None

    def _accepted(self) -> int:
        row = self._taken.get(self._grid_id + _VERSION)
        return row.version if row else 0

    def _differences(self, published: Publication) -> list[Difference]:
        return differences(self._here(), self._before(), _known(published.entries))

    def _here(self) -> Entries:
        """Return what is in force at this node, as it would be published."""
        rows = {device.ae_title: _entry(device) for device in self._devices if device.ae_title != ANY}
        settings = {
            name: {"value": value} for name, value in decided(self._home).items() if is_publishable(name)
        }
        return {DEVICES: rows, SETTINGS: settings}

    def _before(self) -> Entries:
        """Return what the last accepted publication said, as this program understands it."""
        found: Entries = {}
        for key, row in self._taken.scan(self._grid_id):
            kind, _, name = key[len(self._grid_id) :].decode().partition("/")
            if name:
                found.setdefault(kind, {})[name] = row.entry
        return _known(found)

    def _write(self, devices: Mapping[str, Entry], settings: Mapping[str, Entry]) -> None:
        """Put in force what was accepted: devices at once, settings from the next start on."""
        here = self._here()[DEVICES]
        checked = [check_device(msgspec.convert(entry, Device)) for entry in devices.values()]
        # Understood before anything is written: a node must be able to read what it starts with.
        text = published_text({name: entry["value"] for name, entry in settings.items()})
        for device in checked:
            if here.get(device.ae_title) != _entry(device):
                self._devices.put(device)
        for gone in here.keys() - devices.keys():
            self._devices.remove(gone)
        write_secret(self._home / PUBLISHED, text.encode())

    def _remember(self, said: Entries, version: int) -> None:
        """Note what the grid said of each entry, whether it was taken over or not."""
        rows = {
            self._grid_id + f"{kind}/{name}".encode(): entry
            for kind, named in said.items()
            for name, entry in named.items()
        }
        for key, _ in list(self._taken.scan(self._grid_id)):
            if key not in rows:
                self._taken.delete(key)
        for key, entry in rows.items():
            self._taken.put(key, Taken(entry))
        self._taken.put(self._grid_id + _VERSION, Taken(version=version))


def _give_way(each: Difference, here: Entries, taken: Entries) -> None:
    """Have an entry look as if this node had never decided on it, so that what is published wins."""
    if each.kind == SETTINGS:
        what = f"{each.name} is set in peerpacs.toml, which only a person changes."
        raise BadRequest(what, "Write its default there, or take the line out; then accept again.")
    here[each.kind].pop(each.name, None)
    taken.get(each.kind, {}).pop(each.name, None)


def is_publishable(name: str) -> bool:
    """Say whether a setting, by `section.key`, is one that a grid may suggest to a node."""
    section, _, key = name.partition(".")
    return section in _SECTIONS and key not in _OWN


def _publishable(name: str) -> str:
    if not is_publishable(name):
        what = f"{name} is a node's own business and is not published."
        raise BadRequest(what, f"Settings that are: those of {', '.join(_SECTIONS)}, but no addresses.")
    return name


def _publishable_device(device: Device) -> Entry:
    if device.ae_title == ANY:
        what = "A row for every AE title says whom one node trusts, and is not published."
        raise BadRequest(what, "Publish devices by their AE titles.")
    return _entry(device)


def _entry(device: Device) -> Entry:
    entry: Entry = msgspec.to_builtins(device)
    return entry


def _known(entries: Entries) -> Entries:
    """Return as much of a publication as this program understands, whichever version of it was published."""
    found: Entries = {DEVICES: {}, SETTINGS: {}}
    for name, entry in entries.get(DEVICES, {}).items():
        try:
            device = check_device(msgspec.convert(entry, Device))
        except (msgspec.ValidationError, BadRequest):
            continue
        if device.ae_title == name != ANY:
            found[DEVICES][name] = _entry(device)
    for name, entry in entries.get(SETTINGS, {}).items():
        try:
            published_text({_publishable(name): entry.get("value")})
        except BadRequest:
            continue
        found[SETTINGS][name] = {"value": entry["value"]}
    return found


def _not_understood(entries: Entries) -> list[str]:
    known = _known(entries)
    return sorted(
        f"{kind}/{name}"
        for kind, named in entries.items()
        for name in named.keys() - known.get(kind, {}).keys()
    )


def _told(difference: Difference) -> dict[str, Any]:
    return {**difference._asdict(), "fate": difference.fate.value}
