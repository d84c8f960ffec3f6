"""The case of the study list: how soon a person sees rows, in Chromium, while the node takes instances in."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, Final

from . import clients
from .cases import Case, Contestant, Figures
from .clients import ClientError
from .filling import fill_server
from .pdu import Address
from .phantoms import study
from .report import Goal, Row
from .servers import Server
from .web import WebPeerPACS, web_port

if TYPE_CHECKING:
    from playwright.sync_api import Browser

_FILLED_SEED, _SENT_SEED = 9, 10
_BATCHES, _IN_A_BATCH = 40, 250
"""Studies of two instances each."""
_WATCH: Final = """
new MutationObserver((_, observer) => {
  if (document.querySelector('tbody tr')) { window.firstRows = performance.now(); observer.disconnect() }
}).observe(document, { childList: true, subtree: true })
"""
"""Notes when the first row is in the document, in milliseconds since the navigation began."""


@dataclass(slots=True)
class StudyList(Case):
    """The page is opened by a browser that was never there, and then again, beside four senders."""

    studies: int = 100_000
    repetitions: int = 9
    name: str = "page"
    is_fresh_each_run: bool = False
    _scratch: Path = field(default_factory=Path)

    @property
    def title(self) -> str:
        return f"The study list in Chromium with {self.studies} studies, while instances arrive"

    @property
    def rows(self) -> tuple[Row, ...]:
        return (
            Row("first rows, first visit", "ms", more_is_better=False, goal=Goal(at_most=200)),
            Row("first rows, again", "ms", more_is_better=False, goal=Goal(at_most=200)),
            Row("first rows of a search, again", "ms", more_is_better=False, goal=Goal(at_most=200)),
            Row("first rows, again, nothing arriving", "ms", more_is_better=False),
        )

    @property
    def contestants(self) -> dict[str, Contestant]:
        return {"PeerPACS": WebPeerPACS}

    def prepare(self, scratch: Path, destination: Address) -> None:
        self._scratch = scratch

    def load(self, server: Server) -> None:
        assert isinstance(server, WebPeerPACS)
        shape = {"series": 1, "instances_in_a_series": 1}
        fill_server(server, self._scratch / "shared", self.studies, _FILLED_SEED, **shape)

    def measure(self, server: Server, run: int) -> Figures:
        root = f"http://127.0.0.1:{web_port(server)}/"
        with _browser() as browser:
            quiet = self._again(browser, root)
            with TemporaryDirectory(dir=self._scratch) as folder, _arriving(server, Path(folder), run):
                first = median(_first_rows(_visitor(browser), root) for _ in range(self.repetitions))
                again = self._again(browser, root)
                search = self._again(browser, f"{root}?PatientName=M")
        return {
            "first rows, first visit": first,
            "first rows, again": again,
            "first rows of a search, again": search,
            "first rows, again, nothing arriving": quiet,
        }

    def _again(self, browser: Browser, url: str) -> float:
        page = _visitor(browser)
        _first_rows(page, url)
        return median(_first_rows(page, url) for _ in range(self.repetitions))


@contextmanager
def _browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium")
    if program is None:
        raise ClientError("Chromium is missing: sh tools/programs.sh brings it.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        try:
            yield browser
        finally:
            browser.close()


def _visitor(browser: Browser) -> Any:
    """Return a window of somebody whose cache is empty."""
    page = browser.new_context().new_page()
    page.add_init_script(_WATCH)
    return page


def _first_rows(page: Any, url: str) -> float:
    page.goto(url)
    page.wait_for_selector("tbody tr")
    return float(page.evaluate("() => window.firstRows"))


@contextmanager
def _arriving(server: Server, folder: Path, run: int) -> Iterator[None]:
    """Have four senders at a time store small studies that are new to the node, until the block is left."""
    batches = []
    for batch in range(_BATCHES):
        first = _IN_A_BATCH * (run * _BATCHES + batch)
        studies = (study(_SENT_SEED, first + n, instances=2) for n in range(_IN_A_BATCH))
        batches.append(clients.write(studies, folder / str(batch), 4))
    over, trouble = Event(), list[ClientError]()

    def send() -> None:
        try:
            for folders in batches:
                if over.is_set():
                    return
                clients.store(server.address, folders)
            trouble.append(ClientError("All instances were sent before everything was measured."))
        except ClientError as error:
            trouble.append(error)

    sender = Thread(target=send, name="arriving")
    sender.start()
    try:
        yield
    finally:
        over.set()
        sender.join()
    if trouble:
        raise trouble[0]
