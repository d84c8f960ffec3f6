"""Which AE titles are doors of research projects, and who may send there: all that access control needs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from node.archives import Plan
from node.state import State

from .model import Project


def is_used(state: State) -> bool:
    """Say whether the node has a research project at all."""
    return next(state.table("research-projects", Project).scan(), None) is not None


class Senders:
    """Looks up a called AE title; light, since every association asks."""

    def __init__(self, state: State, plans: Iterable[Plan]) -> None:
        self._projects = state.table("research-projects", Project)
        self._plans = plans
        # The default archive is that of no project, and nearly every call is for it.
        self._ordinary = next(iter(plans)).ae_titles

    def __call__(self, called_ae: str) -> frozenset[str] | None:
        """Return the senders of the project that the title belongs to; None if it belongs to none."""
        if called_ae in self._ordinary:
            return None
        for plan in self._plans:
            if plan.research and called_ae in plan.ae_titles:
                project = self._projects.get(plan.research.encode())
                return frozenset(project.senders if project else ())
        return None


_VERBS: Final = (
    "projects project put_project put_policy describe_policy preview_export order_export exports export "
    "approve_export refuse_export release_export stop_export finish_export retry_export withdraw_subject "
    "open_escrow released_files share_project project_offers accept_project decline_project "
    "quarantine quarantined rerun_quarantined reject_quarantined"
)
RESEARCH_VERBS: Final = frozenset(_VERBS.split())
"""What can be asked about research: so much is known before its libraries are loaded."""
