"""The one place where exceptions of botocore become errors of tq; each says which stream it was, and the way out."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any, cast

from tq.errors import BackendError, BackendUnavailableError, ContentRefusedError

from .driver import exceptions

__all__ = ["IteratorExpiredError", "ShardGoneError", "ThrottledError", "mapped", "translate"]


class ThrottledError(BackendUnavailableError):
    """More was asked of a shard than it gives."""


class IteratorExpiredError(BackendUnavailableError):
    """An iterator was not used for five minutes; a new one reads on from the same place."""


class ShardGoneError(BackendError):
    """The shard, or the whole stream, is there no more."""


Kind = tuple[type[BackendError], str]

_AWAY: Kind = BackendUnavailableError, "cannot be reached, or is busy; see that the endpoint is right"
_THROTTLED: Kind = ThrottledError, "is asked for more than its shards give; add shards, or ask less often"
_REFUSES_USER: Kind = BackendError, "refuses these credentials; see whose they are, and what they may do"
_NO_USER: Kind = BackendError, "cannot be asked without credentials; give a session that has some"
_NO_REGION: Kind = BackendError, "cannot be found without a region; give region=, or a session that has one"
_UNKNOWN: Kind = ShardGoneError, "is not there; see name, region and account, and create it first"
_OTHER: Kind = BackendError, "answers with an error"

_CODES: Mapping[str, Kind] = {
    "ProvisionedThroughputExceededException": _THROTTLED,
    "LimitExceededException": _THROTTLED,
    "KMSThrottlingException": _THROTTLED,
    "Throttling": _THROTTLED,
    "ThrottlingException": _THROTTLED,
    "RequestLimitExceeded": _THROTTLED,
    "ExpiredIteratorException": (IteratorExpiredError, "has let an iterator expire"),
    "ExpiredNextTokenException": (IteratorExpiredError, "has let a page of its shards expire"),
    "ResourceNotFoundException": _UNKNOWN,
    "ResourceInUseException": (BackendUnavailableError, "is being made, or changed; wait until it is active"),
    "InternalFailure": _AWAY,
    "ServiceUnavailable": _AWAY,
    "RequestTimeout": _AWAY,
    "AccessDeniedException": _REFUSES_USER,
    "ExpiredTokenException": _REFUSES_USER,
    "IncompleteSignature": _REFUSES_USER,
    "InvalidClientTokenId": _REFUSES_USER,
    "InvalidSignatureException": _REFUSES_USER,
    "MissingAuthenticationTokenException": _REFUSES_USER,
    "UnrecognizedClientException": _REFUSES_USER,
    "ValidationException": (ContentRefusedError, "refuses this content"),
}

ERRORS: tuple[tuple[type[Exception], Kind], ...] = (
    (exceptions.NoCredentialsError, _NO_USER),
    (exceptions.PartialCredentialsError, _NO_USER),
    (exceptions.CredentialRetrievalError, _NO_USER),
    (exceptions.TokenRetrievalError, _NO_USER),
    (exceptions.ProfileNotFound, _NO_USER),
    (exceptions.NoRegionError, _NO_REGION),
    (exceptions.ParamValidationError, (ContentRefusedError, "cannot be asked for this")),
    (exceptions.HTTPClientError, _AWAY),
    (exceptions.ConnectionError, _AWAY),
    (exceptions.EndpointConnectionError, _AWAY),
    (OSError, _AWAY),
)
"""Exceptions whose class says what is wrong; of answers the code does."""


@contextmanager
def mapped(place: str) -> Generator[None, None, None]:
    """Raise errors of tq in place of botocore's; `place` names stream and region in the message.

    Raises:
        BackendError: and its branches, with the cause.
    """
    try:
        yield
    except (exceptions.ClientError, exceptions.BotoCoreError, OSError) as error:
        raise translate(error, place) from error


def translate(error: Exception, place: str) -> BackendError:
    """Return our error for one of botocore's."""
    kind, words = _kind(error)
    return kind(f"{place} {words}: {error}")


def _kind(error: Exception) -> Kind:
    for wrong, kind in ERRORS:
        if isinstance(error, wrong):
            return kind
    answer = cast("Mapping[str, Any]", getattr(error, "response", {}))
    known = _CODES.get(str(answer.get("Error", {}).get("Code")))
    if known is None and answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) >= 500:
        return _AWAY
    return known or _OTHER
