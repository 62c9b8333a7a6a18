"""The page of a service that has 200 jobs of three owners, over TLS, in a real browser."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from playwright.sync_api import Browser, Locator, Page, Response, expect
from support.browser import address_of, sign_in
from support.running import NO_RAY, TOKEN, Running, serving
from support.stored_jobs import HTML, OWNERS, Ending, fill

from coordinator.client import Client
from coordinator.service.users import User, line_of

pytestmark = pytest.mark.host
expect.set_options(timeout=20_000)
COUNT, PAGE = 200, 20
ALICE = "a-token-of-alice-0123456789"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("many")


@pytest.fixture(scope="module")
def endings(folder: Path) -> dict[str, Ending]:
    """How each stored job ended, oldest first."""
    return fill(folder / "state", COUNT)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def running(folder: Path, endings: dict[str, Ending], authority: trustme.CA) -> Iterator[Running]:
    users = folder / "users.txt"
    users.touch(mode=0o600)
    users.write_text(line_of(User("alice"), ALICE) + "\n", encoding="utf-8")
    made = authority.issue_cert("127.0.0.1", "localhost")
    made.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    made.private_key_pem.write_to_path(folder / "key.pem")
    (folder / "key.pem").chmod(0o600)
    tls = ("--tls-cert", str(folder / "cert.pem"), "--tls-key", str(folder / "key.pem"))
    web = ("--web", "127.0.0.1:0", "--users", str(users))
    with serving(folder / "state", *tls, *web, *NO_RAY, token=TOKEN) as started:
        yield started


@pytest.fixture
def opened(page: Page, running: Running) -> Page:
    """The page, signed in as the operator. Complaints of the browser fail the test."""
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda m: complaints.append(m.text) if "ontent Security" in m.text else None)
    sign_in(page, running, TOKEN)
    assert complaints == []
    return page


def rows(page: Page) -> Locator:
    return page.locator("#jobs tbody tr")


def ids(page: Page) -> list[str]:
    return page.locator("#jobs tbody th button").all_inner_texts()


def head(page: Page, name: str) -> Locator:
    return page.locator("#jobs thead th", has=page.get_by_role("button", name=name, exact=True))


def sort_by(page: Page, name: str) -> str | None:
    head(page, name).get_by_role("button").click()
    return head(page, name).get_attribute("aria-sort")


def tick(page: Page, job: str) -> Locator:
    return page.get_by_role("checkbox", name=f"Compare {job}", exact=True)


def picture(page: Page, plot: str) -> str:
    return str(page.evaluate(f"document.querySelector('#{plot} canvas').toDataURL()"))


def in_state(endings: dict[str, Ending], state: str) -> list[str]:
    return [job for job, ending in endings.items() if ending.state == state]


def test_jobs_come_in_pages_and_their_curves_when_they_are_drawn(
    page: Page, running: Running, endings: dict[str, Ending]
) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    sign_in(page, running, TOKEN)
    expect(page.locator("#count")).to_have_text("200 jobs")
    newest = list(endings)[::-1]
    assert ids(page) == newest[:PAGE]
    page.get_by_role("button", name="Next").click()
    assert ids(page) == newest[PAGE : 2 * PAGE]
    expect(page.locator("#page-number")).to_have_text("21 to 40 of 200")
    expect(page.get_by_role("button", name="Previous")).to_be_enabled()
    page.locator("#loss canvas").wait_for()
    assert len([url for url in asked if "/curves" in url]) == 1
    assert all(url.startswith(address_of(running)) for url in asked)


def test_only_a_job_that_has_changed_is_sent_and_drawn_again(
    opened: Page, running: Running, endings: dict[str, Ending], authority: trustme.CA
) -> None:
    answers: list[dict[str, Any]] = []

    def keep(response: Response) -> None:
        if "/api/jobs?since=" in response.url:
            answers.append(response.json())

    paused = in_state(endings, "PAUSED")[-1]
    row = rows(opened).filter(has=opened.get_by_role("button", name=paused, exact=True))
    expect(row.locator(".badge")).to_have_text("PAUSED")
    opened.evaluate(
        "document.querySelectorAll('#jobs tbody tr').forEach((r) => { r.kept = true; })"
    )
    opened.on("response", keep)
    with Client(running.address, TOKEN, authority.cert_pem.bytes()) as client:
        client.cancel(paused)
    expect(row.locator(".badge")).to_have_text("CANCELLED")
    expect(opened.get_by_role("status").filter(has_text=f"{paused} is CANCELLED.")).to_have_count(1)
    kept = opened.evaluate("[...document.querySelectorAll('#jobs tbody tr')].every((r) => r.kept)")
    assert kept, "rows were made again"
    assert all(not answer["all"] for answer in answers)
    sent = [job["id"] for answer in answers for job in answer["jobs"]]
    assert paused in sent
    # the service may just have explained why the queued ones wait
    assert set(sent) <= {paused, *in_state(endings, "QUEUED")}


def test_a_column_sorts_both_ways_with_unknown_values_last(
    opened: Page, endings: dict[str, Ending]
) -> None:
    trained = [job for job, e in endings.items() if e.state not in ("PAUSED", "QUEUED")]
    assert sort_by(opened, "Loss") == "ascending"
    assert ids(opened) == sorted(trained, key=lambda job: endings[job].loss)[:PAGE]
    assert sort_by(opened, "Loss") == "descending"
    assert ids(opened) == sorted(trained, key=lambda job: -endings[job].loss)[:PAGE]
    assert head(opened, "Job").get_attribute("aria-sort") is None
    assert sort_by(opened, "Owner") == "ascending"
    assert set(opened.locator("#jobs td.owner").all_inner_texts()) == {"alice"}
    for name in ("Task", "State", "Progress", "Metric", "Time left", "Started"):
        assert sort_by(opened, name) in ("ascending", "descending")
        expect(rows(opened)).to_have_count(PAGE)


def test_filters_by_state_owner_task_and_words(opened: Page, endings: dict[str, Ending]) -> None:
    failed = in_state(endings, "FAILED")
    opened.get_by_label("State", exact=True).select_option("FAILED")
    expect(opened.locator("#count")).to_have_text(f"{len(failed)} of 200 jobs")
    assert ids(opened) == failed[::-1]
    opened.get_by_label("State", exact=True).select_option("active")
    active = sum(e.state in ("PAUSED", "QUEUED", "RUNNING") for e in endings.values())
    expect(opened.locator("#count")).to_have_text(re.compile(rf"^({active}|{active - 1}) of"))
    opened.get_by_label("State", exact=True).select_option("")
    opened.get_by_label("Owner", exact=True).select_option("bob")
    opened.get_by_label("Task", exact=True).select_option("digits")
    assert set(opened.locator("#jobs td.owner").all_inner_texts()) == {"bob"}
    assert set(opened.locator("#jobs td.task .name").all_inner_texts()) == {"digits"}
    opened.get_by_role("button", name="Clear the filters").click()
    expect(opened.locator("#count")).to_have_text("200 jobs")
    expect(opened.locator("#search")).to_be_focused()
    opened.locator("#search").fill("ALICE make-task")
    expect(rows(opened).first).to_be_visible()
    assert all(job.startswith("make-task") for job in ids(opened))
    opened.locator("#search").fill("bp")
    expect(opened.locator("#count")).to_have_text("50 of 200 jobs")
    opened.locator("#search").fill("no such job")
    expect(opened.locator("#none")).to_have_text("No job matches the filters.")


def test_the_curves_of_ticked_jobs_lie_over_each_other(
    opened: Page, endings: dict[str, Ending]
) -> None:
    first, *others = in_state(endings, "SUCCEEDED")[:-9:-1]
    expect(opened.locator("#curves-note")).to_contain_text("The plots show synthetic-0200.")
    tick(opened, first).check()
    table = opened.locator("#loss table")
    expect(table.locator("tbody th")).to_have_text(
        [re.compile(f"^{first} (bp|dfa, random feedback)$")]
    )
    cells = table.locator("tbody td").all_inner_texts()
    loss = endings[first].loss
    assert float(cells[0]) == pytest.approx(loss + 0.0067, abs=1e-3)
    assert float(cells[2]) == pytest.approx(loss + 0.7788, abs=1e-3)
    for job in others:
        tick(opened, job).check()
    expect(table.locator("tbody tr")).to_have_count(8)
    styles = table.locator(".sample").evaluate_all("all => all.map((s) => s.dataset.style)")
    assert len(set(styles)) == 8
    unticked = in_state(endings, "FAILED")[-1]
    expect(tick(opened, unticked)).to_be_disabled()
    expect(opened.locator("#ticked-text")).to_have_text("8 of at most 8 jobs are compared.")
    tick(opened, first).uncheck()
    expect(table.locator("tbody tr")).to_have_count(7)
    assert (
        table.locator(".sample").evaluate_all("all => all.map((s) => s.dataset.style)")
        == styles[1:]
    )
    expect(tick(opened, unticked)).to_be_enabled()
    opened.reload()
    expect(table.locator("tbody tr")).to_have_count(7)
    opened.get_by_role("button", name="Untick all").click()
    expect(table.locator("tbody tr")).to_have_count(1)


def test_axes_and_values_can_be_switched(opened: Page, endings: dict[str, Ending]) -> None:
    for job in in_state(endings, "SUCCEEDED")[-2:]:
        tick(opened, job).check()
    plot = opened.locator("#loss .plot")
    expect(plot).to_have_attribute("aria-label", re.compile("of the training loss by step of .*,"))
    opened.locator("#loss canvas").wait_for()
    linear = picture(opened, "loss")
    opened.get_by_label("Logarithmic loss axis").check()
    assert picture(opened, "loss") != linear
    for axis in ("epoch", "time"):
        opened.get_by_label("Horizontal axis").select_option(axis)
        expect(plot).to_have_attribute("aria-label", re.compile(f"by {axis} of"))
    losses = opened.get_by_label("Loss", exact=True)
    assert losses.locator("option").all_text_contents() == ["training loss", "test loss"]
    losses.select_option("test loss")
    expect(plot).to_have_attribute("aria-label", re.compile("of the test loss by time"))
    metrics = opened.get_by_label("Metric", exact=True)
    assert metrics.input_value() == "test accuracy"
    assert metrics.locator("option").all_text_contents() == ["test accuracy", "learning rate"]
    metrics.select_option("learning rate")
    expect(opened.locator("#metric tbody td").first).to_have_text("0.0010")


def test_a_plot_can_be_read_and_zoomed_with_the_keyboard(opened: Page) -> None:
    plot, pointer = opened.locator("#loss .plot"), opened.locator("#loss thead th").last
    opened.locator("#loss canvas").wait_for()
    plot.focus()
    opened.keyboard.press("End")
    expect(pointer).to_have_text("At step 50")
    opened.keyboard.press("ArrowLeft")
    expect(pointer).to_have_text("At step 45")
    expect(opened.locator("#loss tbody td").last).not_to_have_text("")
    tick(opened, ids(opened)[0]).check()  # it has trained half as long as the next
    tick(opened, ids(opened)[1]).check()
    expect(opened.locator("#loss tbody tr")).to_have_count(2)
    plot.focus()
    opened.keyboard.press("End")
    expect(pointer).to_have_text("At step 100")
    at_end = opened.locator("#loss tbody td:last-child").all_inner_texts()
    assert at_end[0] == "\N{EN DASH}"
    assert float(at_end[1]) > 0
    opened.keyboard.press("+")
    opened.locator("#loss").get_by_role("button", name="Show the whole axis").click()
    expect(opened.get_by_role("button", name="Show the whole axis")).to_have_count(0)
    expect(plot).to_be_focused()


def test_the_keyboard_reaches_everything_in_order(opened: Page) -> None:
    expect(opened.get_by_role("heading", name="Jobs")).to_be_focused()
    opened.reload()
    opened.locator("#loss canvas").wait_for()
    seen = []
    for _ in range(20):
        opened.keyboard.press("Tab")
        focused = opened.evaluate(
            "() => { const e = document.activeElement, o = getComputedStyle(e).outlineStyle;"
            " return [e.id || e.ariaLabel || e.textContent, o]; }"
        )
        assert focused[1] == "solid", f"{focused[0]} shows no focus"
        seen.append(focused[0])
    columns = [
        "Job",
        "Owner",
        "Task",
        "State",
        "Progress",
        "Metric",
        "Loss",
        "Time left",
        "Started",
    ]
    newest = ids(opened)
    rest = [f"Compare {newest[0]}", newest[0], f"Compare {newest[1]}", newest[1]]
    assert seen == [
        "skip",
        "sign-out",
        "theme",
        "search",
        "state",
        "owner",
        "task",
        *columns,
        *rest,
    ]
    opened.keyboard.press("ArrowDown")
    expect(opened.get_by_role("button", name=newest[2], exact=True)).to_be_focused()
    opened.keyboard.press("Enter")
    expect(opened.get_by_role("heading", name=re.compile(newest[2]))).to_be_visible()
    opened.keyboard.press("Shift+Tab")
    opened.keyboard.press("Space")
    expect(tick(opened, newest[2])).to_be_checked()
    opened.keyboard.press("ArrowUp")
    expect(tick(opened, newest[1])).to_be_focused()


def test_a_row_that_moves_keeps_the_focus(opened: Page, endings: dict[str, Ending]) -> None:
    job = ids(opened)[5]
    opened.locator("#search").fill(job[-4:-1])  # the ten jobs around it, on one page
    tick(opened, job).focus()
    opened.evaluate(
        "() => [...document.querySelectorAll('#jobs thead button')]"
        ".find((b) => b.textContent === 'Loss').click()"  # without the mouse, which takes the focus
    )
    assert head(opened, "Loss").get_attribute("aria-sort") == "ascending"
    expect(tick(opened, job)).to_be_focused()


def test_everything_has_a_name(opened: Page) -> None:
    opened.locator("#loss canvas").wait_for()
    nameless = opened.evaluate(
        "() => [...document.querySelectorAll('button, input, select, [role=img]')].filter((e) =>"
        " !(e.ariaLabel || e.textContent.trim() || e.labels?.length)).map((e) => e.outerHTML)"
    )
    assert nameless == []
    scopes = opened.locator("th").evaluate_all("all => all.map((th) => th.scope)")
    assert set(scopes) == {"col", "row"}
    for table in ("#jobs", "#loss table", "#metric table"):
        assert opened.locator(f"{table} caption").text_content()


def test_html_of_users_is_shown_as_text(opened: Page, endings: dict[str, Ending]) -> None:
    title = opened.title()
    opened.locator("#search").fill("carol make-task")
    expect(rows(opened).first).to_be_visible()
    job = ids(opened)[0]
    row = rows(opened).first
    assert row.locator("td.owner").inner_text() == OWNERS[2]
    assert HTML in row.locator("td.task").inner_text()
    opened.get_by_role("button", name=job, exact=True).click()
    expect(opened.locator("#facts dd").nth(1)).to_have_text(OWNERS[2])
    opened.get_by_label("State", exact=True).select_option("FAILED")
    opened.locator("#search").fill("")
    opened.get_by_role("button", name=in_state(endings, "FAILED")[0], exact=True).click()
    expect(opened.locator("#reason")).to_contain_text(HTML)
    assert HTML in rows(opened).first.locator(".reason").inner_text()
    assert opened.locator("img").count() == 0
    assert opened.title() == title


def test_colours_follow_the_system_until_the_reader_chooses(
    browser: Browser, running: Running
) -> None:
    context = browser.new_context(color_scheme="dark", ignore_https_errors=True)
    page = context.new_page()
    sign_in(page, running, TOKEN)
    dark, light = "rgb(20, 24, 29)", "rgb(255, 255, 255)"
    expect(page.locator("body")).to_have_css("background-color", dark)
    page.locator("#loss canvas").wait_for()
    drawn = picture(page, "loss")
    page.get_by_label("Colours").select_option("light")
    expect(page.locator("body")).to_have_css("background-color", light)
    assert picture(page, "loss") != drawn
    page.reload()
    expect(page.locator("body")).to_have_css("background-color", light)
    page.get_by_label("Colours").select_option("system")
    expect(page.locator("body")).to_have_css("background-color", dark)
    context.close()


def test_a_narrow_screen_shows_cards(opened: Page, endings: dict[str, Ending]) -> None:
    opened.set_viewport_size({"width": 390, "height": 844})
    for job in in_state(endings, "SUCCEEDED")[-3:]:
        tick(opened, job).check()
    expect(opened.locator("#loss tbody tr")).to_have_count(3)
    expect(opened.locator("#loss canvas")).to_have_css("width", re.compile("^3[0-9]{2}"))
    assert opened.evaluate("document.documentElement.scrollWidth") <= 390
    first = rows(opened).nth(1)
    for cell in ("owner", "task", "state", "progress", "metric", "loss", "left", "started"):
        expect(first.locator(f"td.{cell}")).to_be_visible()
    assert sort_by(opened, "Loss") == "ascending"


def test_a_user_sees_what_the_api_shows(
    page: Page, running: Running, authority: trustme.CA
) -> None:
    """Users see all jobs, as over gRPC; their names lead to their own."""
    page.goto(address_of(running))
    page.locator("#token").fill("wrong-token-0123456789")
    page.get_by_role("button", name="Open", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("The service does not know this token.")
    sign_in(page, running, ALICE)
    expect(page.locator("#user-name")).to_have_text("alice")
    with Client(running.address, ALICE, authority.cert_pem.bytes()) as client:
        seen = list(client.jobs())
    expect(page.locator("#count")).to_have_text(f"{len(seen)} jobs")
    page.get_by_label("Owner", exact=True).select_option("alice")
    own = sum(job.owner == "alice" for job in seen)
    expect(page.locator("#count")).to_have_text(f"{own} of {len(seen)} jobs")
    page.get_by_role("button", name="Sign out").click()
    expect(page.locator("#token")).to_be_visible()
    assert page.locator("#main").is_hidden()
    assert page.evaluate("sessionStorage.length") == 0


def test_a_service_that_does_not_answer_is_one_clear_line(opened: Page) -> None:
    opened.context.set_offline(True)
    expect(opened.get_by_role("alert")).to_have_text(
        "The service does not answer. It may be restarting; this page tries again by itself."
    )
    opened.context.set_offline(False)
    expect(opened.get_by_role("alert")).to_have_count(0)


def test_numbers_and_times_are_written_for_people(opened: Page) -> None:
    def words(call: str) -> object:
        return opened.evaluate(f"async () => (await import('/words.js')).{call}")

    durations = {0.2: "under 1 s", 59: "59 s", 200: "3 min 20 s", 3900: "1 h 05 min"}
    durations |= {90_000: "1 d 1 h"}
    for seconds, text in durations.items():
        assert words(f"duration({seconds})") == text
    numbers = {0.25: "0.2500", 123.456: "123.5", 3e-7: "3.00e-7", 0: "0.0000", 2e6: "2.00e+6"}
    for value, text in numbers.items():
        assert words(f"number({value})") == text
    assert words("number(null)") == words("duration(null)") == "\N{EN DASH}"
    assert words("timeLeft({seconds_left: 61, may_end_early: true})") == "at most 1 min 01 s"


def test_long_curves_are_thinned_and_repeated_steps_replaced(opened: Page) -> None:
    """A job of 20,000 logged steps, whose last 5,000 are repeated after a fault."""
    line = opened.evaluate(
        """async () => {
            const { JobCurves } = await import('/curve_data.js');
            const curves = new JobCurves();
            const points = (first, last, loss) => Array.from({ length: last - first + 1 },
                (_, i) => ({ step: first + i, time: 0, loss }));
            curves.add({ training: points(1, 20000, 2), evaluations: [], after: 1 });
            const before = curves.training.all.length;
            curves.add({ training: points(15001, 20000, 1), evaluations: [], after: 2 });
            const all = curves.training.all;
            return { before, after: all.length, steps: all.map((p) => p.step),
                     losses: all.map((p) => p.loss) };
        }"""
    )
    assert 1000 < line["before"] <= 4000
    assert 1000 < line["after"] <= 4000
    assert line["steps"] == sorted(set(line["steps"]))
    assert line["steps"][-1] == 20_000
    assert all(
        loss == (1 if step > 15_000 else 2)
        for step, loss in zip(line["steps"], line["losses"], strict=True)
    )
