"""What an answer means: relay it, or leave the backend and for how long."""

import pytest

from meter.gateway.answer.stated_error import StatedError
from meter.gateway.balance.verdict import Failover, Fault, judge, telling
from tests.fakes.gateway import START


@pytest.mark.parametrize(
    "status", [200, 201, 204, 400, 404, 405, 409, 410, 411, 413, 415, 422, 431, 451]
)
def test_an_answer_that_is_the_callers_is_relayed(status: int) -> None:
    """Served, or the caller's own mistake; a `Retry-After` changes nothing."""
    assert judge(status, (("retry-after", "5"),), START) is None


@pytest.mark.parametrize("status", [401, 403])
def test_refused_credentials_bench_for_thirty_seconds(status: int) -> None:
    """They are the gateway's, so it is the backend that is left; its waits are not asked."""
    left = judge(status, (("retry-after", "5"),), START)

    assert left == Failover(Fault.CREDENTIALS, status, 30.0)


@pytest.mark.parametrize("status", [101, 301, 302, 304, 307, 308, 408, 500, 502, 503, 504, 599])
def test_a_failing_backend_is_left_for_the_wait_it_names(status: int) -> None:
    """Without one the breaker decides."""
    assert judge(status, (("retry-after", "5"),), START) == Failover(Fault.ERROR, status, 5.0)
    assert judge(status, (), START) == Failover(Fault.ERROR, status, None)


def test_a_throttling_backend_is_left_for_the_wait_it_names_or_ten_seconds() -> None:
    """429."""
    assert judge(429, (("retry-after-ms", "1500"),), START) == Failover(Fault.THROTTLED, 429, 1.5)
    assert judge(429, (), START) == Failover(Fault.THROTTLED, 429, 10.0)


def test_a_message_names_the_wait_where_no_header_does() -> None:
    """Before the resets of rate limits, which a served answer has too."""
    error = StatedError(message="Please retry after 7 seconds.")
    resets = ("x-ratelimit-reset-tokens", "1s")

    assert judge(429, (resets,), START, error) == Failover(Fault.THROTTLED, 429, 7.0, error)
    assert judge(429, (("retry-after", "3"),), START, error) == Failover(
        Fault.THROTTLED, 429, 3.0, error
    )


@pytest.mark.parametrize("status", [400, 404, 410])
def test_an_account_without_the_deployment_is_left_for_a_minute(status: int) -> None:
    """The name is the configuration's, never the caller's mistake."""
    error = StatedError(code="DeploymentNotFound", message="It does not exist.")

    assert judge(status, (), START, error) == Failover(Fault.NO_DEPLOYMENT, status, 60.0, error)
    assert judge(status, (), START, StatedError(code="model_not_found"), own_name="gpt") is None


@pytest.mark.parametrize(
    ("value", "kept"), [("true", "true"), ("False", "false"), ("maybe", None), ("", None)]
)
def test_a_backends_advice_to_retry_is_kept(value: str, kept: str | None) -> None:
    """SDKs obey it before anything else."""
    judged = judge(500, (("x-should-retry", value),), START)

    assert judged is not None
    assert judged.should_retry == kept


THROTTLED = Failover(Fault.THROTTLED, 429, 9.0, StatedError(message="slow down"))
BROKEN = Failover(Fault.ERROR, 500, None, StatedError(code="model_error"))
SILENT = Failover(Fault.UNREACHABLE)


@pytest.mark.parametrize(
    ("failovers", "is_throttled", "told"),
    [
        ([THROTTLED, SILENT], True, THROTTLED),
        ([THROTTLED, BROKEN], True, THROTTLED),
        ([THROTTLED, BROKEN], False, BROKEN),
        ([BROKEN, THROTTLED], False, BROKEN),
        ([BROKEN, SILENT], False, BROKEN),
        ([BROKEN], True, None),
        ([Failover(Fault.ERROR, 500, None, StatedError()), SILENT], False, None),
        ([], True, None),
    ],
)
def test_the_last_backend_that_said_something_is_told(
    failovers: list[Failover], told: Failover | None, *, is_throttled: bool
) -> None:
    """With 429 a throttle's words, otherwise a fault's."""
    assert telling(failovers, is_throttled=is_throttled) == told


@pytest.mark.parametrize("status", [500, 501, 505, 507, 520, 529, 599])
def test_every_5xx_is_the_backends_fault(status: int) -> None:
    """Another backend may serve what this one cannot."""
    assert judge(status, (), START) == Failover(Fault.ERROR, status, None)
