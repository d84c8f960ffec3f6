"""Whom a node trusts: certificates of its grid, of this time, that nobody revoked; how that news travels."""

from __future__ import annotations

import stat
import uuid
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID

from catalog import BadRequest, Damaged, NotFound, NotPermitted
from federation.trust import office
from federation.trust.authority import Authority, certify_authority, found, read_issuer
from federation.trust.bundle import open_bundle, seal_bundle, with_authorities, with_successor, without_root
from federation.trust.certificates import (
    Issuer,
    Node,
    make_intermediate,
    make_leaf,
    make_root,
    make_successor,
    parse,
    to_der,
)
from federation.trust.credentials import Credentials, check_admission, pending_key, write_pair
from federation.trust.keys import make_key, parse_key, write_secret
from federation.trust.names import check_node_id, grid_id_of, server_name, spoken
from federation.trust.trust import Documents, Trust, Versions
from tests.federation.members import Grid, Hand, make_grid


def test_a_nodes_certificate_is_of_the_fixed_shape(grid: Grid) -> None:
    member = grid.node("brno")
    leaf = member.credentials.pair.chain[0]
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [
        f"spiffe://{grid.trust.grid_id.hex()}/node/{member.node_id}"
    ]
    assert names.get_values_for_type(x509.DNSName) == [f"{member.node_id}.node.grid.internal"]
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    assert leaf.not_valid_before_utc.timestamp() == grid.clock() - 3600
    assert leaf.not_valid_after_utc.timestamp() == grid.clock() + 30 * 86400
    root, authority = parse(grid.trust.bundle.roots[0]), grid.trust.authorities()[0]
    lengths = [
        each.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length
        for each in (root, authority)
    ]
    assert lengths == [1, 0]
    assert grid.trust.grid_id == grid_id_of(root.public_key().public_bytes(*_der_spki()))


def _der_spki() -> tuple[object, object]:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return Encoding.DER, PublicFormat.SubjectPublicKeyInfo


def test_keys_are_files_that_only_the_node_may_read(grid: Grid) -> None:
    member = grid.node("brno")
    files = [*(grid.folder / "identity").iterdir(), member.folder / "node.pem"]
    assert {path.name for path in files} == {"root.pem", "authority.pem", "node.pem"}
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in files)
    (member.folder / "node.pem").chmod(0o640)
    with pytest.raises(Damaged, match="Others on this machine may read"):
        Credentials(member.folder, grid.clock)


def test_a_grid_is_founded_once(grid: Grid) -> None:
    with pytest.raises(BadRequest, match="in a grid already"):
        found(grid.folder / "identity", grid.tables, "again", grid.clock)


def test_a_certificate_of_another_grid_is_told_apart(grid: Grid, tmp_path: Path) -> None:
    other = make_grid(tmp_path / "other")
    stranger = other.node("brno")
    with pytest.raises(NotPermitted, match=spoken(other.trust.grid_id)):
        grid.trust.identify(stranger.credentials.pair.leaf)
    other.close()


def test_a_certificate_that_only_names_the_grid_is_refused(grid: Grid) -> None:
    key = make_key()
    root = Issuer(make_root("CZ-MED", key, grid.clock()), key)
    fake = Issuer(make_intermediate(root, "CZ-MED", key.public_key(), grid.clock()), key)
    leaf = make_leaf(fake, grid.trust.grid_id, Node(str(uuid.uuid4()), "A", "a"), key.public_key(), 1.8e9)
    with pytest.raises(NotPermitted, match="not from an authority"):
        grid.trust.identify(to_der(leaf))


@pytest.mark.parametrize(
    ("skew", "refused"),
    [(-2 * 3600, "begins on"), (-1800, ""), (0, ""), (29 * 86400, ""), (40 * 86400, "ended on")],
)
def test_a_wrong_clock_is_told_with_what_it_says(grid: Grid, skew: float, refused: str) -> None:
    member = grid.node("brno")
    grid.clock.now += skew
    if not refused:
        assert grid.trust.identify(member.credentials.pair.leaf).name == "brno"
        return
    with pytest.raises(NotPermitted, match=refused):
        grid.trust.identify(member.credentials.pair.leaf)


def test_an_expelled_node_counts_no_more_anywhere_the_news_reach(grid: Grid) -> None:
    alpha, beta = grid.node("alpha"), grid.node("beta")
    assert alpha.trust.identify(beta.credentials.pair.leaf)
    grid.authority.revoke(beta.node_id)
    with pytest.raises(NotPermitted, match="expelled"):
        grid.trust.identify(beta.credentials.pair.leaf)
    assert alpha.trust.identify(beta.credentials.pair.leaf)
    grid.tell(alpha)
    with pytest.raises(NotPermitted, match="expelled"):
        alpha.trust.identify(beta.credentials.pair.leaf)
    assert alpha.trust.versions() == grid.trust.versions()


