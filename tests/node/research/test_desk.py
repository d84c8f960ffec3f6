"""What can be asked about research."""

from __future__ import annotations

from node.research.senders import RESEARCH_VERBS

from .site import Site


def test_the_verbs_that_are_known_before_loading_are_those_there_are(site: Site) -> None:
    assert set(site.node.desk.research()) == RESEARCH_VERBS
    assert set(site.node.desk.verbs()) >= RESEARCH_VERBS
