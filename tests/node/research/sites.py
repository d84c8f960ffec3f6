"""Several sites with one project: nodes of one grid in the test's own process."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from sim.ports import free_port
from tests.homes import serving

from .site import PROJECT, Site


class GridSite(Site):
    """A site whose node is in a grid."""

    name: str
    leave: Callable[[], None]
    """Ends the node."""

    def admit(self, other: GridSite) -> None:
        """Have a node join, as two admins would."""
        made = self.ask("invite", site=f"HOSP-{other.name.upper()}", template="none", ttl=600.0, who="admin")
        asked = other.ask("join", ticket=made["ticket"], who="admin")
        self.ask("approve", request=asked["request"], who="admin")
        assert other.ask("joined", who="admin")

    def is_connected(self, other: GridSite) -> bool:
        """Say whether another node is connected with this one."""
        rows = self.ask("peers")["peers"]
        return any(row["name"] == other.name and row["state"] == "connected" for row in rows)

    def share(
        self, other: GridSite, *, with_key: bool = True, project: str = PROJECT, **settings: Any
    ) -> None:
        """Share a project with another site, where a person accepts it."""
        self.ask("share_project", name=project, peer=other.name, who="novak", with_key=with_key)
        other.ask("accept_project", name=project, who="dvorak", **settings)

    def grant(self, other: GridSite, **limits: Any) -> None:
        """Let another site order exports of everything."""
        told = {"share": "everything", "ops": ["export_deid"], "who": "admin", **limits}
        self.ask("put_grant", peer=other.name, **told)

    def waits_for(self, id: str, standing: str, seconds: float = 60.0) -> dict[str, Any]:
        """Return an export as soon as it stands like that."""
        self.until(lambda: self.ask("export", id=id)["standing"] == standing, seconds)
        export: dict[str, Any] = self.ask("export", id=id)
        return export

    def asked_for(self) -> dict[str, Any]:
        """Return the order of another site that waits for approval here, when it is there."""

        def waiting() -> list[dict[str, Any]]:
            return [
                e for e in self.ask("exports") if e["standing"] == "waits for approval" and e["requester"]
            ]

        self.until(lambda: bool(waiting()))
        return waiting()[0]


@contextmanager
def grid_of(folder: Path, *names: str, **sections: dict[str, object]) -> Iterator[list[GridSite]]:
    """Yield connected nodes of one grid, the first of which founded it."""
    with ExitStack() as opened:
        sites = []
        for name in names:
            own = {
                "node": {
                    "name": name,
                    "ae_title": name.upper(),
                    "node_id": str(uuid.uuid4()),
                    "issuer": "MPI",
                },
                "grid": {
                    "host": "127.0.0.1",
                    "site": f"HOSP-{name.upper()}",
                    "port": free_port(),
                    "join_port": free_port(),
                },
                **sections,
            }
            stack = opened.enter_context(ExitStack())
            site = GridSite(stack.enter_context(serving(folder / name, **own)))
            site.name, site.leave = name, stack.close
            sites.append(site)
        for other in sites[1:]:
            sites[0].admit(other)
        for one in sites:
            _until(lambda one=one: all(one.is_connected(other) for other in sites if other is not one))
        yield sites


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline, "they never met"
        time.sleep(0.05)
