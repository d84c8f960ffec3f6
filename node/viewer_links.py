"""Links for viewers that bring no cookie: each opens one study, for reading, for a few minutes."""

from __future__ import annotations

import secrets
from typing import Final

import msgspec

from catalog import Clock, NotPermitted
from node.archives import DEFAULT
from node.passwords import fingerprint
from node.state import Tables

LASTS: Final = 600.0
"""Seconds: a viewer starts within them and reads; what it has begun to read is sent to the end."""


class ViewerLink(msgspec.Struct, frozen=True, kw_only=True):
    """What one link opens, and in whose name."""

    user: str
    """Empty for somebody on this machine, where the device book trusts it."""
    study: str
    archive: str = DEFAULT
    is_everywhere: bool = False
    """Of all sites of the grid, in place of this archive."""
    ends: float
    """Unix seconds."""


class ViewerLinks:
    """The links of a node; several processes may use them at once."""

    def __init__(self, state: Tables, clock: Clock) -> None:
        self._links = state.table("viewer_links", ViewerLink)
        self._clock = clock

    def make(self, user: str, study: str, archive: str, *, is_everywhere: bool) -> tuple[ViewerLink, str]:
        """Make a link; return it and its secret, which is kept nowhere. Those that ended are forgotten."""
        now = self._clock()
        for key, link in list(self._links.scan()):
            if link.ends <= now:
                self._links.delete(key)
        link = ViewerLink(
            user=user, study=study, archive=archive, is_everywhere=is_everywhere, ends=now + LASTS
        )
        secret = secrets.token_urlsafe(24)
        self._links.put(fingerprint(secret).encode(), link)
        return link, secret

    def find(self, secret: str) -> ViewerLink:
        """Return what a link opens.

        Raises:
            NotPermitted: there is no such link, or it has ended.
        """
        link = self._links.get(fingerprint(secret).encode())
        if link is None or not 0 < link.ends - self._clock() <= LASTS:
            raise NotPermitted("This link of a viewer has ended.", "Open the study from its page once more.")
        return link
