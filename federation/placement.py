"""Who is to hold copies of a study: rules and the nodes there are, to a choice; pure, without clock or wire.

A choice stays as it was made while its nodes are there. Among equals the highest hash of study and site wins,
weighed by the room a site has (rendezvous hashing), so that nodes which come or go move few studies.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Sequence
from hashlib import sha256
from typing import Final, NamedTuple

import msgspec

from catalog import BY_TAG, Attributes, BadRequest, Level, Matching, compile_matcher

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_MOST: Final = 16
"""Copies that a rule may ask for."""


class CopyRule(msgspec.Struct, frozen=True, kw_only=True):
    """How many copies there are to be of the studies that match, and where."""

    name: str
    number: int = 100
    """The first rule that matches counts, in the order of their numbers."""
    match: Attributes = {}
    """Keys of studies and series of the fixed table, as in a query; empty: all."""
    copies: int = 2
    """Of each object in the grid, the owner's own among them."""
    min_sites: int = 2
    """Distinct sites that hold one, the owner's own among them."""
    prefer: tuple[str, ...] = ()
    must: tuple[str, ...] = ()
    never: tuple[str, ...] = ()
    """Sites."""
    commit_sites: int = 1
    """Sites that must have proved an object before Storage Commitment says that it is safe."""
    commit_timeout: float = 86400.0
    """Seconds after which what they have not is not committed."""
    archive: str = ""
    """Whose studies; empty: of every archive but those of research projects."""


class Candidate(NamedTuple):
    """A node that may hold copies."""

    node_id: str
    site: str
    room: float = 1.0
    """How much more it can take, in any unit; above 0."""


class Choice(NamedTuple):
    """The nodes that are to hold copies besides the owner, and what cannot be met."""

    nodes: tuple[str, ...]
    lacking: str = ""
    """Why there are fewer than the rule asks for, as a sentence; empty if there are not."""


def check_rule(rule: CopyRule) -> CopyRule:
    """Return the rule.

    Raises:
        BadRequest: something in it is not of its kind, or contradicts the rest.
    """
    if not _NAME.fullmatch(rule.name):
        raise BadRequest(f"{rule.name!r} cannot name a rule.", "Use up to 32 of a-z, 0-9 and -.")
    for tag in rule.match:
        if tag not in BY_TAG or BY_TAG[tag].level is Level.IMAGE:
            raise BadRequest(f"A rule cannot match on {tag}: no catalog row has it.", tags=(tag,))
    compile_matcher(rule.match, Matching.PLAIN)
    if not 1 <= rule.copies <= _MOST:
        raise BadRequest(f"There can be 1 to {_MOST} copies, the owner's own among them.")
    if not 1 <= rule.min_sites <= rule.copies:
        raise BadRequest(
            f"{rule.copies} copies cannot lie at {rule.min_sites} sites.", "Ask for more copies."
        )
    if not 1 <= rule.commit_sites <= rule.copies:
        what = f"Commitment cannot wait for {rule.commit_sites} sites of {rule.copies} copies."
        raise BadRequest(what, "Ask for more copies, or for fewer sites.")
    if both := set(rule.never) & {*rule.must, *rule.prefer}:
        raise BadRequest(f"{', '.join(sorted(both))} cannot be wanted and ruled out.", "Decide for one.")
    if len(rule.must) >= rule.copies:
        raise BadRequest(f"{len(rule.must)} sites must have one: too few copies.", "Ask for more copies.")
    if rule.commit_timeout <= 0:
        raise BadRequest("Commitment needs some time to wait for.")
    return rule


class Rules:
    """The rules as they are at one moment."""

    def __init__(self, rules: Iterable[CopyRule]) -> None:
        self.all = sorted(rules, key=lambda rule: (rule.number, rule.name))
        self._rules = [(rule, compile_matcher(rule.match, Matching.PLAIN)) for rule in self.all]

    def __bool__(self) -> bool:
        return bool(self._rules)

    def of(self, study: Sequence[Attributes]) -> CopyRule | None:
        """Return the first rule that one of a study's series matches, each with the study's attributes."""
        for rule, admits in self._rules:
            if any(admits(series) for series in study):
                return rule
        return None


def choose(
    study: str, rule: CopyRule, home: str, candidates: Sequence[Candidate], now: Collection[str] = ()
) -> Choice:
    """Choose who holds copies of a study besides its owner at the site `home`; `now` holds them already."""
    able = [each for each in candidates if each.site not in rule.never]
    wanted = rule.copies - 1
    chosen: list[Candidate] = []
    sites = {home}

    def rank(each: Candidate) -> tuple[bool, bool, int, float]:
        prefer = rule.prefer.index(each.site) if each.site in rule.prefer else len(rule.prefer)
        return each.site not in rule.must, each.node_id not in now, prefer, -weight(study, each)

    ranked = sorted(able, key=rank)
    for each in ranked:
        if len(chosen) < wanted and each.site not in sites:
            chosen.append(each)
            sites.add(each.site)
    for each in ranked:
        # Fewer sites than copies: the rest may share one, as long as enough sites are there.
        if len(chosen) < wanted and each not in chosen and len(sites) >= rule.min_sites:
            chosen.append(each)
    return Choice(tuple(each.node_id for each in chosen), _lacking(rule, sites, len(chosen)))


def _lacking(rule: CopyRule, sites: Collection[str], chosen: int) -> str:
    if missing := [site for site in rule.must if site not in sites]:
        return f"{', '.join(missing)} must have one, and no node there may or can."
    if len(sites) < rule.min_sites:
        return f"{rule.min_sites} sites are asked for, and only {len(sites)} may and can."
    if chosen < rule.copies - 1:
        return f"{rule.copies} copies are asked for, and there is room for {chosen + 1}."
    return ""


def weight(study: str, candidate: Candidate) -> float:
    """Return how much a study is drawn to a node: logarithmic rendezvous weights, the highest is chosen."""
    text = f"{study}\0{candidate.site}\0{candidate.node_id}".encode()
    share = (int.from_bytes(sha256(text).digest()[:8], "big") + 1) / (2**64 + 2)
    return max(candidate.room, 1e-9) / -math.log(share)
