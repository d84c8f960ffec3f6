"""From the configuration's sections to the settings that the parts understand."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from catalog import NotFound, NotPermitted
from node.bucket import BucketSettings, Endpoint, Spool
from node.dimse import Limits
from node.sections import Config, S3Section
from node.storage import StorageSettings

MB: Final = 1 << 20


def storage_settings(config: Config) -> StorageSettings:
    """Return the settings of the segments."""
    storage = config.storage
    return StorageSettings(
        seal_at=storage.segment_mb * MB,
        buffered_at_most=storage.spill_above_mb * MB,
        budget=storage.buffer_mb * MB,
        full_below=storage.stop_below_mb * MB,
        resume_above=storage.resume_above_mb * MB,
    )


def limits(config: Config) -> Limits:
    """Return the limits of associations."""
    dicom = config.dicom
    return Limits(
        associations=dicom.max_associations,
        associations_per_ae=dicom.max_associations_per_ae,
        associations_per_address=dicom.max_associations_per_address,
        associations_per_second=dicom.max_new_associations_per_second,
        burst=2 * dicom.max_new_associations_per_second,
        max_pdu=dicom.max_pdu,
        artim=dicom.artim_timeout,
        idle=dicom.idle_timeout,
        message=dicom.network_timeout,
        connect=dicom.connect_timeout,
    )


def bucket_settings(url: str, s3: S3Section, home: Path) -> BucketSettings:
    """Return the settings of an archive's bucket, named by `s3://bucket/prefix`; credentials are read here.

    Raises:
        NotFound: a file of the credentials is not there.
        NotPermitted: others than the node's user may read it.
    """
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    prefix = prefix.strip("/")

    def keys() -> tuple[str, str]:
        return secret(home, s3.access_key_file), secret(home, s3.secret_key_file)

    access_key, secret_key = keys()
    endpoint = Endpoint(
        bucket,
        prefix=f"{prefix}/" if prefix else "",
        url=s3.endpoint,
        region=s3.region,
        access_key=access_key,
        secret_key=secret_key,
        reread=keys,
        is_path_style=s3.path_style,
        checksums=s3.checksums,
        sends_sha256=s3.send_sha256,
        connections=s3.upload_threads + s3.fetch_threads + 8,
    )
    return BucketSettings(
        endpoint,
        spool=Spool.PERSISTENT if s3.persistent_spool else Spool.PASSING,
        encryption=s3.encryption,
        confirm=s3.confirm,
        multipart_above=s3.multipart_above_mb * MB,
        bytes_per_second=int(s3.upload_mb_per_second * MB),
        cache_bytes=s3.cache_mb * MB,
        cache_age=s3.cache_days * 86400,
    )


def secret(home: Path, name: str, setting: str = "[s3] of peerpacs.toml") -> str:
    """Return the first line of a file of the home folder, or of an absolute path; empty for no name.

    Raises:
        NotFound: it is not there.
        NotPermitted: others than the node's user may read it.
    """
    if not name:
        return ""
    path = home / name
    try:
        if path.stat().st_mode & 0o077:
            what = f"Others than the node's own user may read {path}."
            raise NotPermitted(what, f"Run: chmod 600 {path}")
        return path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        remedy = f"Put the secret into it (mode 0600), or name another file in {setting}."
        raise NotFound(f"A secret is missing: there is no {path}.", remedy) from None
