"""Targets as a command line names them: where they are, what opens them, and whom they are trusted by."""

from __future__ import annotations

import ssl
from base64 import b64encode
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import click

from ..pdu import Address
from ..secure import Secure
from ..targets import Target


def authorization(token_file: Path | None, password_file: Path | None) -> str:
    """Return the Authorization that files say, empty without one.

    Raises:
        UsageError: there are two, or one is not what it should be.
    """
    if token_file and password_file:
        raise click.UsageError("A token and a password are two. Give --token-file or --password-file.")
    if token_file:
        return f"Bearer {token_file.read_text().strip()}"
    if not password_file:
        return ""
    words = password_file.read_text().strip()
    if ":" not in words:
        raise click.UsageError(f"{password_file} does not have NAME:PASSWORD in it.")
    return f"Basic {b64encode(words.encode()).decode()}"


def trusting(ca_file: Path | None) -> ssl.SSLContext | None:
    """Return what trusts the CAs of a file. Raises UsageError if there are none in it."""
    try:
        return ssl.create_default_context(cafile=str(ca_file)) if ca_file else None
    except ssl.SSLError:
        raise click.UsageError(f"{ca_file} has no certificate as PEM.") from None


def secured(is_wanted: bool, ca: Path | None, certificate: Path | None, key: Path | None) -> Secure | None:
    """Return how DICOM is encrypted, None if it is not; a key may be in the file of its certificate.

    Raises:
        UsageError: there is a key alone, or a file has not in it what it should.
    """
    if key and not certificate:
        raise click.UsageError("A key needs its certificate: --tls-cert.")
    if not (is_wanted or ca or certificate):
        return None
    try:
        return Secure(ca, (certificate, key or certificate) if certificate else None)
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def named(addresses: Iterable[str], webs: Iterable[str], elsewheres: Iterable[str] = ()) -> list[Target]:
    """Return the targets of the options; addresses and a URL of the same name, or of none, are one target.

    Raises:
        UsageError: an address or URL cannot be understood, or another site is of no target.
    """
    found: dict[str, Target] = {}
    for text in addresses:
        name, address = _address(text)
        if name in found:
            raise click.UsageError(
                f"{text!r} is a second target of that name. Give each one its own: NAME={text}."
            )
        found[name] = Target(name=name or address.ae_title, address=address)
    for text in webs:
        name, _, url = text.rpartition("=") if "=" in text.partition("://")[0] else ("", "", text)
        if urlsplit(url).scheme not in ("http", "https"):
            raise click.UsageError(f"{url!r} is no URL. Write for example http://pacs:8042/dicom-web.")
        if "@" in urlsplit(url).netloc:
            raise click.UsageError(
                "A password does not belong into a URL. Write it in a file: --password-file."
            )
        there = found.get(name) or Target(name=name or urlsplit(url).netloc)
        found[name] = replace(there, web=url.rstrip("/"))
    for text in elsewheres:
        name, address = _address(text)
        if not name and len(found) == 1:
            [name] = found
        if name not in found:
            raise click.UsageError(f"{text!r} is elsewhere of no target. Name it as the target: NAME=...")
        found[name] = replace(found[name], elsewhere=address)
    return list(found.values())


def _address(text: str) -> tuple[str, Address]:
    name, _, rest = text.rpartition("=")
    try:
        return name, Address.read(rest)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
