"""What needs a restart to change: one `peerpacs.toml` in the home folder, read at start, never rewritten.

`default.toml` beside this module is the only place for defaults and explanations, the structs of
`node.sections` the only place for types and ranges; `init` writes the first with a node's own values
filled in. The environment overrides the file (`PEERPACS__DICOM__PORT=104`); what the grid publishes and the
node's admin accepted stands in place of defaults. Secrets are never in it: a key that ends in `_file` names
the file that holds one.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import tomllib
from collections.abc import Mapping
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from catalog import BadRequest, NotFound
from node.roles.plan import check_roles
from node.sections import GRID_SUFFIX
from node.sections import Config as Config
from node.standing import LISTS, read_standing

FILE_NAME: Final = "peerpacs.toml"
PUBLISHED: Final = "identity/published.toml"
"""Settings that the grid published and this node's admin accepted; written by the node alone."""
DISK: Final = "disk"
_BUCKET: Final = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9._/-]*)?")
_DEFAULTS: Final = Path(__file__).with_name("default.toml")
_PREFIX: Final = "PEERPACS__"
_SECRET_WORDS: Final = ("password", "secret", "token", "key")
_ENVIRONMENT: Final = "the environment"
_GRID: Final = "what the grid publishes"


class _Value(NamedTuple):
    """A value as somebody wrote it, and where: a file, or a variable of the environment."""

    raw: Any
    source: str


_Key = tuple[str, str]
"""Section and key."""


def load_config(home: Path, environ: Mapping[str, str] = os.environ) -> Config:
    """Read the home folder's file under the environment's overrides.

    Raises:
        NotFound: there is no such file.
        BadRequest: something in it is unknown, of the wrong type or out of range; the sentence names it.
    """
    path = home / FILE_NAME
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise NotFound(
            f"There is no node in {home}: it has no {FILE_NAME}.",
            f"Make one with: peerpacs init --home {home}, or name the right folder with --home.",
        ) from None
    except UnicodeDecodeError:
        raise BadRequest(f"{path} is not UTF-8 text.", "Save it as UTF-8 and start again.") from None
    return read_config(text, str(path), environ, _published(home))


def read_config(
    text: str, source: str, environ: Mapping[str, str], published: Mapping[_Key, _Value] | None = None
) -> Config:
    """Understand the text of a configuration; what it leaves out has its default. Raises as `load_config`."""
    values = _gathered(text, source, environ, published or {})
    sections: dict[str, Any] = {}
    for section, struct in get_type_hints(Config).items():
        given = {key: _convert((of, key), value) for (of, key), value in values.items() if of == section}
        sections[section] = struct(**given)
    config = Config(**sections)
    _check_together(config, source)
    read_standing(text, source)
    return config


class Origin(NamedTuple):
    """One setting with its value, and where that comes from."""

    section: str
    key: str
    value: Any
    source: str


def origins(home: Path, environ: Mapping[str, str] = os.environ) -> list[Origin]:
    """Return every setting in the order of the sections. Raises as `load_config`."""
    config, path = load_config(home, environ), home / FILE_NAME
    values = _gathered(path.read_text(encoding="utf-8"), str(path), environ, _published(home))
    told = msgspec.to_builtins(config)
    return [
        Origin(section, key, value, _named(values[section, key].source))
        for section, keys in told.items()
        for key, value in keys.items()
    ]


def _named(source: str) -> str:
    return "default" if source == str(_DEFAULTS) else source


def _gathered(
    text: str, source: str, environ: Mapping[str, str], published: Mapping[_Key, _Value]
) -> dict[_Key, _Value]:
    """Return every setting; a file that says the default says nothing against what the grid published."""
    defaults = _values(_DEFAULTS.read_text(encoding="utf-8"), str(_DEFAULTS))
    values = defaults | _values(text, source)
    for key, value in published.items():
        if values[key].raw == defaults[key].raw:
            values[key] = value
    return values | _overrides(environ)