def test_an_old_list_does_not_take_the_place_of_a_newer_one(grid: Grid) -> None:
    alpha, beta = grid.node("alpha"), grid.node("beta")
    old = grid.trust.newer_than(Versions()).crls
    grid.authority.revoke(beta.node_id)
    grid.tell(alpha)
    assert not alpha.trust.accept(Documents(crls=old))
    assert alpha.trust.is_revoked(beta.credentials.pair.identity)


def test_a_list_that_nobody_in_force_signed_is_passed_over(grid: Grid, tmp_path: Path) -> None:
    other = make_grid(tmp_path / "other")
    victim = grid.node("victim")
    other.tables.peers.put(victim.node_id.encode(), grid.tables.peers.get(victim.node_id.encode()))  # type: ignore[arg-type]
    other.authority.revoke(victim.node_id)
    forged = other.trust.newer_than(Versions())
    assert not grid.trust.accept(Documents(b"", forged.crls, b""))
    assert not grid.trust.accept(forged)
    assert grid.trust.identify(victim.credentials.pair.leaf)
    other.close()


def test_every_changed_byte_of_a_document_is_noticed(grid: Grid) -> None:
    alpha = grid.node("alpha")
    grid.authority.revoke(alpha.node_id)
    crl = grid.trust.newer_than(alpha.trust.versions()).crls[0]
    bundle = grid.trust.newer_than(Versions()).bundle
    for at in range(0, len(crl), 3):
        assert not alpha.trust.accept(Documents(crls=(_flip(crl, at),)))
    for at in range(0, len(bundle), 3):
        with pytest.raises((BadRequest, NotPermitted)):
            open_bundle(_flip(bundle, at), grid.trust.grid_id, None)


def _flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :]


def test_another_process_of_the_node_sees_a_revocation(grid: Grid) -> None:
    beta = grid.node("beta")
    beside = Trust(grid.tables.documents, grid.trust.grid_id, grid.clock)
    grid.authority.revoke(beta.node_id)
    assert beside.refresh()
    with pytest.raises(NotPermitted):
        beside.identify(beta.credentials.pair.leaf)


def test_a_list_older_than_a_day_is_alarming_and_the_authority_keeps_it_fresh(grid: Grid) -> None:
    assert grid.trust.stale_lists() == 0
    grid.clock.now += 86400 + 60
    assert grid.trust.stale_lists() > 86400
    grid.authority.step()
    assert grid.trust.stale_lists() == 0


def test_renewal_is_due_at_half_life_give_or_take(grid: Grid) -> None:
    due = [grid.node(f"n{number}").credentials.renew_at() - grid.clock() for number in range(12)]
    assert all(0.45 * 30 <= seconds / 86400 <= 0.55 * 30 for seconds in due)
    assert len({round(seconds) for seconds in due}) > 6


def test_a_renewed_pair_is_in_force_without_a_restart(grid: Grid) -> None:
    member = grid.node("brno")
    grid.clock.now += 17 * 86400
    assert member.credentials.is_due()
    key = make_key()
    old = member.credentials.pair
    member.credentials.replace(key, grid.authority.renew(member.credentials.pair.identity, key.public_key()))
    assert not member.credentials.is_due()
    assert member.credentials.pair.identity.serial != old.identity.serial
    assert grid.trust.identify(old.leaf).node_id == grid.trust.identify(member.credentials.pair.leaf).node_id


def test_a_pair_that_does_not_belong_together_never_takes_the_place_of_one_that_does(grid: Grid) -> None:
    member = grid.node("brno")
    chain = grid.authority.renew(member.credentials.pair.identity, make_key().public_key())
    with pytest.raises(Damaged):
        write_pair(member.folder, make_key(), chain)
    with pytest.raises(Damaged, match="somebody else"):
        check_admission(grid.trust, chain, member.node_id, make_key())
    assert Credentials(member.folder, grid.clock).pair.identity == member.credentials.pair.identity


@pytest.mark.parametrize(
    ("days", "told"), [(10, ""), (17, "ends in 13"), (29.5, "ends in 0.5"), (31, "has ended")]
)
def test_a_person_is_told_before_a_certificate_ends(grid: Grid, days: float, told: str) -> None:
    member = grid.node("brno")
    grid.clock.now += days * 86400
    assert told in member.credentials.alarm()
    assert bool(told) == bool(member.credentials.alarm())


