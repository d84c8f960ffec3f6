"""The search index: Tantivy, one document per series, that proposes what the matcher then decides.

It holds nothing that is not in LMDB, and may be deleted at any time: a folder without the token LMDB knows
is emptied and grows back. Only the writer of the catalog opens it for writing.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

import tantivy

from .errors import OutOfSpace
from .model import Attributes
from .terms import FIELD, GRAM, GRAMS, question_about

_NUMBER: Final = "n"
_ORDINAL: Final = "o"
_HEAP: Final = 15_000_000
"""Bytes Tantivy gathers before it writes a segment; its own minimum."""
_TOKEN: Final = "token"
_TRIES: Final = 3
_FIRST_PAGE: Final = 128
_HIGHEST: Final = 1 << 64


class IndexGone(Exception):
    """Somebody removed the index while it was written: it is to begin anew, and no disk is full."""


class Hit(NamedTuple):
    """A proposed series, and the order of its study when it was indexed (see `order.ordinal`)."""

    ordinal: int
    number: int


class SearchIndex:
    """One open index; any thread may ask, one at a time may write.

    With `is_read_only` another process writes it: each question sees what that has committed by then.
    """

    def __init__(self, path: Path, token: bytes, *, is_read_only: bool = False) -> None:
        builder = tantivy.SchemaBuilder()
        builder.add_text_field(FIELD, tokenizer_name="raw", index_option="basic")
        builder.add_text_field(GRAMS, tokenizer_name=GRAMS, index_option="basic")
        builder.add_unsigned_field(_NUMBER, indexed=True, fast=True)
        builder.add_unsigned_field(_ORDINAL, fast=True)
        self._schema = builder.build()
        self._path = path
        self._token = token
        self._is_read_only = is_read_only
        self._index: tantivy.Index | None = None
        self._folder = 0
        """The inode of the folder that was opened: one that grew back is another."""
        self._writer: tantivy.IndexWriter | None = None
        if is_read_only:
            self.is_new = False
            return
        opened = self._opened(path, token)
        self.is_new = opened is None
        self._use(opened or self._made(path, token))

    def _current(self) -> tantivy.Index | None:
        """Return the index to ask; of one that another process writes, as it has committed it by now."""
        if self._is_read_only:
            # Between the writer's list of files and our opening them it may have merged some away.
            for _ in range(_TRIES):
                with suppress(ValueError, OSError):
                    return self._caught_up()
            return None
        return self._index

    def _caught_up(self) -> tantivy.Index | None:
        folder = self._path.stat().st_ino
        if self._index is None or folder != self._folder:
            opened = self._opened(self._path, self._token)
            if opened is None:
                return None
            self._use(opened)
            self._folder = folder
        index = self._index
        if index is not None:
            index.reload()
        return index

    @property
    def is_gone(self) -> bool:
        """Whether somebody removed the index from the disk; what is open still answers."""
        return not (self._path / _TOKEN).exists()

    def remove(self) -> None:
        """Remove it from the disk, whoever writes it just now; what is open still answers."""
        removed = self._path.with_name(f"{self._path.name}.removed")
        shutil.rmtree(removed, ignore_errors=True)
        # Out of the writer's reach first: it would put new files beside those that are being removed.
        with suppress(FileNotFoundError):
            self._path.rename(removed)
        shutil.rmtree(removed, ignore_errors=True)

    def begin_anew(self, token: bytes) -> None:
        """Go on with an empty index in the place of one that is gone."""
        self._use(self._made(self._path, token))

    def _use(self, index: tantivy.Index) -> None:
        grams = tantivy.Tokenizer.ngram(GRAM, GRAM, False)
        index.register_tokenizer(GRAMS, tantivy.TextAnalyzerBuilder(grams).build())
        self._index = index
        self._writer = None

    def _opened(self, path: Path, token: bytes) -> tantivy.Index | None:
        """Return the index if it is this catalog's and of this program's making; another grows back."""
        try:
            if (path / _TOKEN).read_bytes() != token or not tantivy.Index.exists(os.fspath(path)):
                return None
            return tantivy.Index(self._schema, path=os.fspath(path))
        except (OSError, ValueError):
            return None

    def _made(self, path: Path, token: bytes) -> tantivy.Index:
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        index = tantivy.Index(self._schema, path=os.fspath(path))
        (path / _TOKEN).write_bytes(token)
        return index

    def put(self, number: int, ordinal: int, terms: Iterable[str], text: str) -> None:
        """Index a series anew; it is found after `commit`."""
        document = tantivy.Document(**{FIELD: list(set(terms)), GRAMS: text})
        document.add_unsigned(_NUMBER, number)
        document.add_unsigned(_ORDINAL, ordinal)
        with self._writing() as writer:
            writer.delete_documents_by_term(_NUMBER, number)
            writer.add_document(document)

    def drop(self, number: int) -> None:
        """Have a series not proposed any more, after `commit`."""
        with self._writing() as writer:
            writer.delete_documents_by_term(_NUMBER, number)

    def commit(self) -> None:
        """Put what was indexed on disk and let it be found.

        Raises:
            OutOfSpace: it could not be written; whatever was put since the last commit must be put again.
            IndexGone: it was removed, see `begin_anew`.
        """
        with self._writing() as writer:
            writer.commit()
        assert self._index is not None
        self._index.reload()

    @contextmanager
    def _writing(self) -> Iterator[tantivy.IndexWriter]:
        try:
            if self._writer is None:
                assert self._index is not None
                self._writer = self._index.writer(heap_size=_HEAP, num_threads=1)
            yield self._writer
        except ValueError as error:
            # A writer whose disk was full is dead for good; a new one takes up where the last commit was.
            self._writer = None
            if self.is_gone:
                raise IndexGone from error
            raise OutOfSpace(
                "The search index could not be written.",
                "Free space on its disk; it catches up by itself, and until then searches are slower.",
            ) from error

    def propose(self, keys: Attributes) -> Iterator[list[Hit]] | None:
        """Yield pages of series that all keys could match, newest study first; None if nothing narrows."""
        questions = [
            (tantivy.Occur.Must, question)
            for tag, key in keys.items()
            if (question := question_about(self._schema, tag, key)) is not None
        ]
        index = self._current() if questions else None
        if index is None:
            return None
        return self._pages(index, tantivy.Query.boolean_query(questions))

    def _pages(self, index: tantivy.Index, query: tantivy.Query) -> Iterator[list[Hit]]:
        """Yield the hits in portions of falling ordinals, all hits of one ordinal in one portion.

        Among equals Tantivy keeps no order from one search to the next, so a portion is what is certainly
        above the last hit, and the next search begins anew and reaches further.
        """
        searcher = index.searcher()
        size, done = _FIRST_PAGE, _HIGHEST
        while True:
            found = searcher.search(query, limit=size, count=False, order_by_field=_ORDINAL).hits
            is_all = len(found) < size
            last = -1 if is_all else int(found[-1][0] or 0)
            portion = [
                (ordinal, address) for value, address in found if last < (ordinal := int(value or 0)) <= done
            ]
            numbers = searcher.fast_field_values(_NUMBER, [address for _, address in portion])
            yield [
                Hit(ordinal, int(number or 0)) for (ordinal, _), number in zip(portion, numbers, strict=True)
            ]
            if is_all:
                return
            done = last
            size *= 4

    def close(self) -> None:
        """Stop the writer; what was not committed is indexed again later."""
        if self._writer is not None:
            self._writer.wait_merging_threads()
            self._writer = None
