"""The lake on S3, or on a store that speaks its language.

Write-once holds in two ways. Where the store knows conditional writes, an object is put under
``If-None-Match: *``, a large one when its parts are put together. Where it ignores or refuses them,
a name is made of its content's SHA-256, so an overwrite changes nothing. What arrived is compared
with what was sent, by the checksums that the store tells; what is fetched, with the SHA-256 that
was committed. How near-by copies are kept is in ``object_cache``. Connection errors, 5xx and
throttling are retried by botocore, with its waits.
"""

import hashlib
import re
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    IncompleteReadError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ProfileNotFound,
    ReadTimeoutError,
    ResponseStreamingError,
)

from royalty_assets.domain.batches import LakeObject
from royalty_assets.storage.lake import (
    RENEWED_AFTER,
    Clock,
    HalfWritten,
    LakeError,
    LakeRefusedError,
    LakeUnavailableError,
    ListedObject,
    file_sha256,
    half_written_in,
    object_path,
    utc_now,
)
from royalty_assets.storage.object_cache import ObjectCache

PART_BYTES = 32 << 20
"""Larger objects are sent in parts of this size; ``_UPLOADERS`` of them are in memory at once."""
_PARTS_MAX = 10_000
_UPLOADERS = 4
_ATTEMPTS = 5
_DOWNLOADS = 3
"""How often an object is fetched whose bytes break off, or are not those that were stored."""
_CHUNK_BYTES = 1 << 20
_TIMEOUT_SECONDS = 60
LISTED_PER_PAGE = 1_000

_EXISTS = frozenset({"PreconditionFailed", "ConditionalRequestConflict", "412", "409"})
_TRANSIENT = frozenset({"RequestTimeout", "SlowDown", "Throttling", "ThrottlingException"})
_BROKEN_OFF = (ResponseStreamingError, IncompleteReadError, ReadTimeoutError)
_NO_CREDENTIALS = (NoCredentialsError, PartialCredentialsError, ProfileNotFound, NoRegionError)
_ETAG = re.compile(r'"?(?P<md5>[0-9a-f]{32})(?:-(?P<parts>\d+))?"?')
_ADVICE = {
    "NoSuchBucket": "make the bucket, or set ROYALTY_ASSETS_LAKE_URL to one that is there",
    "AccessDenied": "give this account the permissions in docs/how-to/keep-the-lake-on-s3.md",
    "403": "give this account the permissions in docs/how-to/keep-the-lake-on-s3.md",
    "InvalidAccessKeyId": "check AWS_ACCESS_KEY_ID, or the profile that boto3 takes",
    "SignatureDoesNotMatch": "check AWS_SECRET_ACCESS_KEY, or the profile that boto3 takes",
    "ExpiredToken": "get new credentials",
    "RequestTimeTooSkewed": "set this machine's clock",
    "PermanentRedirect": "set AWS_DEFAULT_REGION to the bucket's region",
    "AuthorizationHeaderMalformed": "set AWS_DEFAULT_REGION to the bucket's region",
}


