"""Long answers between peers: the next part is made, or fetched, while the last one is worked on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Final, TypeVar

T = TypeVar("T")
_SHORT: Final = 2
"""So many items are no long answer: they are worth no thread."""


def ahead(items: Iterator[T], give_up: Callable[[], object] = lambda: None) -> Iterator[T]:
    """Yield the items, none of them None, each while the next one is waited for on a thread of its own.

    `give_up` has what is waited for end soon; it is called at the end, and when nobody wants more. What
    `items` raises is raised here, in its place.
    """
    left = _SHORT
    for item in islice(items, _SHORT):
        left -= 1
        yield item
    if left:
        return
    with ThreadPoolExecutor(1, "ahead") as pool:
        try:
            coming = pool.submit(next, items, None)
            while (item_or_end := coming.result()) is not None:
                coming = pool.submit(next, items, None)
                yield item_or_end
        finally:
            give_up()
