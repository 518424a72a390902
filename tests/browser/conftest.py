"""One browser for all tests of pages."""

from collections.abc import Iterator

import pytest

from tests.support.browser import Browser, NoBrowser, running_browser


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A headless Chromium. Without one the tests fail: what they show is not known then."""
    try:
        with running_browser() as running:
            yield running
    except NoBrowser as exc:
        pytest.fail(str(exc), pytrace=False)
