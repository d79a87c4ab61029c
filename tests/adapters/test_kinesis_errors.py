"""Errors of the driver become ours: what may be tried again, what was wrong, and nothing that is secret."""

import inspect

import pytest
from botocore import exceptions

from tests.adapters.kinesis_double import refusal
from tq.errors import BackendError, BackendUnavailableError, ConfigurationError, ContentRefusedError, InvalidInputError
from tq_kinesis import KinesisBackend, KinesisSettings, open_backend
from tq_kinesis.errors import IteratorExpiredError, ShardGoneError, ThrottledError, mapped, translate

PLACE = "Kinesis stream orders at eu-west-1"


@pytest.mark.parametrize(
    ("code", "expected", "words"),
    [
        ("ProvisionedThroughputExceededException", ThrottledError, "add shards"),
        ("LimitExceededException", ThrottledError, "add shards"),
        ("ExpiredIteratorException", IteratorExpiredError, "expire"),
        ("ResourceNotFoundException", ShardGoneError, "is not there"),
        ("InternalFailure", BackendUnavailableError, "cannot be reached"),
        ("AccessDeniedException", BackendError, "credentials"),
        ("UnrecognizedClientException", BackendError, "credentials"),
        ("ValidationException", ContentRefusedError, "refuses this content"),
        ("SomethingElse", BackendError, "answers with an error"),
    ],
)
def test_an_answer_is_judged_by_its_code(code: str, expected: type[BackendError], words: str) -> None:
    error = translate(refusal(code, "because"), PLACE)
    assert type(error) is expected
    assert PLACE in str(error)
    assert words in str(error)
    assert "because" in str(error)


def test_an_unknown_error_of_the_server_may_pass() -> None:
    assert type(translate(refusal("Strange", status=503), PLACE)) is BackendUnavailableError


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (exceptions.NoCredentialsError(), BackendError),
        (exceptions.NoRegionError(), BackendError),
        (exceptions.ParamValidationError(report="x"), ContentRefusedError),
        (exceptions.EndpointConnectionError(endpoint_url="x"), BackendUnavailableError),
        (exceptions.ReadTimeoutError(endpoint_url="x"), BackendUnavailableError),
        (exceptions.ConnectTimeoutError(endpoint_url="x"), BackendUnavailableError),
        (exceptions.ConnectionClosedError(endpoint_url="x"), BackendUnavailableError),
        (ConnectionResetError("x"), BackendUnavailableError),
        (TimeoutError(), BackendUnavailableError),
    ],
)
def test_what_never_got_an_answer_is_judged_by_its_class(error: Exception, expected: type[BackendError]) -> None:
    assert type(translate(error, PLACE)) is expected


def test_no_exception_of_the_driver_gets_through() -> None:
    roots = (exceptions.BotoCoreError, exceptions.ClientError)
    every = [it for _, it in inspect.getmembers(exceptions, inspect.isclass) if issubclass(it, Exception)]
    strangers = {it.__name__ for it in every if not issubclass(it, roots) and not issubclass(it, Warning)}
    harmless = {"_RetriesExceededError", "MissingServiceIdError", "UndefinedModelAttributeError"}
    assert strangers <= harmless, "each kind is mapped, or never raised by a call"
    with pytest.raises(BackendError), mapped(PLACE):
        raise exceptions.BotoCoreError


# --- settings ---------------------------------------------------------------------------------------------------------


def test_a_url_says_everything() -> None:
    settings = KinesisSettings.parse("kinesis://orders?region=eu-west-1&lease=5&window_records=7&start=LATEST")
    assert (settings.stream, settings.region, settings.lease, settings.window_records) == (
        "orders",
        "eu-west-1",
        5.0,
        7,
    )
    assert settings.place == PLACE
    assert settings.place_to_start(12.0) == "AT_TIMESTAMP 12.000"


@pytest.mark.spec("D-80")
@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("lease", 0),
        ("lease", -1.0),
        ("read_interval", float("nan")),
        ("attempts", 0),
        ("together", True),
        ("on_failure", "stop"),
        ("start", "yesterday"),
        ("start", "2026-01-01T00:00:00"),
        ("stream", ""),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(option: str, value: object) -> None:
    with pytest.raises(InvalidInputError, match=option):
        KinesisSettings(**({"stream": "orders"} | {option: value}))  # type: ignore[arg-type]


@pytest.mark.parametrize("url", ["kinesis://", "kinesis:///orders", "redis://x", "kinesis://KEY:SECRET@orders"])
def test_what_is_no_address_is_refused_without_what_is_secret(url: str) -> None:
    with pytest.raises(InvalidInputError, match="url") as told:
        KinesisSettings.parse(url)
    assert "SECRET" not in str(told.value)


def test_an_unknown_option_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigurationError, match=r"no option 'colour'.*region"):
        open_backend("kinesis://orders?colour=red")


def test_a_stream_alone_says_what_it_lacks() -> None:
    backend = open_backend("kinesis://orders?region=eu-west-1")
    assert isinstance(backend, KinesisBackend)
    for part in ("store", "queue"):
        with pytest.raises(ConfigurationError, match="store="):
            getattr(backend, part)
