"""The front door behind Microsoft's proxy: streams, callers that leave, retries and headers.

The same tests as on the imitated host, on a stack of their own.
"""

import pytest

from tests.e2e.test_answers import (  # noqa: F401  # collected here
    test_a_callers_invocation_id_and_packed_body_harm_nobody_else,
    test_a_websocket_handshake_falls_back_at_once,
    test_answers_carry_the_event_id_and_the_total,
    test_large_headers_are_refused_by_the_host,
    test_nobody_gets_in_without_a_valid_token,
    test_what_was_probably_meant_is_said_through_the_host,
)
from tests.e2e.test_faults import (  # noqa: F401  # collected here
    _no_faults,
    test_a_caller_that_leaves_is_counted_in_full,
    test_a_failing_backend_costs_the_caller_nothing,
    test_a_stream_that_breaks_off_never_looks_whole,
    test_when_all_backends_throttle_the_caller_learns_the_soonest_wait,
)
from tests.support.running import RunningStack


@pytest.fixture(scope="module")
def stack(proxied_stack: RunningStack) -> RunningStack:
    """The stack that the imported tests get."""
    return proxied_stack