def _published(home: Path) -> dict[_Key, _Value]:
    path = home / PUBLISHED
    try:
        return _values(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError:
        return {}


def decided(home: Path) -> dict[str, Any]:
    """Return by `section.key` what the file or the grid says, if not the default. Raises as `load_config`."""
    path = home / FILE_NAME
    values = _gathered(path.read_text(encoding="utf-8"), str(path), {}, _published(home))
    defaults = _values(_DEFAULTS.read_text(encoding="utf-8"), str(_DEFAULTS))
    grid = str(home / PUBLISHED)
    return {
        ".".join(key): value.raw
        for key, value in values.items()
        if value.raw != defaults[key].raw or value.source == grid
    }


def published_text(settings: Mapping[str, Any]) -> str:
    """Return the text of a file with settings by `section.key`.

    Raises:
        BadRequest: one of them is unknown, of the wrong type or out of range.
    """
    lines = ["# What the grid published and this node's admin accepted: peerpacs book show. Not for editing."]
    for name in sorted(settings):
        section, _, key = name.partition(".")
        _check_section(section, name, _GRID)
        _check_key((section, key), name, _GRID)
        _convert((section, key), _Value(settings[name], _GRID))
        lines.append(f"[{section}]" if f"[{section}]" not in lines else "")
        lines.append(f"{key} = {json.dumps(settings[name], ensure_ascii=False)}")
    return "\n".join(line for line in lines if line) + "\n"


def write_config(home: Path, own: Mapping[str, Mapping[str, Any]]) -> Path:
    """Write a new node's commented file, the defaults with its `own` values by section; return its path.

    Raises:
        BadRequest: a value is wrong, or there is a file already: a person's file is never rewritten.
    """
    path = home / FILE_NAME
    text = _fill_in(_DEFAULTS.read_text(encoding="utf-8"), own)
    read_config(text, str(path), {})
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640), "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        what = f"{path} exists already, and it is never overwritten."
        raise BadRequest(what, "Edit it, or choose another home folder.") from None
    return path


def check_ae_title(text: str, longest: int = 16) -> str:
    """Return an AE title without its outer spaces, which mean nothing (PS3.5 6.2, VR AE).

    Raises:
        BadRequest: it is empty, too long, or has a backslash or a character outside printable ASCII.
    """
    title = text.strip(" ")
    if not title or len(title) > longest:
        why = f"Its twin with {GRID_SUFFIX} behind it must fit into 16." if longest < 16 else ""
        raise BadRequest(f"{text!r} is not an AE title of 1 to {longest} characters.", why)
    if "\\" in title or not all(" " <= character <= "~" for character in title):
        remedy = "Use capital letters, digits and _."
        raise BadRequest(f"{text!r} has characters that an AE title must not have.", remedy)
    return title


def check_storage(url: str, name: str) -> None:
    """Make sure that something can be kept there.

    Raises:
        BadRequest: it is neither `disk` nor `s3://bucket` with or without a prefix.
    """
    if url != DISK and not _BUCKET.fullmatch(url):
        remedy = (
            f"It must be {DISK}, or s3://bucket or s3://bucket/prefix; a bucket's name has 3 to 63 small "
            "letters, digits, dots and hyphens."
        )
        raise BadRequest(f"{name} is {url!r}.", remedy)


def _values(text: str, source: str) -> dict[_Key, _Value]:
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadRequest(f"{source} is not valid TOML: {error}.", "Correct that line.") from None
    values = {}
    for section, table in raw.items():
        if section in LISTS:
            continue
        if not isinstance(table, dict):
            raise BadRequest(f"{section} in {source} is in no section.", "Move it under its [section].")
        _check_section(section, f"[{section}]", source)
        for key, value in table.items():
            _check_key((section, key), f"{section}.{key}", source)
            values[section, key] = _Value(value, source)
    return values


