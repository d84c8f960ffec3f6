"""What a grid publishes is shown as a difference, and never overrides what a node decided itself."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog import BadRequest
from federation.trust.publication import (
    Entries,
    Fate,
    differences,
    merged,
    publish,
    read_publication,
)
from federation.trust.trust import Documents
from tests.federation.members import Grid

CT = {"ae_title": "CT3", "port": 104}
CT_NEW = {"ae_title": "CT3", "port": 11112}
OWN = {"ae_title": "CT3", "port": 4242}
entries = st.dictionaries(
    st.sampled_from(["devices", "settings"]),
    st.dictionaries(st.sampled_from("abcd"), st.fixed_dictionaries({"v": st.integers(0, 2)})),
)


def _fates(here: Entries, taken: Entries, published: Entries) -> list[tuple[str, Fate]]:
    return [(each.name, each.fate) for each in differences(here, taken, published)]


def test_new_changed_and_removed_entries_are_shown_before_they_count() -> None:
    here: Entries = {"devices": {"CT3": CT, "MR1": CT}}
    published: Entries = {"devices": {"CT3": CT_NEW, "US1": CT}}
    assert _fates(here, here, published) == [
        ("CT3", Fate.CHANGED),
        ("MR1", Fate.REMOVED),
        ("US1", Fate.ADDED),
    ]
    assert merged(here, here, published) == published


def test_a_local_entry_wins() -> None:
    assert _fates({"devices": {"CT3": OWN}}, {}, {"devices": {"CT3": CT}}) == [("CT3", Fate.KEPT)]
    assert merged({"devices": {"CT3": OWN}}, {}, {"devices": {"CT3": CT}}) == {"devices": {"CT3": OWN}}


def test_a_local_change_or_removal_of_a_published_entry_wins() -> None:
    taken: Entries = {"devices": {"CT3": CT, "MR1": CT}}
    here: Entries = {"devices": {"CT3": OWN}}
    published: Entries = {"devices": {"CT3": CT_NEW, "MR1": CT_NEW}}
    assert merged(here, taken, published) == here
    assert {fate for _, fate in _fates(here, taken, published)} == {Fate.KEPT}


def test_what_a_node_has_beside_the_publication_stays() -> None:
    assert merged({"devices": {"MR9": OWN}}, {}, {"devices": {"CT3": CT}}) == {
        "devices": {"MR9": OWN, "CT3": CT}
    }


@given(entries, entries, entries)
def test_accepting_twice_changes_nothing_and_own_entries_never_change(
    here: Entries, taken: Entries, published: Entries
) -> None:
    before = copy.deepcopy((here, taken, published))
    once = merged(here, taken, published)
    assert merged(once, published, published) == once
    for kind, named in here.items():
        for name, entry in named.items():
            if taken.get(kind, {}).get(name) != entry:
                assert once[kind][name] == entry
    assert (here, taken, published) == before


def test_a_publication_travels_signed_and_the_newer_version_wins(grid: Grid) -> None:
    member, now = grid.node("brno"), grid.clock()
    first = publish({"devices": {"CT3": CT}}, 0, grid.authority.issuer, now, "admin")
    second = publish({"devices": {"CT3": CT_NEW}}, 1, grid.authority.issuer, now, "admin")
    assert grid.trust.accept(Documents(publication=second))
    grid.tell(member)
    assert read_publication(member.trust.publication()).entries == {"devices": {"CT3": CT_NEW}}
    assert not member.trust.accept(Documents(publication=first))
    assert member.trust.versions().publication == 2


def test_a_publication_by_anybody_but_an_authority_is_not_kept(grid: Grid) -> None:
    member = grid.node("brno")
    forged = grid.authority.issuer._replace(key=member.credentials.pair.key)
    assert not member.trust.accept(Documents(publication=publish({}, 8, forged, grid.clock(), "me")))
    good = publish({}, 8, grid.authority.issuer, grid.clock(), "me")
    for at in range(len(good)):
        changed = good[:at] + bytes([good[at] ^ 2]) + good[at + 1 :]
        assert not member.trust.accept(Documents(publication=changed))
    assert member.trust.versions().publication == 0


def test_only_named_objects_can_be_published(grid: Grid) -> None:
    with pytest.raises(BadRequest):
        publish({"devices": {"": CT}}, 0, grid.authority.issuer, grid.clock(), "admin")
