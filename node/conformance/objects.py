"""Tables of what is exchanged: services, SOP Classes and transfer syntaxes."""

from __future__ import annotations

from collections import Counter

from node.dimse.syntaxes import FOR_IDENTIFIERS, TRANSFER_SYNTAXES

from .claims import sop_classes
from .markdown import named, table, yes


def overview() -> str:
    """Return the table of services and the roles in them."""
    counted = Counter(each.service for each in sop_classes())
    rows = []
    for service, count in counted.items():
        of = [each for each in sop_classes() if each.service == service]
        is_scu, is_scp = any(each.is_scu for each in of), any(each.is_scp for each in of)
        rows.append((service, f"{count} SOP Class{'es' if count > 1 else ''}", yes(is_scu), yes(is_scp)))
    rows.append(("Media: reading a File-set (PS3.10), with or without DICOMDIR", "any SOP Class", "FSR", "-"))
    return table("1-1", "Services", ("Service", "Of", "SCU", "SCP"), rows)


def classes() -> str:
    """Return a table of the SOP Classes for each service."""
    heads = ("SOP Class", "UID", "SCU", "SCP")
    texts = []
    services = list(dict.fromkeys(each.service for each in sop_classes()))
    for number, service in enumerate(services, start=1):
        rows = [
            (each.name, each.uid, yes(each.is_scu), yes(each.is_scp))
            for each in sop_classes()
            if each.service == service
        ]
        texts.append(table(f"5-1.{number}", service, heads, rows))
    return "\n".join(texts)


def syntaxes() -> str:
    """Return the table of transfer syntaxes that are accepted."""
    rows = [
        (named(uid), uid, "Yes", yes(uid in FOR_IDENTIFIERS))
        for uid in sorted(TRANSFER_SYNTAXES, key=lambda uid: [int(part) for part in uid.split(".")])
    ]
    heads = ("Transfer syntax", "UID", "Storage", "All other services")
    return table("5-2", "Transfer syntaxes accepted as SCP", heads, rows)
