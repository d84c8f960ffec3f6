"""The statement: the prose of `template.md`, with every table filled in from the code.

The template follows PS3.2 Annex N, chapter by chapter. `<<name>>` stands where a table or a value belongs.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Final

from catalog import NEVER_MATCHED, UNMATCHABLE_VR
from node.config import Config, read_config

from . import associations, objects, parameters, queries, security, web
from .markdown import tag

_TEMPLATE: Final = Path(__file__).with_name("template.md")
_ANY_NODE: Final = """
[node]
name = "any node"
ae_title = "AE_TITLE"
node_id = "any"
"""
_PARTS: Final[dict[str, Callable[[Config], str]]] = {
    "version": lambda _: version("peerpacs"),
    "overview": lambda _: objects.overview(),
    "contents": lambda _: _contents(),
    "entities": parameters.entities,
    "sop classes": lambda _: objects.classes(),
    "transfer syntaxes": lambda _: objects.syntaxes(),
    "models": lambda _: queries.information_models(),
    "keys": lambda _: queries.key_table(),
    "unmatchable": lambda _: ", ".join(sorted(UNMATCHABLE_VR)),
    "never matched": lambda _: ", ".join(map(tag, sorted(NEVER_MATCHED))),
    "private block": lambda _: queries.private_block(),
    "extended negotiation": lambda _: queries.extended_negotiation(),
    "character sets": lambda _: queries.character_sets(),
    "web transactions": lambda _: web.transactions(),
    "web pixels": lambda _: web.pixel_media_types(),
    "parameters": parameters.of_the_node,
    "association parameters": associations.parameters,
    "limits": associations.limits,
    "rejections": lambda _: associations.rejections(),
    "context results": lambda _: associations.context_results(),
    "cipher suites": lambda _: security.suites(),
    "statuses": lambda _: associations.statuses(),
}


def any_node() -> Config:
    """Return the configuration of a node as `init` makes it, whoever makes it."""
    return read_config(_ANY_NODE, "the defaults", {})


def statement(config: Config) -> str:
    """Return the statement of a node with this configuration, as Markdown."""
    text = _TEMPLATE.read_text(encoding="utf-8")
    return re.sub("<<([a-z ]+)>>", lambda found: _PARTS[found[1]](config).rstrip("\n"), text)


def _contents() -> str:
    titles = re.findall(r"^## (\d+|Annex [A-E]) (.+)$", _TEMPLATE.read_text(encoding="utf-8"), re.MULTILINE)
    return "\n".join(f"- {number} {title}" for number, title in titles)
