"""The short way to a small object: a URL that boto3 signed, sent by botocore's own HTTP session.

botocore spends more on a GET than the GET itself takes. This way is for objects that are got whole, many in a
row; whatever is not a plain success is None here, and asked again the long way, which knows what it means.
"""

from __future__ import annotations

from typing import Any, Final

_VALID: Final = 300
"""Seconds."""


class SignedReads:
    """GETs of whole objects with one client's credentials; any thread may call."""

    def __init__(self, client: Any, connect_timeout: float, read_timeout: float, connections: int) -> None:
        from botocore.httpsession import URLLib3Session
        from botocore.session import get_session

        self._client = client
        self._http = URLLib3Session(
            verify=get_session().get_config_variable("ca_bundle") or True,
            timeout=(connect_timeout, read_timeout),
            max_pool_connections=connections,
        )

    def get(self, where: dict[str, str], limit: int) -> bytes | None:
        """Return an object of at most `limit` bytes; None if it did not come, for whatever reason."""
        from botocore.awsrequest import AWSPreparedRequest
        from botocore.exceptions import BotoCoreError, ClientError
        from urllib3.exceptions import HTTPError

        try:
            url = self._client.generate_presigned_url("get_object", Params=where, ExpiresIn=_VALID)
            answer = self._http.send(AWSPreparedRequest("GET", url, {}, None, True))
            try:
                expected = int(answer.headers.get("Content-Length", -1))
                if answer.status_code != 200 or not 0 <= expected <= limit:
                    return None
                data = bytes(answer.raw.read(expected))
            finally:
                answer.raw.release_conn() if answer.status_code == 200 else answer.raw.close()
        except (BotoCoreError, ClientError, HTTPError, OSError):
            return None
        return data if len(data) == expected else None

    def close(self) -> None:
        """Give the connections back."""
        self._http.close()
