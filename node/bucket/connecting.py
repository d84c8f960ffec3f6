"""How a server is reached: its address and ways, and the connections to it under one pair of credentials."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .signed import SignedReads


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Which bucket, where, and how its server wants to be spoken to."""

    bucket: str
    url: str = ""
    """Empty means Amazon's own."""
    region: str = "us-east-1"
    access_key: str = ""
    secret_key: str = ""
    is_path_style: bool = True
    """`https://host/bucket/key` instead of `https://bucket.host/key`."""
    checksums: str = "when_required"
    """What boto3 adds and checks by itself: `when_required` or `when_supported`."""
    sends_sha256: bool = True
    """Send x-amz-checksum-sha256 with every upload; some old servers refuse the header."""
    connect_timeout: float = 5
    read_timeout: float = 30
    """Seconds."""
    connections: int = 32
    tries: int = 3
    """Of one request, at once; a single 500 or 503 is nothing a sender should hear of."""
    reread: Callable[[], tuple[str, str]] | None = None
    """Returns access key and secret key as they are now; asked when the server refuses those above."""
    prefix: str = ""
    """In front of every key, with its slash: several archives may share a bucket."""


class Line:
    """The connections to a server under one pair of credentials."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.client = _connect(endpoint)
        self.reads = SignedReads(
            self.client, endpoint.connect_timeout, endpoint.read_timeout, endpoint.connections
        )
        self.takes_signed_urls = True

    def close(self) -> None:
        """Give them back."""
        self.client.close()
        self.reads.close()


def _connect(endpoint: Endpoint) -> Any:
    """Return a client; it tries a few times at once, and longer pauses are made by who calls it."""
    import boto3
    from botocore.config import Config

    config = Config(
        signature_version="s3v4",
        s3={"addressing_style": "path" if endpoint.is_path_style else "virtual"},
        request_checksum_calculation=endpoint.checksums,
        response_checksum_validation=endpoint.checksums,
        retries={"mode": "standard", "total_max_attempts": endpoint.tries},
        connect_timeout=endpoint.connect_timeout,
        read_timeout=endpoint.read_timeout,
        max_pool_connections=endpoint.connections,
        tcp_keepalive=True,
    )
    session = boto3.session.Session()
    client = session.client(
        "s3",
        endpoint_url=endpoint.url or None,
        region_name=endpoint.region,
        aws_access_key_id=endpoint.access_key or None,
        aws_secret_access_key=endpoint.secret_key or None,
        config=config,
    )
    # Waiting for "100 Continue" costs a second at servers that do not send it, and our bodies are small.
    client.meta.events.register_last("before-call.s3", _expect_nothing)
    return client


def _expect_nothing(params: dict[str, Any], **_: object) -> None:
    params["headers"].pop("Expect", None)