def s3_client(attempts: int = _ATTEMPTS, session: boto3.session.Session | None = None) -> Any:
    """A client as boto3 configures itself by environment and profile, patient within limits."""
    # A session of its own: the one that boto3 shares is not for threads, and never looks again.
    return (session or boto3.session.Session()).client(
        "s3",
        config=Config(
            retries={"mode": "standard", "total_max_attempts": attempts},
            connect_timeout=_TIMEOUT_SECONDS,
            read_timeout=_TIMEOUT_SECONDS,
            # The lake gives and compares checksums itself, also where a store has another idea
            # of them: some answer a part of an object with the checksum of the whole.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )


class S3Lake:
    """A lake below a prefix of a bucket.

    Args:
        client: of boto3, for S3; may be shared by threads.
        bucket: it has to be there.
        prefix: without a slash at either end; empty for the whole bucket.
        cache: where objects are kept near by, and written before they are sent.
        now: the clock that objects' ages go by, against the store's.
        part_bytes: larger objects are sent in parts; S3 asks for 5 MiB at least.
    """

    def __init__(
        self,
        client: Any,
        bucket: str,
        prefix: str,
        cache: ObjectCache,
        now: Clock = utc_now,
        part_bytes: int = PART_BYTES,
    ) -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._cache = cache
        self._now = now
        self._part_bytes = part_bytes
        self._is_conditional = True

    def put(self, folder: str, label: str, rows: int, write: Callable[[Path], None]) -> LakeObject:
        """See ``Lake``.

        Raises:
            LakeUnavailableError: if the store cannot be reached, or did not keep what it was sent.
            LakeRefusedError: if it will not have it.
        """
        with self._cache.writing() as temporary:
            write(temporary)
            sha256, size_bytes = file_sha256(temporary)
            stored = LakeObject(object_path(folder, label, sha256), sha256, size_bytes, rows)
            file = _Sent(temporary, size_bytes, self._part_bytes)
            with self._told(stored.path):
                self._store(stored.path, file)
            self._cache.take(temporary, sha256)
        return stored

    def local_path(self, stored: LakeObject) -> Path:
        """See ``Lake``.

        Raises:
            LakeError: if there is no such object, or its bytes are not those that were stored.
            LakeUnavailableError: if the store cannot be reached.
            LakeRefusedError: if it does not let us read.
        """
        kept = self._cache.get(stored.sha256, stored.size_bytes)
        if kept is not None:
            return kept
        with self._cache.writing() as temporary:
            for attempt in range(1, _DOWNLOADS + 1):
                with temporary.open("wb") as file:
                    sha256 = self._fetched(stored, attempt, file.write)
                if sha256 == stored.sha256:
                    return self._cache.take(temporary, stored.sha256)
        raise LakeError(f"{stored.path}: its SHA-256 is {sha256}, not {stored.sha256}")

    def sha256(self, stored: LakeObject) -> str:
        """See ``Lake``; the object is read, and not kept."""
        sha256 = ""
        for attempt in range(1, _DOWNLOADS + 1):
            sha256 = self._fetched(stored, attempt, lambda _: None)
            if sha256 == stored.sha256:
                break
        return sha256

    def uri(self, stored: LakeObject) -> str:
        """See ``Lake``."""
        return f"s3://{self._bucket}/{self._key(stored.path)}"

    def paths(self) -> Iterator[str]:
        """See ``Lake``."""
        return (each.path for each in self.listing())

    def listing(self) -> Iterator[ListedObject]:
        """See ``Lake``."""
        with self._told(""):
            for page in self._pages("list_objects_v2"):
                for item in page.get("Contents", []):
                    if item["Key"].endswith(".parquet"):
                        path = item["Key"].removeprefix(self._prefix)
                        yield ListedObject(path, item["Size"], item["LastModified"].astimezone(UTC))

    def half_written(self) -> Iterator[HalfWritten]:
        """See ``Lake``: uploads in parts that were not ended, and files on this machine."""
        for upload in self._uploads():
            key, upload_id = upload["Key"], upload["UploadId"]
            yield HalfWritten(
                f"s3://{self._bucket}/{key} (upload {upload_id[:16]})",
                0,
                upload["Initiated"].astimezone(UTC),
                partial(self._abort, key, upload_id),
            )
        if self._cache.root.is_dir():
            yield from half_written_in(self._cache.root)

    def remove(self, path: str, put_before: datetime) -> bool:
        """See ``Lake``.

        No lock is there to hold. Between the look at the object's age and its end are milliseconds
        in which another may put it again; docs/how-to/keep-the-lake-on-s3.md weighs that.
        """
        with self._told(path):
            there = self._head(self._key(path))
            if there is not None:
                if there["LastModified"].astimezone(UTC) >= put_before:
                    return False
                self._client.delete_object(Bucket=self._bucket, Key=self._key(path))
        return True

    # Storing

    def _store(self, path: str, file: "_Sent") -> None:
        """Let the object be there, whole and young."""
        key = self._key(path)
        # A small object is sent to see whether it is there: one request instead of two.
        there = self._head(key) if file.is_in_parts else None
        if there is None:
            if self._upload(key, file, if_absent=True):
                return
            there = self._head(key)
        is_whole = there is not None and file.agrees_with(there)
        is_young = there is not None and self._now() - there["LastModified"] <= RENEWED_AFTER
        if not (is_whole and is_young):
            # Damaged, or an old orphan that may be swept away before it is committed.
            self._upload(key, file, if_absent=False)

    def _upload(self, key: str, file: "_Sent", *, if_absent: bool) -> bool:
        """Send a file; False if there is an object already, and only an absent one is asked for."""
        condition = {"IfNoneMatch": "*"} if if_absent and self._is_conditional else {}
        try:
            answer = (
                self._put_parts(key, file, condition)
                if file.is_in_parts
                else self._put_whole(key, file, condition)
            )
        except ClientError as error:
            if condition and _code(error) in _EXISTS:
                return False
            if condition and (_code(error) == "NotImplemented" or _status(error) == 501):
                self._is_conditional = False
                return self._upload(key, file, if_absent=if_absent)
            raise
        if file.agrees_with(answer) is not True:
            there = self._head(key)
            if there is None or file.agrees_with(there) is False:
                raise LakeUnavailableError(
                    f"s3://{self._bucket}/{key} is not what was sent; it is sent again next time"
                )
        return True

    def _put_whole(self, key: str, file: "_Sent", condition: Mapping[str, str]) -> dict[str, Any]:
        (sha256,) = file.part_sha256s
        with file.path.open("rb") as body:
            answer: dict[str, Any] = self._client.put_object(
                Bucket=self._bucket, Key=key, Body=body, ChecksumSHA256=_base64(sha256), **condition
            )
        return answer

    def _put_parts(self, key: str, file: "_Sent", condition: Mapping[str, str]) -> dict[str, Any]:
        place = {"Bucket": self._bucket, "Key": key}
        upload_id = self._client.create_multipart_upload(**place, ChecksumAlgorithm="SHA256")[
            "UploadId"
        ]

        def send(number: int) -> dict[str, Any]:
            checksum = {"ChecksumSHA256": _base64(file.part_sha256s[number])}
            part = {"PartNumber": number + 1}
            answer = self._client.upload_part(
                **place, **part, **checksum, UploadId=upload_id, Body=file.part(number)
            )
            return {**part, **checksum, "ETag": answer["ETag"]}

        try:
            with ThreadPoolExecutor(_UPLOADERS) as uploaders:
                parts = list(uploaders.map(send, range(len(file.part_sha256s))))
            answer: dict[str, Any] = self._client.complete_multipart_upload(
                **place, UploadId=upload_id, MultipartUpload={"Parts": parts}, **condition
            )
        except BaseException:
            # Parts cost as objects do, and no listing shows them. What cannot be told now, is
            # found by `gc`.
            with suppress(LakeError):
                self._abort(key, upload_id)
            raise
        return answer

    def _abort(self, key: str, upload_id: str) -> None:
        place = {"Bucket": self._bucket, "Key": key, "UploadId": upload_id}
        with self._told(key.removeprefix(self._prefix)):
            try:
                self._client.abort_multipart_upload(**place)
            except ClientError as error:
                if _code(error) != "NoSuchUpload":  # ended meanwhile, one way or the other
                    raise

    # Asking

    def _head(self, key: str) -> dict[str, Any] | None:
        try:
            answer: dict[str, Any] = self._client.head_object(
                Bucket=self._bucket, Key=key, ChecksumMode="ENABLED"
            )
        except ClientError as error:
            if _status(error) == 404:
                return None
            raise
        return answer

    def _fetched(self, stored: LakeObject, attempt: int, take: Callable[[bytes], object]) -> str:
        """SHA-256 of an object's bytes, each given to ``take``; empty if they broke off."""
        digest, size_bytes = hashlib.sha256(), 0
        with self._told(stored.path):
            try:
                answer = self._client.get_object(Bucket=self._bucket, Key=self._key(stored.path))
                with closing(answer["Body"]) as body:
                    for chunk in body.iter_chunks(_CHUNK_BYTES):
                        digest.update(chunk)
                        size_bytes += len(chunk)
                        take(chunk)
            except _BROKEN_OFF:
                if attempt == _DOWNLOADS:
                    raise
                return ""
        if answer["ContentLength"] != stored.size_bytes:
            raise LakeError(f"{stored.path} has {size_bytes} bytes, not {stored.size_bytes}")
        return digest.hexdigest()

    def _uploads(self) -> Iterator[dict[str, Any]]:
        """The uploads in parts that were not ended."""
        with self._told(""):
            try:
                for page in self._pages("list_multipart_uploads"):
                    yield from page.get("Uploads", [])
            except ClientError as error:
                # Some stores know none until there is one, others do not tell.
                if _code(error) not in {"NoSuchUpload", "NotImplemented"}:
                    raise

    def _pages(self, operation: str) -> Iterator[dict[str, Any]]:
        pages: Iterator[dict[str, Any]] = self._client.get_paginator(operation).paginate(
            Bucket=self._bucket,
            Prefix=self._prefix,
            PaginationConfig={"PageSize": LISTED_PER_PAGE},
        )
        return pages

    def _key(self, path: str) -> str:
        return f"{self._prefix}{path}"

    @contextmanager
    def _told(self, path: str) -> Iterator[None]:
        """Errors of boto3 as the lake's, by whether asking again may help."""
        place = f"s3://{self._bucket}/{self._key(path)}"
        try:
            yield
        except ClientError as error:
            code, status = _code(error), _status(error)
            if code == "NoSuchKey":
                raise LakeError(
                    f"the lake has no object {path}; it was there when committed"
                ) from None
            if status >= 500 or status in {408, 429} or code in _TRANSIENT:
                raise LakeUnavailableError(f"{place}: {error}; try again later") from None
            advice = f"; {_ADVICE[code]}" if code in _ADVICE else ""
            raise LakeRefusedError(f"{place}: {error}{advice}") from None
        except _NO_CREDENTIALS as error:
            raise LakeRefusedError(
                f"{place}: {error}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or another of "
                "the ways in which boto3 finds credentials"
            ) from None
        except BotoCoreError as error:
            raise LakeUnavailableError(f"{place}: {error}; try again later") from None


class _Sent:
    """A file to be stored, and what a store should tell of it."""

    def __init__(self, path: Path, size_bytes: int, part_bytes: int) -> None:
        self.path = path
        self.size_bytes = size_bytes
        self.is_in_parts = size_bytes > part_bytes
        self._part_bytes = max(part_bytes, -(-size_bytes // _PARTS_MAX))

    def part(self, number: int) -> bytes:
        """One part's bytes, counted from 0."""
        with self.path.open("rb") as file:
            file.seek(number * self._part_bytes)
            return file.read(self._part_bytes)

    @cached_property
    def part_sha256s(self) -> list[bytes]:
        """SHA-256 of each part; of an empty file, of nothing."""
        return [hashlib.sha256(part).digest() for part in self._parts()]

    @cached_property
    def _md5s(self) -> tuple[str, str]:
        """MD5 of the whole, and S3's of the parts: only what ETags are made of."""
        whole, parts = hashlib.md5(usedforsecurity=False), b""
        for part in self._parts():
            whole.update(part)
            parts += hashlib.md5(part, usedforsecurity=False).digest()
        return whole.hexdigest(), hashlib.md5(parts, usedforsecurity=False).hexdigest()

    def _parts(self) -> Iterator[bytes]:
        for number in range(max(1, -(-self.size_bytes // self._part_bytes))):
            yield self.part(number)

    def agrees_with(self, answer: Mapping[str, Any]) -> bool | None:
        """Whether a store has these bytes, by what it tells of an object; None if it is not told.

        An ETag is the MD5 of the bytes, or of the MD5s of the parts; not so where the store
        encrypts with keys of its owner's, which then tells the SHA-256 that it was given.
        """
        if answer.get("ContentLength", self.size_bytes) != self.size_bytes:
            return False
        etag = _ETAG.fullmatch(answer.get("ETag", ""))
        encryption = answer.get("ServerSideEncryption", "")
        if etag and not encryption.startswith("aws:") and "SSECustomerAlgorithm" not in answer:
            if etag["parts"] is None:
                return etag["md5"] == self._md5s[0]
            if int(etag["parts"]) == len(self.part_sha256s):
                return etag["md5"] == self._md5s[1]
            return None
        if "ChecksumSHA256" in answer:
            of_parts = hashlib.sha256(b"".join(self.part_sha256s)).digest()
            told: str = answer["ChecksumSHA256"].partition("-")[0]
            return told == _base64(of_parts if self.is_in_parts else self.part_sha256s[0])
        return None


def _base64(digest: bytes) -> str:
    return b64encode(digest).decode("ascii")


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
