"""A browser for tests of the page, and the page in it."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, Page, sync_playwright
from support.running import Running

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
# a browser that talks to its maker, or that cannot run as root, is of no use in a test
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]


@contextmanager
def chromium() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


def address_of(running: Running) -> str:
    """Return the address of a service's page."""
    return next(s.split()[-1] for s in running.said if s.startswith("page and metrics on"))


def sign_in(page: Page, running: Running, token: str) -> None:
    """Open the page with a token, and wait until it shows jobs."""
    page.goto(address_of(running))
    page.locator("#token").fill(token)
    page.get_by_role("button", name="Open", exact=True).click()
    page.locator("#jobs tbody tr").first.wait_for()
