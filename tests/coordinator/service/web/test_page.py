"""The page in a real browser, and Prometheus's figures beside it."""

import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from prometheus_client.parser import text_string_to_metric_families
from support.browser import address_of, sign_in
from support.running import QUICK, TOKEN, Running, wait_for


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


@pytest.mark.parametrize("path", ["/api/jobs", "/api/jobs/x", "/api/jobs/x/curves", "/metrics"])
def test_nothing_is_revealed_without_the_token(service: Running, path: str) -> None:
    for token in ("", "wrong-token-0123456789"):
        status, text, headers = get(service, path, token)
        assert (status, json.loads(text)) == (401, {"error": "token"})
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
        assert "unsafe" not in policy
        assert "require-trusted-types-for 'script'" in policy


BAD = {
    "no job": ("/api/jobs/none", 404),
    "no job's curves": ("/api/jobs/none/curves", 404),
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


def test_a_wrong_revision_gets_all_jobs(service: Running, job: str) -> None:
    known = json.loads(get(service, "/api/jobs")[1])["revision"]
    assert json.loads(get(service, f"/api/jobs?since={known}")[1])["all"] is False
    for wrong in ("0", "x.0", f"{known}9999999999999999999", known.partition(".")[0], "%00."):
        answer = json.loads(get(service, f"/api/jobs?since={wrong}")[1])
        assert answer["all"] is True
        assert job in [row["id"] for row in answer["jobs"]]


@pytest.mark.host
def test_the_page_in_a_browser(service: Running, job: str, page: Page) -> None:
    home = address_of(service)
    requests: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda m: complaints.append(m.text) if "ontent Security" in m.text else None)
    sign_in(page, service, TOKEN)
    page.get_by_role("heading", name=f"{job}: RUNNING").wait_for()
    assert not page.locator("#login").is_visible()
    row = page.locator("#jobs tbody tr", has=page.get_by_role("button", name=job, exact=True))
    expect(row.locator(".owner")).to_have_text("admin")
    expect(row.locator(".metric")).to_have_text(re.compile(r"^accuracy 0\.\d{4}$"))
    expect(row.locator(".left")).to_have_text(re.compile(r"^\d+ (s|min|h|d)( \d\d? (s|min|h))?$"))
    for plot in ("#loss canvas", "#metric canvas"):
        page.locator(plot).wait_for()
    assert page.locator("#loads progress").count() == 3
    traced = re.compile(r"^steps \d+, \d+, \d+: ")
    expect(page.locator("#timeline-note")).to_have_text(traced, timeout=60_000)
    drawn = page.evaluate(
        "() => { const c = document.getElementById('timeline');"
        " return new Set(c.getContext('2d').getImageData(0, 0, c.width, c.height).data).size; }"
    )
    assert drawn > 4, "the timeline is one colour"
    said = page.get_by_role("img", name=re.compile("Timeline of steps"))
    expect(said).to_have_attribute("aria-label", re.compile(r"block 1: forward \d+%, update \d+%"))
    step = row.locator(".progress").inner_text()
    expect(row.locator(".progress")).not_to_have_text(step)  # it is live
    assert complaints == []
    assert all(url.startswith(home) for url in requests), requests
