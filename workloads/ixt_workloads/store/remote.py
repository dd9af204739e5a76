"""Opens buckets by the environment's settings, and turns obstore's errors into ours, without bodies.

Bodies of answers can hold access keys and strings to sign: only the status, code and message are kept.
"""

import os
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import GCSStore, S3Store

from ixt_workloads.contract.credentials import SecretRef, entries_of
from ixt_workloads.store.errors import (
    NotFound,
    StoreError,
    StoreNotWritable,
    StoreUnavailable,
    no_space,
    not_there,
)

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

RETRY: "RetryConfig" = {"max_retries": 10, "retry_timeout": timedelta(minutes=3)}

_CLIENT: "ClientConfig" = {
    "connect_timeout": timedelta(seconds=5),
    "read_timeout": timedelta(minutes=1),
    # Of a whole request: 256 MB over a slow line.
    "timeout": timedelta(minutes=10),
}
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_YES = {"1", "true", "yes"}
_UNKNOWN_USER = ("AccessKey", "UserNotFound")
_FULL = ("Quota", "StorageFull", "InsufficientStorage")
_TRY_AGAIN = {408, 409, 429}
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
_SECRETS = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ACCESS_KEY_ID")
_METADATA_SERVICE = "169.254.169.254"
_OPENING = threading.Lock()
_NO_AUTHORITIES = "No CA certificates were loaded"


@contextmanager
def variables_of(secret: SecretRef | None) -> Iterator[None]:
    """Replaces the environment's variables of buckets by the entries of a place's own Secret, while inside.

    obstore reads the environment, when it opens a bucket, beside the settings that it is given: the keys of
    one account would be sent with the session token, or to the endpoint, of another.
    """
    with _OPENING:
        entries = entries_of(secret, os.environ)
        own = _of_buckets(entries)
        hidden = {name: os.environ.pop(name) for name in _of_buckets(os.environ) if entries}
        os.environ.update(own)
        try:
            yield
        finally:
            for name in own:
                del os.environ[name]
            os.environ.update(hidden)


def _of_buckets(found: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in found.items() if name.startswith(("AWS_", "GOOGLE_"))}


def open_s3(uri: str, bucket: str, prefix: str) -> S3Store:
    """A bucket of S3, or of the server that $AWS_ENDPOINT_URL names; without TLS on this machine only."""
    endpoint = urlsplit(next(filter(None, map(os.environ.get, _ENDPOINTS)), ""))
    plain = endpoint.scheme == "http"
    allowed = endpoint.hostname in _LOOPBACK or os.environ.get("AWS_ALLOW_HTTP", "").lower() in _YES
    if plain and not allowed:
        raise StoreError(
            f"{uri} would be reached without encryption, as AWS_ENDPOINT_URL is http",
            "use an https endpoint, or set AWS_ALLOW_HTTP=true",
        )
    client: ClientConfig = {**_CLIENT, "allow_http": plain}
    with remote_errors(uri):
        return S3Store(
            bucket,
            prefix=prefix or None,
            client_options=client,
            retry_config=RETRY,
            copy_if_not_exists="multipart",
        )


def open_gcs(uri: str, bucket: str, prefix: str) -> GCSStore:
    """A bucket of Google Cloud Storage."""
    with remote_errors(uri):
        return GCSStore(bucket, prefix=prefix or None, client_options=_CLIENT, retry_config=RETRY)


@contextmanager
def remote_errors(place: str) -> Iterator[None]:
    """Turns obstore's errors into ours, about `place`."""
    try:
        yield
    except (BaseError, FileNotFoundError) as error:
        # A FileNotFoundError without an errno is obstore's, others are of this machine.
        if isinstance(error, FileNotFoundError) and error.errno is not None:
            raise
        raise from_remote_error(error, place) from None


def from_remote_error(error: Exception, place: str) -> StoreError:
    """Our error for one of obstore's, about `place`."""
    text = str(error)
    status = int(_found(r"status code: (\d{3})", text) or 0)
    code = _found(r"<Code>([^<]{1,60})</Code>", text)
    reason = _reason(text, status, code)
    if code == "NoSuchBucket":
        return NotFound(f"bucket of {place} does not exist", "create it, or correct the storage URI")
    if status == 507 or any(word in code for word in _FULL):
        return no_space(place, reason)
    denied = isinstance(error, PermissionDeniedError | UnauthenticatedError)
    if denied or any(word in code for word in _UNKNOWN_USER):
        return StoreNotWritable(
            f"no access to {place}: {reason}", "check credentials and the bucket's policy"
        )
    if isinstance(error, FileNotFoundError):
        return not_there(place)
    if _NO_AUTHORITIES in text:
        return StoreError(
            f"{place} cannot be reached: no certificates of authorities are installed here",
            "install ca-certificates, or name a file of them in SSL_CERT_FILE",
        )
    if _METADATA_SERVICE in text:
        return StoreNotWritable(
            f"no credentials for {place}",
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the pod a role",
        )
    if 400 <= status < 500 and status not in _TRY_AGAIN:
        return StoreError(f"{place} was refused: {reason}", "check region, endpoint and bucket")
    return StoreUnavailable(f"{place} cannot be reached: {reason}", "check endpoint and network")


def _reason(text: str, status: int, code: str) -> str:
    """A few words from an answer of the server, else the innermost cause that obstore gives."""
    if status:
        message = _found(r"<Message>([^<]{1,300})</Message>", text)
        words = " ".join(filter(None, (f"HTTP {status}", code, message)))
    else:
        words = text.partition("\n")[0].rpartition(" - ")[2][:300]
    for name in os.environ:
        secret = os.environ.get(name)
        # Names of entries of a place's own Secret begin with its prefix.
        if secret and name.endswith(_SECRETS):
            words = words.replace(secret, f"<{name}>")
    return words


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    return match[1] if match else ""
