"""What `peerpacs check` says of roles on other hosts: whether they answer, and whether the keys are here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from .findings import Finding, Mark

if TYPE_CHECKING:
    from node.sections import Config

_FIX = (
    "start the process that has it, let this host through its firewall, and copy the node's key "
    "(secrets/roles.key to the storage, secrets/gateway.key to gateways) from the catalog's home"
)


def role_findings(home: Path, config: Config) -> Iterator[Finding]:
    """Yield a finding for each role that this process needs of another one."""
    from catalog import NotFound
    from node.app.role_serving import needed
    from node.roles.calls import RoleClient, guest_keys, is_there

    for role, (url, question) in needed(config).items():
        try:
            client = RoleClient(role, url, guest_keys(home, url))
        except NotFound as error:
            yield Finding(Mark.FAILURE, error.what.rstrip("."), _FIX)
            continue
        try:
            if is_there(client, question):
                yield Finding(Mark.GOOD, f"The {role} of this node answers at {url}")
            else:
                yield Finding(Mark.FAILURE, f"The {role} of this node does not answer at {url}", _FIX)
        finally:
            client.close()
