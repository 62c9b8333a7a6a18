// The page: asks for what has changed, and shows it.

import { Compare, MOST } from "./compare.js";
import { Details } from "./details.js";
import { Filters } from "./filters.js";
import { filtered, JobList, sorted } from "./job_list.js";
import { ask, hasToken, NeedsToken, signIn, signOut } from "./service.js";
import { JobTable, PAGE } from "./table.js";
import { counted } from "./words.js";

const JOBS_MS = 1000, AFTER_ERROR_MS = 3000, TRACE_MS = 4000;
const $ = (id) => document.getElementById(id);

const jobs = new JobList(), compare = new Compare(), details = new Details();
const filters = new Filters(() => { view.page = 0; showTable(); });
const table = new JobTable($("jobs"), { tick, open, sort });
const view = { column: "job", descending: true, page: 0, opened: "", ticked: [], ...fromAddress() };

function fromAddress() {
  const found = new URLSearchParams(location.hash.slice(1));
  const ticked = (found.get("compare") ?? "").split(",").filter(Boolean).slice(0, MOST);
  return { opened: found.get("job") ?? "", ticked };
}

/** The address has the opened and the compared jobs, so that it can be kept and sent. */
function toAddress() {
  const made = new URLSearchParams();
  if (view.opened) made.set("job", view.opened);
  if (view.ticked.length) made.set("compare", view.ticked.join(","));
  history.replaceState(null, "", `#${made}`);
}

function sort(column, descending) {
  Object.assign(view, { column, descending, page: 0 });
  showTable();
}

function tick(id, whether) {
  view.ticked = view.ticked.filter((other) => other !== id);
  if (whether && view.ticked.length < MOST) view.ticked.push(id);
  changed();
}

function open(id) {
  view.opened = id;
  changed();
}

function changed() {
  toAddress();
  showTable();
  attempt(showChosen);
}

function showTable() {
  filters.offer(jobs.all);
  const found = sorted(filtered(jobs.all, filters.chosen), view.column, view.descending);
  const pages = Math.max(1, Math.ceil(found.length / PAGE));
  view.page = Math.min(view.page, pages - 1);
  const first = view.page * PAGE, shown = found.slice(first, first + PAGE);
  const full = view.ticked.length >= MOST;
  table.show(shown, { ...view, full });
  const all = jobs.all.length;
  const newest = all < jobs.count ? ` (the newest of ${counted(jobs.count, "job", "jobs")})` : "";
  write($("count"), (found.length < all ? `${found.length} of ` : "") + counted(all, "job", "jobs") + newest);
  write($("ticked-text"), view.ticked.length === 0 ? "Tick jobs to compare their curves."
    : `${view.ticked.length} of at most ${MOST} jobs are compared.`);
  $("untick").hidden = view.ticked.length === 0;
  $("jobs").hidden = found.length === 0;
  $("none").hidden = found.length > 0;
  write($("none"), all ? "No job matches the filters." : "No jobs yet. Submit one with: errorcast submit digits");
  $("pager").hidden = pages === 1;
  $("before").disabled = view.page === 0;
  $("after").disabled = view.page === pages - 1;
  write($("page-number"), `${first + 1} to ${first + shown.length} of ${found.length}`);
}

/** A text that is written again would be read aloud again. */
function write(where, text) {
  if (where.textContent !== text) where.textContent = text;
}

/** Shows the curves and the details of the chosen jobs, with what is new of them. */
async function showChosen() {
  const opened = jobs.get(view.opened) ?? null;
  const ticked = view.ticked.map((id) => jobs.get(id)).filter(Boolean);
  const drawn = ticked.length || opened === null ? ticked : [opened];
  const text = ticked.length ? "The plots show the ticked jobs."
    : opened === null ? "Tick jobs, or open one, to see their curves."
    : `The plots show ${opened.id}. Tick jobs in the table to compare them.`;
  await Promise.all([details.show(opened), compare.show(drawn, text)]);
}

async function refresh() {
  const answer = await ask(`api/jobs?since=${encodeURIComponent(jobs.revision)}`);
  const moved = jobs.merge(answer);
  showSignedIn(answer.user);
  if (!jobs.get(view.opened)) view.opened = sorted(jobs.all, "job", true)[0]?.id ?? "";
  view.ticked = view.ticked.filter((id) => jobs.get(id));
  if (moved.length) $("news").textContent = moved.map((job) => `${job.id} is ${job.state}.`).join(" ");
  showTable();
  await showChosen();
}

function showSignedIn(user) {
  const signedIn = !$("login").hidden;
  $("login").hidden = true;
  $("main").hidden = $("skip").hidden = false;
  $("user").hidden = !hasToken();
  write($("user-name"), user);
  if (signedIn) $("jobs-title").focus({ preventScroll: true });
}

function showSignedOut() {
  $("main").hidden = $("skip").hidden = $("user").hidden = true;
  if (!$("login").hidden) return;
  $("login").hidden = false;
  $("token").focus();
}

function complain(text) {
  $("problem").hidden = !text;
  write($("problem"), text);
}

/** Does something; returns whether it went well, and shows in one line if not. */
async function attempt(action) {
  try {
    await action();
    complain("");
    return true;
  } catch (error) {
    if (!(error instanceof NeedsToken)) complain(error.message);
    else {
      complain(hasToken() ? "The service does not know this token. Check that it is complete, " +
        "or ask the operator of the service for a new one." : "");
      signOut();
      showSignedOut();
    }
    return false;
  }
}

let timer = 0, running = false;

/** Asks again and again, while the page is seen and the reader is signed in. */
async function poll() {
  clearTimeout(timer);
  if (running) return;
  running = true;
  const well = await attempt(refresh);
  running = false;
  const stop = document.hidden || !$("login").hidden;
  if (!stop) timer = setTimeout(poll, well ? JOBS_MS : AFTER_ERROR_MS);
}

$("login").addEventListener("submit", (event) => {
  event.preventDefault();
  signIn($("token").value.trim());
  $("token").value = "";
  poll();
});
$("sign-out").addEventListener("click", () => {
  signOut();
  location.reload();
});
$("untick").addEventListener("click", () => {
  view.ticked = [];
  changed();
  $("jobs-title").focus({ preventScroll: true });
});
$("before").addEventListener("click", () => { view.page -= 1; showTable(); });
$("after").addEventListener("click", () => { view.page += 1; showTable(); });
addEventListener("hashchange", () => { Object.assign(view, fromAddress()); changed(); });
document.addEventListener("visibilitychange", () => { if (!document.hidden) poll(); });
setInterval(() => { if (!document.hidden) details.trace(); }, TRACE_MS);
poll();