def test_the_key_that_waits_survives_a_restart(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        pending_key(tmp_path)
    made = pending_key(tmp_path, make_key())
    assert pending_key(tmp_path, make_key()).private_numbers() == made.private_numbers()


def test_a_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization

    pem = ed25519.Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    write_secret(tmp_path / "key", pem)
    with pytest.raises(Damaged, match="P-256"):
        parse_key(pem, "key")


def test_the_root_changes_by_old_and_new_then_new_alone(grid: Grid) -> None:
    """Publish both, switch issuance, remove the old one: members follow, also one that missed the middle."""
    alpha, late = grid.node("alpha"), grid.node("late")
    now = grid.clock()
    root = read_issuer(grid.folder / "identity" / "root.pem")
    key, own = make_key(), make_key()
    successor = Issuer(make_root("CZ-MED", key, now), key)
    both = with_successor(
        grid.trust.bundle, root, successor, make_successor(root, successor.certificate, now)
    )
    grid.trust.accept(Documents(bundle=both))
    grid.tell(alpha)
    assert len(alpha.trust.bundle.roots) == 2
    assert alpha.trust.identify(late.credentials.pair.leaf)

    authority = Issuer(make_intermediate(successor, "CZ-MED", own.public_key(), now), own)
    names = (*grid.trust.bundle.authorities, to_der(authority.certificate))
    grid.trust.accept(Documents(bundle=with_authorities(grid.trust.bundle, successor, names)))
    issuing = Authority(authority, grid.trust, grid.tables, grid.clock)
    leaf = issuing.renew(alpha.credentials.pair.identity, make_key().public_key())[0]
    grid.trust.accept(Documents(bundle=without_root(grid.trust.bundle, successor, root.certificate)))
    for member in (alpha, late):
        grid.tell(member)
        assert member.trust.bundle.version == 4
        assert member.trust.identify(leaf).node_id == alpha.node_id
        with pytest.raises(NotPermitted):
            member.trust.identify(late.credentials.pair.leaf)


def test_a_root_that_was_left_behind_can_publish_nothing(grid: Grid) -> None:
    alpha = grid.node("alpha")
    now = grid.clock()
    root = read_issuer(grid.folder / "identity" / "root.pem")
    key = make_key()
    successor = Issuer(make_root("CZ-MED", key, now), key)
    first = grid.trust.bundle
    both = with_successor(first, root, successor, make_successor(root, successor.certificate, now))
    alpha.trust.accept(Documents(bundle=both))
    alpha.trust.accept(Documents(bundle=without_root(alpha.trust.bundle, successor, root.certificate)))
    assert alpha.trust.bundle.version == 3
    attempts = [
        seal_bundle(type(first)(first.grid_id, first.name, 9, first.lineage, first.roots, ()), root),
        with_authorities(alpha.trust.bundle, root, ()),
    ]
    assert not any(alpha.trust.accept(Documents(bundle=each)) for each in attempts)
    assert alpha.trust.bundle.version == 3


def test_a_second_authority_may_renew_and_expel(grid: Grid) -> None:
    alpha, beta = grid.node("alpha"), grid.node("beta")
    root = read_issuer(grid.folder / "identity" / "root.pem")
    key = make_key()
    der = certify_authority(root, grid.trust, key.public_key(), "Praha", grid.clock())
    grid.trust.accept(
        Documents(bundle=with_authorities(grid.trust.bundle, root, (*grid.trust.bundle.authorities, der)))
    )
    second = Authority(Issuer(parse(der), key), grid.trust, grid.tables, grid.clock)
    assert grid.trust.identify(second.renew(alpha.credentials.pair.identity, make_key().public_key())[0])
    second.revoke(beta.node_id)
    with pytest.raises(NotPermitted, match="expelled"):
        grid.trust.identify(beta.credentials.pair.leaf)
    grid.tell(alpha)
    assert alpha.trust.versions() == grid.trust.versions()


def test_whom_an_authority_expelled_stays_so_when_it_is_none_any_more(grid: Grid, tmp_path: Path) -> None:
    alpha, beta = grid.node("alpha"), grid.node("beta")
    root = read_issuer(grid.folder / "identity" / "root.pem")
    office.certify(root, grid.trust, office.ask(tmp_path), "Brno", grid.clock())
    assert office.has_changed(tmp_path, grid.trust, None)
    assert not office.has_changed(tmp_path, grid.trust, None), "it took office"
    brno = office.holder(tmp_path, grid.trust, grid.tables, grid.clock)
    assert brno is not None
    brno.revoke(beta.node_id)
    grid.tell(alpha)
    office.dismiss(root, grid.trust, grid.authority, office.id_of(brno.issuer.certificate))
    grid.tell(alpha)
    for trust in (grid.trust, alpha.trust):
        assert [each.name for each in office.in_force(trust)] == ["CZ-MED"]
        with pytest.raises(NotPermitted, match="expelled"):
            trust.identify(beta.credentials.pair.leaf)
    assert office.has_changed(tmp_path, grid.trust, brno)
    assert office.holder(tmp_path, grid.trust, grid.tables, grid.clock) is None
    with pytest.raises(BadRequest, match="without an authority"):
        office.dismiss(root, grid.trust, grid.authority, office.id_of(grid.authority.issuer.certificate))


def test_time_is_the_only_thing_a_member_needs_to_recover_from_a_wrong_clock(grid: Grid) -> None:
    behind = Hand(grid.clock() - 40 * 86400)
    member = grid.node("brno", behind)
    with pytest.raises(NotPermitted, match="begins on"):
        member.trust.identify(member.credentials.pair.leaf)
    behind.now = grid.clock()
    assert member.trust.identify(member.credentials.pair.leaf)
    assert server_name(member.node_id).endswith(".node.grid.internal")


@pytest.mark.parametrize("text", ["", "x", "0" * 36])
def test_what_is_no_uuid_is_no_node_id(text: str) -> None:
    with pytest.raises(BadRequest):
        check_node_id(text)
