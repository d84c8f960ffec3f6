"""The one room for boto3: an S3 bucket in a few words, with its refusals told as ours."""

from __future__ import annotations

import base64
import hashlib
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any, Final, TypeVar

from catalog import Clock, Damaged, NotFound, NotPermitted, OutOfSpace, PacsError, Unavailable

from .connecting import Endpoint, Line

logger = logging.getLogger(__name__)

T = TypeVar("T")

_PROBE_KEY: Final = "probe/checksum"
_DIGEST_CODES: Final = {
    "BadDigest",
    "InvalidDigest",
    "XAmzContentSHA256Mismatch",
    "XAmzContentChecksumMismatch",
}
_FULL_CODES: Final = {"QuotaExceeded", "InsufficientStorage", "XMinioStorageFull", "EntityTooLarge"}
_KEY_CODES: Final = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken"}
_SKEW: Final = 300.0
"""Seconds; S3 refuses requests from 15 minutes on."""
_GONE_CODES: Final = {"404", "NoSuchKey", "NoSuchUpload", "NotFound"}


class Bucket:
    """One bucket; every method may be called by many threads and raises only what `catalog.errors` has.

    Raises (each method):
        Unavailable: it does not answer, or asks to come back later.
        NotPermitted: the credentials are wrong or may not do this.
        NotFound: there is no such object or upload.
        OutOfSpace: it takes no more.
        Damaged: it received other bytes than were sent.
    """

    def __init__(self, endpoint: Endpoint, clock: Clock) -> None:
        self._endpoint = endpoint
        self._clock = clock
        self._connected: Line | None = None
        self._mutex = threading.Lock()
        self._verifies: bool | None = None
        self.answered = float("-inf")
        """When it last did what it was asked."""

    @property
    def verifies_sha256(self) -> bool:
        """Whether the server refuses bytes that do not have the SHA-256 sent with them.

        Found out once, by a small wrong upload: some servers only repeat what they were told.
        """
        if not self._endpoint.sends_sha256:
            return False
        if self._verifies is None:
            try:
                wrong = {"Body": b"probe", "ChecksumSHA256": _word(bytes(32))}
                self.ask(lambda client, where: client.put_object(**wrong, **where), _PROBE_KEY)
            except Damaged:
                self._verifies = True
            else:
                self._verifies = False
                self.delete(_PROBE_KEY)
        return self._verifies

    def probe(self) -> None:
        """Ask whether the bucket is there."""
        self.ask(lambda client, where: client.head_bucket(**where))

    def put(self, key: str, data: bytes) -> None:
        """Upload in one request; the server compares the SHA-256, or the MD5 if it knows no better."""
        words = self._checksum(data) or {
            "ContentMD5": _word(hashlib.md5(data, usedforsecurity=False).digest())
        }
        self.ask(lambda client, where: client.put_object(Body=data, **words, **where), key)

    def put_to_confirm(self, key: str, data: bytes | bytearray) -> bytes:
        """Upload what is confirmed afterwards; return the SHA-256 that the server compared, or nothing.

        A server that compares none gets no MD5 either: that costs more than reading the object back does.
        """
        words = self._checksum(data)
        self.ask(lambda client, where: client.put_object(Body=data, **words, **where), key)
        return base64.b64decode(words.get("ChecksumSHA256", ""))

    def head(self, key: str) -> tuple[int, bytes]:
        """Return how many bytes the object has, and the SHA-256 that the server keeps with it, if it does."""
        words = {"ChecksumMode": "ENABLED"} if self.verifies_sha256 else {}
        answer = self.ask(lambda client, where: client.head_object(**words, **where), key)
        told = str(answer.get("ChecksumSHA256", ""))
        # A checksum of the checksums of parts ends with their number.
        return int(answer["ContentLength"]), b"" if "-" in told else base64.b64decode(told)

    def server_time(self) -> float | None:
        """Return what time the server says it is, in seconds since 1970."""
        answer = self.ask(lambda client, where: client.head_bucket(**where))
        return _time_in(answer["ResponseMetadata"]["HTTPHeaders"].get("date", ""))

    def read(self, key: str, offset: int, length: int) -> bytes:
        """Return a range; fewer bytes when the object ends before."""
        with closing(self.stream(key, offset, length)) as stream:
            return stream.read(length)

    def whole(self, key: str, limit: int) -> bytes:
        """Return an object, or as much of it as `limit` says; the fastest way for a small one."""
        line = self._line()
        if line.takes_signed_urls:
            if (data := line.reads.get(self._where(key), limit)) is not None:
                self.answered = self._clock()
                return data
            data = self.read(key, 0, limit)
            # It came the long way and did not come the short way: the server wants no such URLs.
            line.takes_signed_urls = False
            return data
        return self.read(key, 0, limit)

    def stream(self, key: str, offset: int, length: int) -> Stream:
        """Open a range to be read piece by piece."""
        span = f"bytes={offset}-{offset + length - 1}"
        return Stream(
            self,
            self.ask(lambda client, where: client.get_object(Range=span, **where)["Body"], key),
        )

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is fine."""
        try:
            self.ask(lambda client, where: client.delete_object(**where), key)
        except NotFound:
            return

    def keys(self, prefix: str) -> Iterator[tuple[str, int, int]]:
        """Yield key, size and when it was written, in milliseconds since 1970 by the bucket's clock.

        Of every object whose key begins so, in key order.
        """
        more: dict[str, str] = {}
        while True:
            words = {"Prefix": self._endpoint.prefix + prefix, **more}
            page = self.ask(partial(_list, words))
            for item in page.get("Contents", ()):
                written = int(item["LastModified"].timestamp() * 1000)
                yield item["Key"].removeprefix(self._endpoint.prefix), int(item["Size"]), written
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def begin(self, key: str) -> str:
        """Begin an upload in parts and return its id."""
        words = {"ChecksumAlgorithm": "SHA256"} if self.verifies_sha256 else {}
        return str(
            self.ask(lambda client, where: client.create_multipart_upload(**words, **where)["UploadId"], key)
        )

    def put_part(self, key: str, upload: str, number: int, data: bytes | bytearray) -> str:
        """Upload part `number`, from 1, and return its tag."""
        part: dict[str, Any] = {"UploadId": upload, "PartNumber": number, "Body": data}
        if self.verifies_sha256:
            part["ChecksumSHA256"] = _word(hashlib.sha256(data).digest())
        return str(self.ask(lambda client, where: client.upload_part(**part, **where)["ETag"], key))

    def complete(self, key: str, upload: str, parts: Sequence[tuple[str, bytes]]) -> None:
        """Make the parts, of which tag and SHA-256 are given, one object."""
        named: list[dict[str, Any]] = []
        for number, (tag, sha256) in enumerate(parts, 1):
            named.append({"PartNumber": number, "ETag": tag})
            if self.verifies_sha256:
                named[-1]["ChecksumSHA256"] = _word(sha256)
        whole = {"UploadId": upload, "MultipartUpload": {"Parts": named}}
        self.ask(lambda client, where: client.complete_multipart_upload(**whole, **where), key)

    def abort(self, key: str, upload: str) -> None:
        """Give up an upload in parts; one that is not there is fine."""
        try:
            self.ask(lambda client, where: client.abort_multipart_upload(UploadId=upload, **where), key)
        except NotFound:
            return

    def close(self) -> None:
        """Give the connections back."""
        line, self._connected = self._connected, None
        if line:
            line.close()

    def _checksum(self, data: bytes | bytearray) -> dict[str, str]:
        return {"ChecksumSHA256": _word(hashlib.sha256(data).digest())} if self.verifies_sha256 else {}

    def ask(self, request: Callable[[Any, dict[str, str]], T], key: str = "") -> T:
        """Send one request, about one object if a key is given; what it raises is ours."""
        line = self._line()
        try:
            return self._ask(line, request, key)
        except NotPermitted:
            if not self._has_other_keys(line):
                raise
            return self._ask(self._line(), request, key)

    def _ask(self, line: Line, request: Callable[[Any, dict[str, str]], T], key: str) -> T:
        from botocore.exceptions import BotoCoreError, ClientError
        from urllib3.exceptions import HTTPError

        try:
            answer = request(line.client, self._where(key))
        except ClientError as error:
            raise self._refusal(error.response) from error
        except (BotoCoreError, HTTPError, OSError) as error:
            what = f"The bucket {self._endpoint.bucket} does not answer ({type(error).__name__})."
            raise Unavailable(
                what, "The node tries again by itself; check the network and the server."
            ) from error
        self.answered = self._clock()
        return answer

    def _skew(self, response: dict[str, Any]) -> float:
        """Return by how many seconds the clocks differ: a refused HEAD has a date, but no word of why."""
        headers = response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        told = _time_in(headers.get("date", ""))
        return 0.0 if told is None else abs(self._clock() - told)

    def _where(self, key: str) -> dict[str, str]:
        where = {"Bucket": self._endpoint.bucket}
        if key:
            where["Key"] = self._endpoint.prefix + key
        return where

    def _line(self) -> Line:
        with self._mutex:
            if self._connected is None:
                self._connected = Line(self._endpoint)
            return self._connected

    def _has_other_keys(self, refused: Line) -> bool:
        """Read the credentials again; say whether they are others than those that were refused.

        Raises:
            NotPermitted: they cannot be read.
        """
        if self._endpoint.reread is None:
            return False
        try:
            access_key, secret_key = self._endpoint.reread()
        except PacsError as error:
            raise NotPermitted(error.what, error.next) from error
        with self._mutex:
            if self._connected is not refused:
                # Another thread was here meanwhile.
                return True
            if (access_key, secret_key) == (self._endpoint.access_key, self._endpoint.secret_key):
                return False
            self._endpoint = replace(self._endpoint, access_key=access_key, secret_key=secret_key)
            # The old line closes with its last user.
            self._connected = None
        logger.warning(
            "The bucket %s refused the old credentials; new ones were read.", self._endpoint.bucket
        )
        return True

    def _refusal(self, response: dict[str, Any]) -> PacsError:
        code = str(response.get("Error", {}).get("Code", ""))
        status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        name = self._endpoint.bucket
        if code == "NoSuchBucket":
            return Unavailable(f"There is no bucket {name} at the server.", "Make it, or correct its name.")
        if code in _DIGEST_CODES:
            return Damaged(f"The bucket {name} received other bytes than were sent.", "It is sent again.")
        if code in _GONE_CODES or status == 404:
            return NotFound(f"The bucket {name} does not have it.", "Fetch it from a peer that has a copy.")
        is_unexplained = status == 403 and code not in _KEY_CODES
        if code == "RequestTimeTooSkewed" or (is_unexplained and self._skew(response) > _SKEW):
            return Unavailable(
                f"The bucket {name} refuses this node because their clocks differ by more than it allows.",
                "Set the clock right (timedatectl set-ntp true); what waits for upload stays in the spool.",
            )
        if code in _KEY_CODES or status in (401, 403):
            return NotPermitted(
                f"The bucket {name} refuses this node's credentials ({code or status}).",
                "Correct access key and secret in the files that [s3] names; the node reads them again by "
                "itself, and what waits for upload stays in the spool.",
            )
        if status == 416:
            return Damaged(f"An object in the bucket {name} is shorter than it was.", "It is not delivered.")
        if code in _FULL_CODES or status == 507:
            return OutOfSpace(f"The bucket {name} takes no more ({code}).", "Raise its quota.")
        return Unavailable(
            f"The bucket {name} answered {status} {code}.", "The node tries again by itself; ask who runs it."
        )


class Stream:
    """A range of an object on its way."""

    def __init__(self, bucket: Bucket, body: Any) -> None:
        self._bucket = bucket
        self._body = body

    def read(self, length: int) -> bytes:
        """Return exactly so many bytes, or what is left."""
        return bytes(self._bucket.ask(lambda client, where: self._body.read(length)))

    def close(self) -> None:
        """Give the connection back, or drop it when not everything was read."""
        self._body.close()


def _list(words: dict[str, str], client: Any, where: dict[str, str]) -> dict[str, Any]:
    return dict(client.list_objects_v2(**words, **where))


def _time_in(date: str) -> float | None:
    try:
        return parsedate_to_datetime(date).timestamp()
    except ValueError:
        return None


def _word(digest: bytes) -> str:
    return base64.b64encode(digest).decode()
