"""An old PACS of pynetdicom that answers as none should: too much, too little, twice, or never to an end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

from pydicom import Dataset, dcmread
from pynetdicom import AE, build_context, evt
from pynetdicom.dimse_primitives import C_MOVE

from node.storage import file_meta
from tests.homes import EXPLICIT, RawInstance

FIND, MOVE = "1.2.840.10008.5.1.4.1.2.2.1", "1.2.840.10008.5.1.4.1.2.2.2"
_BELOW = {"STUDY": "StudyInstanceUID", "SERIES": "SeriesInstanceUID", "IMAGE": "SOPInstanceUID"}
_PENDING = 0xFF00


class Odd:
    """What it has, and what is odd about it; all of it may be changed while it serves."""

    def __init__(self, port: int) -> None:
        """`port` is where it sends to."""
        self.has: list[Dataset] = []
        self.port = 0
        self.asked: list[Dataset] = []
        """The identifiers of every C-MOVE, in their order."""
        self.questions: list[str] = []
        """The levels of all C-FIND."""
        self.ignores: set[str] = set()
        """Keys that it does not match by."""
        self.is_twice = False
        """Whether each answer comes twice."""
        self.extra: dict[str, list[Dataset]] = {}
        """Answers by level that it gives beside its own."""
        self.at_most = 0
        """Answers after which a C-FIND ends with `ends`; 0 = all."""
        self.ends = 0xFE00
        self.mute: set[str] = set()
        """Levels at which a C-FIND is not answered as long as they are in here."""
        self.states: dict[str, int] = {}
        """By SeriesInstanceUID, the Number of Series Related Instances that it states, right or wrong."""
        self.fails: dict[str, int] = {}
        """Status of a C-MOVE by StudyInstanceUID."""
        self.hangs: set[str] = set()
        """StudyInstanceUIDs of which it says for ever that they are under way."""
        self.aborts: set[str] = set()
        """StudyInstanceUIDs at which it breaks the association."""
        self._to = port

    def keep(self, *instances: RawInstance) -> None:
        """Have it."""
        for one in instances:
            head = file_meta(one.SOPClassUID, one.SOPInstanceUID, one.TransferSyntaxUID)
            self.has.append(dcmread(BytesIO(head + one.data)))

    def find(self, event: Any) -> Iterator[tuple[int, Dataset | None]]:
        """Answer C-FIND."""
        asked = event.identifier
        level, seen = asked.QueryRetrieveLevel, set()
        self.questions.append(level)
        while level in self.mute:
            time.sleep(0.02)
        sent = 0
        for one in self.has:
            if one[_BELOW[level]].value in seen or not self._matches(one, asked):
                continue
            seen.add(one[_BELOW[level]].value)
            for _ in range(1 + self.is_twice):
                if self.at_most and sent == self.at_most:
                    yield self.ends, None
                    return
                sent += 1
                yield _PENDING, self._answer(one, asked)
        yield from ((_PENDING, each) for each in self.extra.get(level, ()))

    def _matches(self, one: Dataset, asked: Dataset) -> bool:
        for element in asked:
            if element.keyword in {"QueryRetrieveLevel", "SpecificCharacterSet", *self.ignores}:
                continue
            wanted, value = str(element.value or ""), str(one.get(element.keyword) or "")
            begin, dash, end = wanted.partition("-")
            if element.VR in ("DA", "TM") and dash:
                if not begin <= value <= (end or "9"):
                    return False
            elif wanted and wanted != value:
                return False
        return True

    def _answer(self, one: Dataset, asked: Dataset) -> Dataset:
        answer = Dataset()
        answer.SpecificCharacterSet = one.get("SpecificCharacterSet")
        for element in asked:
            setattr(answer, element.keyword, one.get(element.keyword))
        answer.QueryRetrieveLevel = asked.QueryRetrieveLevel
        if "NumberOfSeriesRelatedInstances" in asked:
            answer.NumberOfSeriesRelatedInstances = self.states.get(one.SeriesInstanceUID)
        return answer

    def move(self, event: Any) -> Iterator[Any]:
        """Send what a C-MOVE asks for, or do not."""
        asked = event.identifier
        self.asked.append(asked)
        study = str(asked.get("StudyInstanceUID") or "")
        found = [one for one in self.has if self._names(one, asked)]
        if study in self.aborts:
            event.assoc.abort()
            return
        if study in self.hangs:
            yield "127.0.0.1", self._to, {"contexts": self._contexts(found)}
            yield len(found)
            while study in self.hangs and event.assoc.is_established:
                time.sleep(0.05)
                self._say_pending(event, len(found))
            yield 0xC000, None
            return
        if study in self.fails:
            yield "127.0.0.1", self._to, {"contexts": self._contexts(found)}
            yield len(found)
            yield self.fails[study], None
            return
        yield "127.0.0.1", self._to, {"contexts": self._contexts(found)}
        yield len(found)
        yield from ((_PENDING, one) for one in found)

    @staticmethod
    def _say_pending(event: Any, remaining: int) -> None:
        said = C_MOVE()
        said.MessageIDBeingRespondedTo = event.request.MessageID
        said.AffectedSOPClassUID = MOVE
        said.Status = _PENDING
        said.NumberOfRemainingSuboperations = remaining
        event.assoc.dimse.send_msg(said, event.context.context_id)

    @staticmethod
    def _names(one: Dataset, asked: Dataset) -> bool:
        for keyword in _BELOW.values():
            value = asked.get(keyword)
            wanted = [value] if isinstance(value, str) else list(value or ())
            if wanted and one[keyword].value not in wanted:
                return False
        return True

    @staticmethod
    def _contexts(found: list[Dataset]) -> list[Any]:
        return [build_context(each, EXPLICIT) for each in {one.SOPClassUID for one in found}]


@contextmanager
def odd(port: int) -> Iterator[Odd]:
    """Run one that sends to a port of this machine."""
    told = Odd(port)
    entity = AE(ae_title="OLD")
    for uid in (FIND, MOVE, "1.2.840.10008.1.1"):
        entity.add_supported_context(uid)
    handlers: list[Any] = [(evt.EVT_C_FIND, told.find), (evt.EVT_C_MOVE, told.move)]
    server: Any = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    told.port = server.server_address[1]
    try:
        yield told
    finally:
        told.hangs.clear()
        told.mute.clear()
        server.shutdown()
