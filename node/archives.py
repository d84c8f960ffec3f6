"""The book of archives: which tenants this node has beside its default one, effective at once.

Each has a catalog, objects, AE titles, shelves and a quota of its own; nothing crosses. The configuration
describes the default archive, rows of the node's state all others.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from catalog import BadRequest, NotFound
from node.config import DISK, check_ae_title, check_storage
from node.sections import GRID_SUFFIX, REJECTED_SUFFIX, Config, S3Section
from node.state import State

logger = logging.getLogger(__name__)

DEFAULT: Final = "main"
"""The archive that every node has."""
_BESIDE: Final = "plan.json"
"""In the archive's folder: its plan once more, should the state be lost."""
NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What an archive is to be."""

    name: str
    ae_titles: tuple[str, ...]
    """What it answers to; the first is the one it calls others by."""
    storage: str = DISK
    """`disk`, or `s3://bucket/prefix`."""
    s3: S3Section | None = None
    """How its bucket is reached; None as the configuration says."""
    quota_mb: int = 0
    """0 = no limit."""
    issuer: str = ""
    """Assigning authority of Patient IDs that arrive without one; empty = the node's."""
    note: str = ""
    research: str = ""
    """Name of the research project whose de-identified set it keeps; nothing else gets in."""

    @property
    def ae_title(self) -> str:
        """What it calls others by."""
        return self.ae_titles[0]


class ArchiveBook:
    """The default archive's plan, and rows of `Plan` by name."""

    def __init__(self, state: State, config: Config) -> None:
        self._table = state.table("archives", Plan)
        self._default = Plan(
            name=DEFAULT,
            ae_titles=(config.node.ae_title,),
            storage=config.storage.url,
            quota_mb=config.storage.quota_mb,
        )
        self._config = config

    def __iter__(self) -> Iterator[Plan]:
        yield self._default
        for _, plan in self._table.scan():
            yield plan

    def find(self, name: str) -> Plan:
        """Return the plan of an archive.

        Raises:
            NotFound: there is none of that name.
        """
        for plan in self:
            if plan.name == name:
                return plan
        raise NotFound(f"This node has no archive {name!r}.", "List them with: peerpacs archives list")

    def titles(self) -> dict[str, str]:
        """Return the archive that each called AE title opens; twins open the grid and what was rejected."""
        found = {title: plan.name for plan in self for title in plan.ae_titles}
        found |= {title + REJECTED_SUFFIX: name for title, name in found.items()}
        return {**found, self._default.ae_title + GRID_SUFFIX: DEFAULT}

    def adopt(self, folder: Path) -> None:
        """Take in the plans that lie beside archives of which the state knows nothing: it was lost."""
        known = {plan.name for plan in self}
        for path in sorted(folder.glob(f"*/{_BESIDE}")):
            try:
                plan = msgspec.json.decode(path.read_bytes(), type=Plan)
            except (OSError, msgspec.MsgspecError) as error:
                logger.error("The plan of an archive, %s, cannot be read: %s", path, error)
                continue
            if plan.name not in known:
                logger.warning("The archive %s was not in the node's state; it is taken in again.", plan.name)
                self._table.put(plan.name.encode(), plan)

    def put(self, plan: Plan, folder: Path) -> None:
        """Write a plan that was checked, and a copy of it into the archive's folder."""
        self._table.put(plan.name.encode(), plan)
        (folder / _BESIDE).write_bytes(msgspec.json.encode(plan))

    def check(self, plan: Plan) -> Plan:
        """Return a plan as it is to be written.

        Raises:
            BadRequest: it contradicts itself, another archive or the configuration.
        """
        if plan.name == DEFAULT:
            remedy = "AE title, storage and quota stand in peerpacs.toml; restart the node after a change."
            raise BadRequest("The default archive is not changed here.", remedy)
        if not NAME.fullmatch(plan.name):
            remedy = "Use at most 32 small letters, digits and hyphens."
            raise BadRequest(f"{plan.name!r} is not a name for an archive.", remedy)
        titles = tuple(check_ae_title(title, longest=16 - len(GRID_SUFFIX)) for title in plan.ae_titles)
        if not titles:
            raise BadRequest("An archive needs an AE title.", "Name one with --ae.")
        for title, name in self.titles().items():
            if title in titles and name != plan.name:
                what = f"The AE title {title} belongs to the archive {name}."
                raise BadRequest(what, "Each AE title opens one archive; choose another.")
        self._check_storage(plan)
        return msgspec.structs.replace(plan, ae_titles=titles)

    def bucket_of(self, plan: Plan) -> S3Section:
        """Return how the bucket of an archive is reached."""
        return plan.s3 or self._config.s3

    def with_s3(self, settings: list[str]) -> S3Section | None:
        """Return the configuration's way to a bucket with `key=value` changes; None for no change.

        Raises:
            BadRequest: a key is not a setting of [s3], or a value is not one of its kind.
        """
        if not settings:
            return None
        known: dict[str, Any] = msgspec.to_builtins(self._config.s3)
        for setting in settings:
            key, _, value = setting.partition("=")
            if key not in known:
                raise BadRequest(f"{key!r} is not a setting of [s3].", f"Known: {', '.join(known)}.")
            known[key] = value
        try:
            return msgspec.convert(known, S3Section, strict=False)
        except msgspec.ValidationError as error:
            raise BadRequest(
                f"A setting of the bucket is wrong: {error}.", "See [s3] in peerpacs.toml."
            ) from None

    def _check_storage(self, plan: Plan) -> None:
        check_storage(plan.storage, "The archive's storage")
        for other in self:
            if other.name != plan.name and plan.storage != DISK and other.storage == plan.storage:
                same_server = self.bucket_of(other).endpoint == self.bucket_of(plan).endpoint
                if same_server:
                    what = f"The archive {other.name} keeps its objects in {plan.storage} already."
                    raise BadRequest(what, "Give each its own bucket, or its own prefix behind the bucket.")