def _overrides(environ: Mapping[str, str]) -> dict[_Key, _Value]:
    values = {}
    for variable, text in environ.items():
        if not variable.startswith(_PREFIX):
            continue
        section, _, key = variable.removeprefix(_PREFIX).lower().partition("__")
        _check_section(section, variable, _ENVIRONMENT)
        _check_key((section, key), variable, _ENVIRONMENT)
        is_list = get_origin(_kinds(section)[key][0]) is tuple
        raw = [part.strip() for part in text.split(",") if part.strip()] if is_list else text
        values[section, key] = _Value(raw, f"{_ENVIRONMENT} ({variable})")
    return values


def _check_section(section: str, name: str, source: str) -> None:
    known = [*get_type_hints(Config)]
    if section not in known:
        raise BadRequest(f"{name} in {source} is not a section.", _suggest(section, known))


def _check_key(key: _Key, name: str, source: str) -> None:
    known = [*_kinds(key[0])]
    if key[1] in known:
        return
    remedy = _suggest(key[1], known)
    if any(word in key[1] for word in _SECRET_WORDS):
        remedy += " Secrets are never written here, only the names of files that hold them."
    raise BadRequest(f"{name} in {source} is not a setting.", remedy)


def _suggest(wrong: str, known: list[str]) -> str:
    close = difflib.get_close_matches(wrong, known, n=1)
    return f"Did you mean {close[0]}?" if close else f"Known here: {', '.join(known)}."


def _convert(key: _Key, value: _Value) -> Any:
    kind, meta = _kinds(key[0])[key[1]]
    is_text = value.source.startswith(_ENVIRONMENT)
    try:
        return msgspec.convert(value.raw, Annotated[kind, meta] if meta else kind, strict=not is_text)
    except msgspec.ValidationError:
        what = f"{'.'.join(key)} in {value.source} is {value.raw!r}."
        raise BadRequest(what, f"It must be {_wanted(kind, meta)}.") from None


def _wanted(kind: Any, meta: Meta | None) -> str:
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return " or ".join(member.value for member in kind)
    if kind is bool:
        return "true or false"
    if get_origin(kind) is tuple:
        of = get_args(kind)[0]
        return "a list of texts" if of is str else f"a list of {_wanted(of, None)}"
    if meta is None:
        return "text"
    if kind is str:
        return f"text of {meta.min_length or 0} to {meta.max_length} characters"
    return f"{'a whole number' if kind is int else 'a number'} from {meta.ge} to {meta.le}"


@cache
def _kinds(section: str) -> dict[str, tuple[Any, Meta | None]]:
    """Return the type and the range of each key of a section."""
    kinds = {}
    for key, hint in get_type_hints(get_type_hints(Config)[section], include_extras=True).items():
        kinds[key] = get_args(hint) if get_origin(hint) is Annotated else (hint, None)
    return kinds


def _check_together(config: Config, source: str) -> None:
    check_ae_title(config.node.ae_title, longest=16 - len(GRID_SUFFIX))
    taken: dict[int, str] = {}
    sections = ("dicom", "tls", "web", "grid", "watch")
    ports = {f"{name}.port": getattr(config, name).port for name in sections}
    ports |= {"web.plain_port": config.web.plain_port}
    ports |= {"grid.join_port": config.grid.join_port, "grid.door_port": config.grid.door_port}
    for name, port in ports.items():
        if port and port in taken:
            what = f"{taken[port]} and {name} in {source} are both {port}."
            raise BadRequest(what, "Give each its own, or 0 for none.")
        taken[port] = name
    check_storage(config.storage.url, f"storage.url in {source}")
    check_roles(config, source)
    if config.storage.resume_above_mb < config.storage.stop_below_mb:
        what = f"storage.resume_above_mb in {source} is lower than storage.stop_below_mb."
        raise BadRequest(what, "Storing resumes at or above the mark where it stopped.")


def _fill_in(text: str, own: Mapping[str, Mapping[str, Any]]) -> str:
    for section, values in own.items():
        for key, value in values.items():
            line = re.search(rf"^\[{section}\]$.*?^{key} = (.*?)$", text, re.MULTILINE | re.DOTALL)
            assert line is not None, f"default.toml has no {section}.{key}"
            written = json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
            text = text[: line.start(1)] + written + text[line.end(1) :]
    return text
