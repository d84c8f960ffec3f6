"""A role of a node as another one reaches it: questions by name, asked over connections that prove who asks.

A question is its name, an archive and a body; bodies and answers are msgpack. Over tcp both sides prove by
CURVE keys who they are, and everything is encrypted.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import msgspec
import zmq

from catalog import Unavailable
from node.processes.lines import PATIENCE, Lines
from node.transfers.wires import Keys, come_to, make_keys, read_keys

SERVER_KEYS: Final = "secrets/roles.key"
"""In the home of whoever is asked: catalog and storage. Whoever only asks has the other."""
GUEST_KEYS: Final = "secrets/gateway.key"
encode: Final = msgspec.msgpack.Encoder().encode


class Question:
    """What can be asked, with the types of its body and of its answer."""

    def __init__(self, name: str, body: Any, answer: Any) -> None:
        self.name = name
        self.decode_body = msgspec.msgpack.Decoder(body).decode
        self.decode_answer = msgspec.msgpack.Decoder(answer).decode


class RoleClient:
    """A role elsewhere; any number of threads may ask at once."""

    def __init__(self, role: str, url: str, keys: Keys | None) -> None:
        """`role` is what the configuration calls it. Nothing is asked yet.

        Raises:
            BadRequest: tcp without keys.
        """

        def connect(socket: zmq.Socket[bytes]) -> None:
            come_to(socket, url, keys)

        what = f"The {role} of this node does not answer at {url}."
        remedy = f"Send again later. Does the process that has the {role} run, and do the keys fit?"
        self._lines = Lines(connect, what, remedy)
        self.url = url
        self.close = self._lines.close

    def ask(
        self, question: Question, archive: str = "", body: object = None, patience: float = PATIENCE
    ) -> Any:
        """Return the answer.

        Raises:
            Unavailable: nobody is there; nothing was asked.
            Uncertain: no answer came; whether it was done is not known.
            PacsError: what was refused.
        """
        answer = self._lines.ask(question.name.encode(), archive.encode(), encode(body), patience=patience)
        return question.decode_answer(answer)


def server_keys(home: Path, url: str, *, may_make: bool) -> Keys | None:
    """Return the keys of a role that is asked; None for a URL that only this machine's user can reach.

    Raises:
        NotFound: there are none, and this process may not make any.
    """
    if not url.startswith("tcp:"):
        return None
    path = home / SERVER_KEYS
    return make_keys(path, Path(GUEST_KEYS).name) if may_make else read_keys(path)


def guest_keys(home: Path, url: str) -> Keys | None:
    """Return what proves that this process may ask.

    Raises:
        NotFound: nobody copied it here.
    """
    if not url.startswith("tcp:"):
        return None
    own = home / SERVER_KEYS
    return read_keys(own if own.exists() else home / GUEST_KEYS)


def is_there(client: RoleClient, question: Question) -> bool:
    """Say whether a role answers."""
    try:
        client.ask(question, patience=3.0)
    except Unavailable:
        return False
    return True
