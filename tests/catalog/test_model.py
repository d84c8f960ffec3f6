"""Whatever happens in whatever order, the rows are what a naive model says, and so are counts and digests."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catalog import Arrival, Decision, Entry, Level, LmdbCatalog, PacsError, Recorded, Selection, Verb
from catalog.statements import is_tombstone
from tests.catalog.samples import Ticking, arrival, attributes, index_all, open_catalog, query
from tests.catalog.test_log import digests_from_scratch, settle

NOW = 1_700_000_000_000
STUDIES, SERIES, INSTANCES = ("1", "2"), ("1", "2"), ("1", "2")

places = st.tuples(st.sampled_from(STUDIES), st.sampled_from(SERIES), st.sampled_from(INSTANCES))
arrivals = st.tuples(st.just("arrive"), places, st.sampled_from("abc"), st.booleans())
targets = st.tuples(places, st.integers(1, 3))
verbs = st.sampled_from([Verb.REJECT, Verb.DELETE, Verb.CORRECT])
hidings = st.tuples(st.just("decide"), targets, verbs, st.sampled_from("xy"))
preferences = st.tuples(st.just("prefer"), places, st.sampled_from("abc"))
undoings = st.tuples(st.just("undo"), st.integers(0, 20))
chores = st.tuples(st.sampled_from(["index", "publish", "reopen"]))
histories = st.lists(
    st.one_of(arrivals, arrivals, arrivals, hidings, preferences, undoings, chores), max_size=30
)


@dataclass
class Model:
    """What is known, kept naively."""

    versions: dict[str, list[Entry]] = field(default_factory=dict)
    decisions: list[Decision] = field(default_factory=list)

    def in_force(self) -> list[Decision]:
        undone: set[str] = set()
        for decision in reversed(self.decisions):
            if decision.verb is Verb.UNDO and decision.id not in undone:
                undone.add(decision.detail)
        return [decision for decision in self.decisions if decision.id not in undone]

    def is_hidden(self, entry: Entry) -> bool:
        uids = (entry.StudyInstanceUID, entry.SeriesInstanceUID, entry.SOPInstanceUID)
        return any(
            decision.verb in (Verb.REJECT, Verb.DELETE)
            and uids[: len(decision.target)] == decision.target
            and (decision.verb is Verb.REJECT or entry.received <= decision.when)
            for decision in self.in_force()
        )

    def preferred(self, uid: str) -> Entry:
        versions = self.versions[uid]
        chosen = versions[0]
        for decision in self.in_force():
            if decision.verb is Verb.PREFER and decision.target[-1] == uid:
                of_choice = [e for e in versions if e.holding.sha256.hex() == decision.detail]
                in_studies = {e.StudyInstanceUID for e in versions}
                if of_choice and decision.target[0] in in_studies:
                    chosen = of_choice[0]
        return chosen

    def visible(self) -> list[Entry]:
        return [entry for uid in self.versions if not self.is_hidden(entry := self.preferred(uid))]

    def patient_of(self, study: str) -> str:
        patient = "4711"
        for decision in self.in_force():
            if decision.verb is Verb.CORRECT and decision.target == (study,):
                patient = decision.attributes["00100020"]["Value"][0]
        return patient


class Play:
    """A history played to a catalog and to the model."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.clock = Ticking()
        self.catalog = open_catalog(home, clock=self.clock)
        self.model = Model()
        self.moment = NOW

    def step(self, act: tuple[object, ...]) -> None:
        self.moment += 1
        self.clock.now += 0.25
        getattr(self, str(act[0]))(*act[1:])

    def arrive(self, place: tuple[str, str, str], content: str, is_elsewhere: bool) -> None:
        study, series, instance = place
        uid = f"9.{instance}" if is_elsewhere else f"{study}.{series}.{instance}"
        made: Arrival = arrival(study, f"{study}.{series}", uid, content=content, received=self.moment)
        known = self.model.versions.setdefault(uid, [])
        same = [e for e in known if e.holding.sha256 == made.entry.holding.sha256]
        (result,) = self.catalog.record([made])
        if not known:
            assert result is Recorded.NEW
            known.append(made.entry)
        elif not same:
            assert result is Recorded.OTHER_VERSION
            known.append(made.entry)
        elif result is Recorded.NEW:
            assert self.model.is_hidden(same[0])
            known[known.index(same[0])] = made.entry
        else:
            assert result is Recorded.SAME

    def decide(self, target: tuple[tuple[str, str, str], int], verb: Verb, word: str) -> None:
        (study, series, instance), depth = target
        uids = (study, f"{study}.{series}", f"{study}.{series}.{instance}")[
            : 1 if verb is Verb.CORRECT else depth
        ]
        values = attributes(PatientID=word) if verb is Verb.CORRECT else {}
        self._decide(verb, uids, "", values)

    def prefer(self, place: tuple[str, str, str], content: str) -> None:
        study, series, instance = place
        uid = f"9.{instance}"
        made = arrival(study, f"{study}.{series}", uid, content=content)
        self._decide(Verb.PREFER, (study, f"{study}.{series}", uid), made.entry.holding.sha256.hex(), {})

    def undo(self, index: int) -> None:
        if self.model.decisions:
            self._decide(Verb.UNDO, (), self.model.decisions[index % len(self.model.decisions)].id, {})

    def _decide(self, verb: Verb, target: tuple[str, ...], detail: str, values: dict[str, object]) -> None:
        made = Decision(
            id=f"d{self.moment}",
            verb=verb,
            target=target,
            reason="",
            who="",
            when=self.moment,
            detail=detail,
            attributes=values,  # type: ignore[arg-type]
        )
        try:
            self.catalog.decide(made)
        except PacsError:
            return
        self.model.decisions.append(made)

    def index(self) -> None:
        self.catalog.index(self.clock())

    def publish(self) -> None:
        self.catalog.publish(self.clock())

    def reopen(self) -> None:
        self.catalog.close()
        self.catalog = open_catalog(self.home, clock=self.clock)

    def check(self) -> None:
        model, catalog = self.model, self.catalog
        visible = model.visible()
        by_study = {s: [e for e in visible if e.StudyInstanceUID == s] for s in STUDIES}
        counts = {"00201206": {"vr": "IS"}, "00201208": {"vr": "IS"}}
        answers = {
            match["0020000D"]["Value"][0]: (
                match["00201206"]["Value"][0],
                match["00201208"]["Value"][0],
                match["00100020"]["Value"][0],
            )
            for match in catalog.find(query(Level.STUDY, **counts))
        }
        assert answers == {
            study: (len({e.SeriesInstanceUID for e in entries}), len(entries), model.patient_of(study))
            for study, entries in by_study.items()
            if entries
        }
        selected = [entry for s in STUDIES for entry in catalog.select(Selection(studies=(s,)))]
        assert {e.holding.sha256 for e in selected} == {e.holding.sha256 for e in visible}
        totals = catalog.totals()
        assert totals.instances == len(visible)
        assert totals.size == sum(e.holding.size for e in visible)
        assert totals.studies == len(answers)
        assert totals.open_conflicts == len(list(catalog.conflicts()))
        self._check_search(catalog, by_study)
        settle(catalog, self.clock)
        assert catalog.digests() == digests_from_scratch(catalog)
        live = {change.key for change in catalog.changes(0, 1000) if not is_tombstone(change.row)}
        assert live == {s.encode() for s in answers} | {
            f"{e.StudyInstanceUID}\0{e.SeriesInstanceUID}".encode() for e in visible
        }

    def _check_search(self, catalog: LmdbCatalog, by_study: dict[str, list[Entry]]) -> None:
        for _ in range(2):
            found = {
                m["0020000D"]["Value"][0] for m in catalog.find(query(Level.STUDY, StudyDescription="*HES*"))
            }
            assert found == {study for study, entries in by_study.items() if entries}
            for word in ("4711", "x", "y"):
                for text in (word, f"*{word}"):
                    matches = catalog.find(query(Level.STUDY, PatientID=text))
                    assert {m["0020000D"]["Value"][0] for m in matches} == {
                        s for s in found if self.model.patient_of(s) == word
                    }
            index_all(catalog, self.clock)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(histories)
def test_every_history_ends_as_the_model_says(history: list[tuple[object, ...]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        play = Play(Path(folder))
        try:
            for act in history:
                play.step(act)
            play.check()
        finally:
            play.catalog.close()
