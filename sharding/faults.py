"""What a failed transfer means: nothing there, a fault that may pass, or one that will not.

Neither aiohttp nor botocore need be installed for the other: their exceptions are known by the names of their classes.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus

from .errors import one_line

_PASSING_STATUS = (408, 429)  # and everything from 500
_PASSING = frozenset(
    (
        "TimeoutError",
        "ConnectionError",
        "gaierror",
        "ClientConnectionError",
        "ClientPayloadError",
        "HTTPClientError",
        "IncompleteReadError",
        "ResponseParserError",
        "ResponseStreamingError",
    )
)
_CERTIFICATE = frozenset(("ClientConnectorCertificateError", "SSLCertVerificationError"))
_LIBRARIES = ("aiohttp", "aiobotocore", "botocore", "yarl")


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a transfer gave no content."""

    text: str
    passes: bool
    absent: bool = False
    wait_s: float = 0.0  # that the server asks for


def judge(err: Exception) -> Fault | None:
    """What a failed transfer means; None for what is no fault of a transfer, but a bug."""
    chain = list(_chain(err))
    names = {kind.__name__ for each in chain for kind in type(each).__mro__}
    status, code = _status(chain)
    if code == "NoSuchBucket":
        return Fault("no such bucket", passes=False)
    if isinstance(err, FileNotFoundError) or status in (404, 410):
        return Fault("nothing", passes=False, absent=True)
    if status is not None:
        passes = status in _PASSING_STATUS or status >= 500 or isinstance(err, TimeoutError)
        return Fault(_status_text(status, code), passes, wait_s=_retry_after_s(chain))
    if "NoCredentialsError" in names:
        return Fault("no credentials (set AWS_PROFILE or AWS_ACCESS_KEY_ID, or FSSPEC_S3_ANON=true)", passes=False)
    text = next((said(each) for each in chain if str(each).strip()), type(err).__name__)
    if names & _PASSING and not names & _CERTIFICATE:
        return Fault(text, passes=True)
    known = isinstance(err, OSError) or any(type(each).__module__.split(".")[0] in _LIBRARIES for each in chain)
    return Fault(text, passes=False) if known else None


def _chain(err: BaseException | None) -> Iterator[BaseException]:
    while err is not None:
        yield err
        err = err.__cause__ or err.__context__


def _status(chain: list[BaseException]) -> tuple[int | None, str]:
    """HTTP status, and S3's own code, of aiohttp's or botocore's exception."""
    for err in chain:
        response = getattr(err, "response", None)
        if isinstance(response, dict):
            return response.get("ResponseMetadata", {}).get("HTTPStatusCode"), response.get("Error", {}).get("Code", "")
        status = getattr(err, "status", None)
        if isinstance(status, int) and "ClientResponseError" in {kind.__name__ for kind in type(err).__mro__}:
            return status, ""
    return None, ""


def _status_text(status: int, code: str) -> str:
    phrase = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else ""
    hint = " (credentials?)" if status in (401, 403) else ""
    return " ".join(f"status {status} {phrase if code in ('', str(status)) else code}".split()) + hint


def _retry_after_s(chain: list[BaseException]) -> float:
    for err in chain:
        text = str((getattr(err, "headers", None) or {}).get("Retry-After", ""))
        if text.isdecimal():
            return float(text)
    return 0.0


def said(err: BaseException) -> str:
    """An exception's text, fit for an error of one line."""
    return without_password(one_line(err, most=300))


def without_password(text: str) -> str:
    """Without user and password of a URL."""
    return re.sub(r"//[^/@\s]*@", "//", text)
