"""What a person means by one UID, or by several with slashes between: a study, a series or an instance."""

from __future__ import annotations

from catalog import CatalogWriter, NotFound, Selection


def target_of(catalog: CatalogWriter, text: str) -> tuple[str, ...]:
    """Return the UIDs from the study down that `study/series/instance` or any one UID names.

    Raises:
        NotFound: a single UID is nothing that is here, or that a decision was made about.
    """
    uids = tuple(part for part in text.split("/") if part)
    if len(uids) != 1:
        return uids[:3]
    [uid] = uids
    if catalog.decisions(uid) or catalog.select(Selection(studies=uids)):
        return uids
    if entries := catalog.select(Selection(series=uids)):
        return (entries[0].StudyInstanceUID, uid)
    if entries := catalog.select(Selection(instances=uids)):
        return (entries[0].StudyInstanceUID, entries[0].SeriesInstanceUID, uid)
    raise NotFound(f"{uid} is neither a study nor a series nor an instance here.", "See: peerpacs find")
