"""The page in a real browser, and Prometheus's figures beside it."""

import json
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect, sync_playwright
from prometheus_client.parser import text_string_to_metric_families
from support.running import QUICK, TOKEN, Running, wait_for

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
# a browser that talks to its maker, or that cannot run as root, is of no use in a test
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]


def address_of(running: Running) -> str:
    return next(s.split()[-1] for s in running.said if s.startswith("page and metrics on"))


def get(running: Running, path: str, token: str = TOKEN) -> tuple[int, str, Any]:
    request = urllib.request.Request(address_of(running) + path)
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read().decode(), answer.headers
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(), error.headers


@pytest.fixture(scope="module")
def job(service: Running) -> Iterator[str]:
    with service.client() as client:
        made = client.submit(**{**QUICK, "epochs": 4000, "log_every": 20}, blocks=2)
        wait_for(client, made.id, "evaluation")
        yield made.id
        client.cancel(made.id)


def test_metrics_are_prometheus_s(service: Running, job: str) -> None:
    status, text, _ = get(service, "/metrics")
    assert status == 200
    families = {f.name: f for f in text_string_to_metric_families(text)}
    states = {s.labels["state"]: s.value for s in families["errorcast_jobs"].samples}
    assert states["RUNNING"] == 1
    assert len(states) == 7
    busy = {s.labels["process"]: s.value for s in families["errorcast_busy_share"].samples}
    assert set(busy) == {"block 1", "block 2", "coordinator"}
    assert all(0 <= share <= 1 for share in busy.values())
    for name in ("errorcast_loss", "errorcast_step_seconds", "errorcast_step"):
        assert families[name].samples[0].labels == {"job": job}
        assert families[name].samples[0].value > 0
    calls = {s.labels["method"] for s in families["errorcast_call_seconds"].samples}
    assert "/errorcast.v1.TrainingService/SubmitJob" in calls


@pytest.mark.parametrize("path", ["/api/jobs", "/api/jobs/x/curves", "/metrics"])
def test_nothing_is_revealed_without_the_token(service: Running, path: str) -> None:
    for token in ("", "wrong-token-0123456789"):
        status, text, headers = get(service, path, token)
        assert (status, json.loads(text)) == (401, {"error": "token"})
        assert "default-src 'none'" in headers["Content-Security-Policy"]


BAD = {
    "no job": ("/api/jobs/none/curves", 404),
    "no event": ("/api/jobs/latest/curves?after=-1", 400),
    "traversal": ("/../../../etc/passwd", 404),
    "encoded traversal": ("/%2e%2e/page.py", 404),
    "a folder": ("/vendor/", 403),
    "nothing": ("/nothing", 404),
}


@pytest.mark.parametrize("case", BAD.values(), ids=BAD)
def test_bad_requests_are_refused(service: Running, job: str, case: tuple[str, int]) -> None:
    status, text, _ = get(service, case[0])
    assert status == case[1], text
    assert "Traceback" not in text


@pytest.fixture
def browser_page() -> Iterator[Page]:
    if CHROMIUM is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser.new_page(viewport={"width": 1120, "height": 1000})
        browser.close()


@pytest.mark.host
def test_the_page_in_a_browser(service: Running, job: str, browser_page: Page) -> None:
    page, home = browser_page, address_of(service)
    requests: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda m: complaints.append(m.text) if "ontent Security" in m.text else None)
    page.goto(home)
    page.locator("#token").fill("wrong-token-0123456789")
    page.get_by_role("button", name="Open").click()
    expect(page.locator("#login")).to_be_visible()
    page.locator("#token").fill(TOKEN)
    page.get_by_role("button", name="Open").click()
    page.get_by_role("heading", name=f"{job}: RUNNING").wait_for()
    assert not page.locator("#login").is_visible()
    assert job in page.locator("#jobs tbody").inner_text()
    for plot in ("#loss canvas", "#scores canvas"):
        page.locator(plot).wait_for()
    assert page.locator("#loads progress").count() == 3
    expect(page.locator("#timeline-note")).to_contain_text("steps", timeout=20_000)
    drawn = page.evaluate(
        "() => { const c = document.getElementById('timeline');"
        " return new Set(c.getContext('2d').getImageData(0, 0, c.width, c.height).data).size; }"
    )
    assert drawn > 4, "the timeline is one colour"
    step = page.locator("#jobs tbody td.number").nth(1).inner_text()
    expect(page.locator("#jobs tbody td.number").nth(1)).not_to_have_text(step)  # it is live
    kept = os.environ.get("ERRORCAST_SCREENSHOT")
    if kept:
        page.screenshot(path=Path(kept), full_page=True)
    assert complaints == []
    assert all(url.startswith(home) for url in requests), requests
