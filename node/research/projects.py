"""The book of research projects and of the node's own policies, effective at once."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from anonymizer import PRESETS, Policy, PolicyRejected, ProjectKey, make_key, policy_from, read_key
from catalog import BadRequest, Clock, NotFound, NotPermitted
from node.state import State

from .model import OwnPolicy, Project, Withdrawal
from .sealing import check_holder

_NAME: Final = re.compile(r"[A-Z0-9][A-Z0-9-]{0,23}")
_LISTS: Final = ("members", "approvers", "reviewers", "senders", "words", "trusted")


class _Digest(msgspec.Struct, frozen=True):
    """What tells that a row of `OwnPolicy` is another, without reading its document."""

    digest: str


class _Built(NamedTuple):
    """A policy and what it was made of."""

    rules: tuple[dict[str, Any], ...]
    words: tuple[str, ...]
    digest: str
    policy: Policy


class ProjectBook:
    """Rows of `Project` by name, the policies they go by, and who was withdrawn; keys lie in `secrets/`."""

    def __init__(self, state: State, secrets: Path, clock: Clock) -> None:
        self._projects = state.table("research-projects", Project)
        self._policies = state.table("research-policies", OwnPolicy)
        self._digests = state.table("research-policies", _Digest)
        self._built: dict[tuple[str, str], _Built] = {}
        self._withdrawn = state.table("research-withdrawn", Withdrawal)
        self._keys = secrets / "projects"
        self._clock = clock

    def __iter__(self) -> Iterator[Project]:
        for _, project in self._projects.scan():
            yield project

    def find(self, name: str) -> Project:
        """Return a project.

        Raises:
            NotFound: there is none of that name.
        """
        project = self._projects.get(name.upper().encode())
        if project is None:
            remedy = f"Make it: peerpacs projects add {name.upper()}"
            raise NotFound(f"This node has no research project {name!r}.", remedy)
        return project

    def of_archive(self, archive: str) -> Project | None:
        """Return the project whose de-identified set an archive keeps; None if it keeps none."""
        return next((project for project in self if project.archive == archive), None)

    def put(
        self, name: str, *, is_new: bool, key_file: Path | None = None, key: bytes = b"", **changes: Any
    ) -> Project:
        """Make a project with a key of its own, the one in a file or the one given, or change one.

        With a `foreign_key` it gets none.

        Raises:
            BadRequest: it contradicts itself, or there is one already.
            NotFound: there is none to change.
        """
        name = name.upper()
        if is_new and self._projects.get(name.encode()) is not None:
            raise BadRequest(
                f"There is a project {name} already.", f"See: peerpacs projects edit {name} --help"
            )
        old: dict[str, Any] = {"name": name} if is_new else msgspec.to_builtins(self.find(name))
        for word in _LISTS:
            if word in changes:
                changes[word] = _merged(old.get(word, ()), changes[word])
        try:
            project = msgspec.convert({**old, **changes}, Project)
        except msgspec.ValidationError as error:
            raise BadRequest(f"That cannot be a project: {error}.", "See: peerpacs projects --help") from None
        self._check(project)
        if is_new and not project.foreign_key:
            self._make_key(project.name, key_file, key)
        self._projects.put(name.encode(), project)
        return project

    def change(self, name: str, change: Callable[[Project], Project]) -> Project:
        """Replace a project by what `change` makes of it. Raises as `put`."""
        changed = change(self.find(name))
        self._check(changed)
        self._projects.put(changed.name.encode(), changed)
        return changed

    def key_file(self, name: str) -> Path:
        """Return the file of a project's key."""
        return self._keys / f"{name.upper()}.key"

    def key_id(self, project: Project) -> str:
        """Return what tells the project's key from others, whether or not the key is here."""
        return project.foreign_key or self.key(project.name).key_id

    def key(self, name: str) -> ProjectKey:
        """Return a project's key.

        Raises:
            NotFound: it is not here, or its file is gone; nothing can be exported without it.
        """
        if self.find(name).foreign_key:
            what = f"This node has no key of the project {name}: it orders at other sites and receives."
            raise NotFound(what, "Leave out --from; the sites that have the key export.")
        try:
            return read_key(self.key_file(name))
        except (OSError, ValueError):
            what = f"The key of project {name} cannot be read, so no pseudonym can be made."
            raise NotFound(what, f"Restore {self.key_file(name)} from a backup.") from None

    def policy(self, project: Project, profile: str = "") -> Policy:
        """Return what the project's instances go by: its profile with what its curators added.

        It is the same object as long as nothing of that changed: a private list has thousands of rows.

        Raises:
            NotFound: there is no profile of that name.
        """
        name = profile or project.profile
        row = None if name in PRESETS else self._digests.get(name.encode())
        made_of = project.rules, project.words, row.digest if row else ""
        built = self._built.get((project.name, name))
        if built is None or built[:3] != made_of or not (row or name in PRESETS):
            built = _Built(*made_of, self._build(project, name))
            self._built[project.name, name] = built
        return built.policy

    def _build(self, project: Project, name: str) -> Policy:
        document: dict[str, Any] = dict(self._document(name))
        pixel, text = dict(document.get("pixel", {})), dict(document.get("text", {}))
        pixel["rules"] = [*pixel.get("rules", ()), *project.rules]
        text["vocabulary"] = sorted({*text.get("vocabulary", ()), *project.words})
        trial = {"protocol_id": project.name, **document.get("clinical_trial", {})}
        return policy_from(name, {**document, "pixel": pixel, "text": text, "clinical_trial": trial})

    def policies(self) -> list[OwnPolicy]:
        """Return the node's own policies."""
        return [row for _, row in self._policies.scan()]

    def put_policy(self, name: str, document: Any, who: str) -> OwnPolicy:
        """Write a policy of the node's own.

        Raises:
            BadRequest: it is none, would keep more than the profile allows, or has a preset's name.
        """
        if name in PRESETS or not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,39}", name):
            remedy = "Use small letters, digits and hyphens; basic, research, tcia and teaching are taken."
            raise BadRequest(f"{name!r} is no name for a policy.", remedy)
        try:
            policy = policy_from(name, document)
        except PolicyRejected as error:
            raise BadRequest(str(error), "Mend the JSON file and put it in again.") from None
        row = OwnPolicy(name=name, document=document, digest=policy.digest, who=who, when=self._clock())
        self._policies.put(name.encode(), row)
        return row

    def withdraw(self, project: str, subject: str, who: str, reason: str) -> None:
        """Bar a subject from everything that the project exports or takes in from now on."""
        row = Withdrawal(project=project, subject=subject, who=who, when=self._clock(), reason=reason)
        self._withdrawn.put(f"{project}\0{subject}".encode(), row)

    def is_withdrawn(self, project: str, subject: str) -> bool:
        """Say whether a pseudonym is barred."""
        return self._withdrawn.get(f"{project}\0{subject}".encode()) is not None

    def withdrawals(self, project: str) -> list[Withdrawal]:
        """Return who was withdrawn from a project."""
        return [row for _, row in self._withdrawn.scan(f"{project}\0".encode())]

    def check_open(self, project: Project, who: str = "") -> None:
        """Make sure that something may be done for the project today, by that person if one is named.

        Raises:
            NotPermitted: it has ended, or it is not the person's.
        """
        today = datetime.fromtimestamp(self._clock(), UTC).date().isoformat()
        if project.ends and today > project.ends:
            remedy = f"Prolong it: peerpacs projects edit {project.name} --ends DATE"
            raise NotPermitted(f"The project {project.name} ended on {project.ends}.", remedy)
        if who and project.members and who not in project.members:
            remedy = f"Add the person: peerpacs projects edit {project.name} --member +{who}"
            raise NotPermitted(f"{who} is not a member of the project {project.name}.", remedy)

    def _document(self, name: str) -> dict[str, Any]:
        if name in PRESETS:
            return PRESETS[name]
        row = self._policies.get(name.encode())
        if row is None:
            known = ", ".join([*PRESETS, *(policy.name for policy in self.policies())])
            remedy = "Put your own in: peerpacs projects policy NAME FILE.json"
            raise NotFound(f"There is no profile {name!r}; there are {known}.", remedy)
        return row.document

    def _check(self, project: Project) -> None:
        if not _NAME.fullmatch(project.name):
            remedy = "Use at most 24 capital letters, digits and hyphens: it begins every pseudonym."
            raise BadRequest(f"{project.name!r} is no name for a project.", remedy)
        if project.ends:
            try:
                datetime.fromisoformat(project.ends)
            except ValueError:
                raise BadRequest(f"{project.ends!r} is no date.", "Write it as 2027-12-31.") from None
        if project.smallest < 1 or project.questions < 0 or project.quarantine_days < 1:
            raise BadRequest("Limits of a project are positive numbers.", "See: peerpacs projects --help")
        for public in project.holders.values():
            check_holder(public)
        try:
            self.policy(project)
        except PolicyRejected as error:
            raise BadRequest(str(error), "Change the rule or the profile.") from None

    def _make_key(self, name: str, key_file: Path | None, given: bytes) -> None:
        self._keys.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self.key_file(name)
        try:
            if key_file is None and not given:
                make_key(path, name)
                return
            self._put_key(path, name, given or (key_file.read_bytes() if key_file else b""))
        except FileExistsError:
            what = f"There is a key of a project {name} already, and a key is never overwritten."
            raise BadRequest(what, f"Look at {path}; pseudonyms made with it depend on it.") from None
        except (OSError, ValueError) as error:
            raise BadRequest(f"The key cannot be taken in: {error}.", "Name a project's key file.") from None

    def _put_key(self, path: Path, name: str, content: bytes) -> None:
        """Write another site's key of a project, if it is one."""
        beside = path.with_name(f".{path.name}.new")
        beside.unlink(missing_ok=True)
        beside.touch(mode=0o600, exist_ok=False)
        try:
            beside.write_bytes(content)
            key = read_key(beside)
            if key.name != name:
                what = f"That is the key of the project {key.name}, not of {name}."
                raise BadRequest(what, f"Name the project {key.name}: pseudonyms are made from both.")
            os.link(beside, path)
        finally:
            beside.unlink()


def _merged(old: Any, new: Any) -> tuple[str, ...]:
    """Return the new words; `+word` adds to the old ones and `-word` takes away."""
    words = [word for word in new if word]
    if all(word[0] in "+-" for word in words) and words:
        kept = [*old, *(word[1:] for word in words if word[0] == "+")]
        gone = {word[1:] for word in words if word[0] == "-"}
        return tuple(dict.fromkeys(word for word in kept if word not in gone))
    return tuple(dict.fromkeys(words))
