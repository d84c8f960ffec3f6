"""What a route sends on de-identified: each instance goes through a project's policy on its way out.

It is the same process, verifier and quarantine as at the project's own door; what nothing vouches for does
not leave, and waits for a curator. An instance is in memory while it passes, and on no disk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from anonymizer import Reason
from catalog import Entry, NotPermitted
from node.contracts import Outgoing, Retriever
from node.storage import file_meta, read_meta

from .door import Parts
from .model import Project


class PassedInstance:
    """A de-identified instance; satisfies `Outgoing`."""

    def __init__(self, file: bytes, give_back: Callable[[], None]) -> None:
        meta = read_meta(file[:65536])
        self.SOPClassUID, self.SOPInstanceUID = meta.SOPClassUID, meta.SOPInstanceUID
        self.TransferSyntaxUID = meta.TransferSyntaxUID
        self._data = memoryview(file)[meta.offset :]
        self.size = len(self._data)
        self._give_back: Callable[[], None] | None = give_back

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Fill the buffer from `offset`; return how many bytes there were."""
        piece = self._data[offset : offset + len(buffer)]
        buffer[: len(piece)] = piece
        return len(piece)

    def close(self) -> None:
        """Forget it."""
        give_back, self._give_back = self._give_back, None
        if give_back:
            give_back()


class PassingRetriever:
    """Satisfies `Retriever`: what another one opens leaves de-identified."""

    def __init__(
        self,
        retriever: Retriever,
        archive: str,
        project: str,
        parts: Parts,
        route: str,
        issuer_of: Callable[[str], str],
    ) -> None:
        """`route` is the rule that sends, told with what is held back; `issuer_of` says whose a study is.

        Raises:
            NotPermitted: the project is over, or people look at each of its releases before they leave.
        """
        self._retriever = retriever
        self._archive = archive
        self._parts = parts
        self._route = route
        self._issuer_of = issuer_of
        self._project = parts.projects.find(project)
        parts.projects.check_open(self._project)
        if self._project.approvers or self._project.reviewers:
            what = f"Persons approve or review what leaves in the project {project}, so no rule may send it."
            raise NotPermitted(what, "Order an export: peerpacs export --help")

    def expect(self, entries: Sequence[Entry], is_unwanted: Callable[[], bool] = bool) -> None:
        """See `Retriever.expect`."""
        self._retriever.expect(entries, is_unwanted)

    def open(self, entry: Entry) -> Outgoing:
        """Open an instance, de-identified.

        Raises:
            NotPermitted: nothing vouches for it, or its subject was withdrawn; it does not leave.
            OutOfSpace: there is no memory for it now.
        """
        content = self._content(entry)
        budget = self._parts.budget
        budget.take(2 * len(content), 0)
        try:
            file = self._passed(entry, content)
        except BaseException:
            budget.give(2 * len(content))
            raise
        return PassedInstance(file, lambda: budget.give(2 * len(content)))

    def _content(self, entry: Entry) -> bytes:
        outgoing = self._retriever.open(entry)
        try:
            data, at = bytearray(outgoing.size), 0
            while count := outgoing.read_into(memoryview(data)[at:], at):
                at += count
            meta = file_meta(outgoing.SOPClassUID, outgoing.SOPInstanceUID, outgoing.TransferSyntaxUID)
            return meta + data
        finally:
            outgoing.close()

    def _passed(self, entry: Entry, content: bytes) -> bytes:
        parts, project = self._parts, self._project
        outcome, file = parts.machine.take(project, content, self._issuer_of(entry.StudyInstanceUID))
        reason, sentence = str(outcome.reason), outcome.sentence
        if file and parts.projects.is_withdrawn(project.name, outcome.subject):
            raise NotPermitted(f"Its subject was withdrawn from the project {project.name}.")
        if file and parts.quarantine.is_leaking(project.name, outcome.subject):
            reason, sentence = str(Reason.LEAK_FOUND), "Another instance of its subject leaked."
        if file and not reason:
            return file
        self._hold(project, entry, reason, sentence, outcome.subject)
        raise NotPermitted(f"It was held back: {sentence}", "A curator decides: peerpacs quarantine list")

    def _hold(self, project: Project, entry: Entry, reason: str, sentence: str, subject: str) -> None:
        self._parts.quarantine.refer(
            project,
            0,
            reason=reason,
            sentence=sentence,
            export=f"route {self._route}",
            archive=self._archive,
            SOPInstanceUID=entry.SOPInstanceUID,
            subject=subject,
        )
