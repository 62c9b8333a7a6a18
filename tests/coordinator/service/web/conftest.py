"""One browser for the tests of the page; each test has a window and a storage of its own."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A window of 1280 x 900 pixels; the tests' certificates are signed by nobody it knows."""
    context = browser.new_context(
        viewport={"width": 1280, "height": 900}, ignore_https_errors=True, color_scheme="light"
    )
    context.set_default_timeout(30_000)
    yield context.new_page()
    context.close()
