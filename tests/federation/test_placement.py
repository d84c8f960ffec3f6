"""Rules for copies: who is chosen, that choices stay, and that few studies move when nodes come or go."""

from __future__ import annotations

import pytest

from catalog import BadRequest
from federation.placement import Candidate, CopyRule, Rules, check_rule, choose

NODES = [Candidate(f"n{site}{at}", f"S{site}") for site in range(4) for at in range(2)]
STUDIES = [f"1.2.{n}" for n in range(400)]


def sites(nodes: tuple[str, ...]) -> set[str]:
    return {node.site for node in NODES if node.node_id in nodes}


def test_copies_lie_at_distinct_sites_and_never_at_the_owners() -> None:
    rule = CopyRule(name="r", copies=3, min_sites=3)
    for uid in STUDIES:
        choice = choose(uid, rule, "S0", NODES)
        assert len(sites(choice.nodes)) == 2
        assert "S0" not in sites(choice.nodes)
        assert not choice.lacking


def test_studies_are_spread_by_the_room_there_is() -> None:
    rule = CopyRule(name="r")
    nodes = [Candidate("a", "A", 1.0), Candidate("b", "B", 3.0)]
    at_b = sum(choose(uid, rule, "HOME", nodes).nodes == ("b",) for uid in STUDIES)
    assert 0.65 < at_b / len(STUDIES) < 0.85


def test_must_comes_before_prefer_and_never_is_never() -> None:
    rule = CopyRule(name="r", copies=3, min_sites=2, must=("S3",), prefer=("S2",), never=("S1",))
    for uid in STUDIES[:50]:
        assert sites(choose(uid, rule, "S0", NODES).nodes) == {"S2", "S3"}


def test_a_choice_stays_while_its_nodes_are_there() -> None:
    rule = CopyRule(name="r", copies=3, min_sites=3)
    for uid in STUDIES:
        before = choose(uid, rule, "S0", NODES).nodes
        more = [*NODES, Candidate("new", "S9", 5.0)]
        assert set(choose(uid, rule, "S0", more, before).nodes) == set(before)


def test_a_lost_node_moves_only_its_own_studies() -> None:
    rule = CopyRule(name="r", copies=3, min_sites=3)
    left = [node for node in NODES if node.node_id != "n20"]
    for uid in STUDIES:
        before = choose(uid, rule, "S0", NODES).nodes
        after = choose(uid, rule, "S0", left, before).nodes
        assert set(before) - {"n20"} <= set(after)
        assert len(after) == 2


def test_what_cannot_be_met_is_said() -> None:
    one = [Candidate("a", "A")]
    assert choose("1", CopyRule(name="r", copies=3, min_sites=3), "H", one).lacking.startswith("3 sites")
    assert choose("1", CopyRule(name="r", copies=3, min_sites=2), "H", one).lacking.startswith("3 copies")
    assert "must have one" in choose("1", CopyRule(name="r", must=("Z",)), "H", one).lacking
    assert choose("1", CopyRule(name="r"), "H", []).nodes == ()


def test_two_copies_may_share_a_site_when_the_rule_allows_it() -> None:
    here = [Candidate("a", "A"), Candidate("b", "A")]
    assert len(choose("1", CopyRule(name="r", copies=3, min_sites=2), "H", here).nodes) == 2
    assert len(choose("1", CopyRule(name="r", copies=3, min_sites=3), "H", here).nodes) == 1


def test_the_first_rule_that_a_series_matches_counts() -> None:
    mg = {"00080060": {"vr": "CS", "Value": ["MG"]}}
    ct = {"00080060": {"vr": "CS", "Value": ["CT"]}}
    rules = Rules([CopyRule(name="all"), CopyRule(name="mammo", number=1, match=mg, copies=4)])
    found = [rules.of(study) for study in ([ct], [ct, mg])]
    assert [rule and rule.name for rule in found] == ["all", "mammo"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "No Name"},
        {"copies": 0},
        {"copies": 2, "min_sites": 3},
        {"commit_sites": 3},
        {"must": ("A",), "never": ("A",)},
        {"copies": 2, "must": ("A", "B")},
        {"match": {"00080018": {"vr": "UI", "Value": ["1"]}}},
        {"commit_timeout": 0.0},
    ],
)
def test_a_rule_that_contradicts_itself_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(BadRequest):
        check_rule(CopyRule(**{"name": "r", **wrong}))  # type: ignore[arg-type]
