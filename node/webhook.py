"""Alarms to a web address, as signed JSON: whoever takes them can tell that this node sent them, and when."""

from __future__ import annotations

import hashlib
import hmac
import urllib.error
import urllib.request
from typing import Final

import msgspec

from catalog import Clock, Unavailable

from .audit import Line

_PATIENCE: Final = 10.0
SIGNATURE: Final = "PeerPACS-Signature"


def signature(secret: bytes, now: int, body: bytes) -> str:
    """Return the header's value: the time in Unix seconds, and HMAC-SHA256 over time, a dot and the body."""
    made = hmac.digest(secret, f"{now}.".encode() + body, hashlib.sha256)
    return f"t={now},v1={made.hex()}"


class Webhook:
    """One address; each alarm is a POST, which may come twice and carries an id by which that is seen."""

    def __init__(self, url: str, secret: bytes, node: str, clock: Clock) -> None:
        """`node` is the name under which alarms are sent."""
        self._url = url
        self._secret = secret
        self._node = node
        self._clock = clock

    def send(self, lines: list[Line]) -> None:
        """Send alarms in order.

        Raises:
            Unavailable: one was not taken; it and those after it come again.
        """
        for line in lines:
            told = {
                "id": f"{self._node}/{line.sequence}",
                "node": self._node,
                "time": line.time,
                "alarm": line.outcome,
                "what": str(line.detail.get("what", "")),
                "detail": line.detail,
            }
            self._post(msgspec.json.encode(told))

    def _post(self, body: bytes) -> None:
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "PeerPACS",
            SIGNATURE: signature(self._secret, int(self._clock()), body),
        }
        request = urllib.request.Request(self._url, body, headers, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=_PATIENCE) as answer:
                status = answer.status
        except urllib.error.HTTPError as error:
            status = error.code
            error.close()
        except OSError as error:
            what = f"The address for alarms does not answer: {error}."
            raise Unavailable(what, "Check [tell] webhook; alarms wait in the audit.") from error
        if not 200 <= status < 300:
            what = f"The address for alarms answered {status}."
            raise Unavailable(what, "Check [tell] webhook; alarms wait in the audit.")
