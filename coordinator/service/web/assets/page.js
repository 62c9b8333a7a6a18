"use strict";
// Shows all jobs of a service and the details of one. All data comes from this server.

const JOBS_MS = 1000, TIMELINE_MS = 4000;
const COLOURS = { forward: "#4c78a8", update: "#f58518", optimizer: "#54a24b", head: "#b279a2" };
const FINAL = ["SUCCEEDED", "FAILED", "CANCELLED"];
const $ = (id) => document.getElementById(id);
let chosen = decodeURIComponent(location.hash.slice(1)), curves = null, shownState = "";
let plots = {};

class NeedsToken extends Error {}

async function ask(path) {
  const token = sessionStorage.getItem("token");
  const answer = await fetch(path, { headers: token ? { Authorization: `Bearer ${token}` } : {} });
  if (answer.status === 401) throw new NeedsToken();
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.error);
  return body;
}

function cell(row, text, kind) {
  const made = row.insertCell();
  made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

function showJobs(jobs) {
  $("none").hidden = jobs.length > 0;
  const body = document.createElement("tbody");
  for (const job of jobs) {
    const row = body.insertRow();
    row.className = job.id === chosen ? "chosen" : "";
    const button = document.createElement("button");
    button.textContent = job.id;
    button.addEventListener("click", () => choose(job.id));
    row.insertCell().append(button);
    cell(row, job.state);
    const each = job.heads ? `${job.blocks} + ${job.heads}` : `${job.blocks}`;
    const bracketed = job.heads ? `(${each})` : each;
    cell(row, job.replicas > 1 ? `${bracketed} x ${job.replicas}` : each, "number");
    cell(row, job.total ? `${job.step} / ${job.total}` : "", "number");
    cell(row, job.step ? (job.loss ?? NaN).toFixed(4) : "", "number");
    cell(row, job.step ? (1000 * job.step_seconds).toFixed(2) : "", "number");
    cell(row, job.reason);
  }
  $("jobs").tBodies[0].replaceWith(body);
}

function choose(id) {
  chosen = id;
  location.hash = encodeURIComponent(id);
  curves = null;
  for (const plot of Object.values(plots)) plot.destroy();
  plots = {};
  const canvas = $("timeline");
  canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
  $("timeline-note").textContent = "";
  refresh();
}

function draw(where, title, names, columns) {
  const colours = ["#4c78a8", "#f58518", "#54a24b", "#b279a2"];
  if (!plots[where]) {
    const series = names.map((label, i) => ({
      label, stroke: colours[i % 4], width: 2, points: { show: columns[0].length < 60 } }));
    plots[where] = new uPlot({ title, width: 510, height: 260, scales: { x: { time: false } },
      series: [{ label: "step" }, ...series] }, columns, $(where));
  } else {
    plots[where].setData(columns);
  }
}

function showCurves(found) {
  if (curves === null) curves = { metrics: [], evaluations: [], after: 0 };
  curves.metrics.push(...found.metrics);
  curves.evaluations.push(...found.evaluations);
  curves.after = found.after;
  const every = Math.ceil(curves.metrics.length / 2000);  // more than the plot has pixels
  const metrics = curves.metrics.filter((_, i) => i % every === 0);
  if (metrics.length) {
    draw("loss", "training loss", ["loss"], [metrics.map((m) => m.step), metrics.map((m) => m.loss)]);
  }
  if (curves.evaluations.length) {
    const names = Object.keys(curves.evaluations[0].scores).sort();
    draw("scores", "test", names, [curves.evaluations.map((e) => e.step),
      ...names.map((n) => curves.evaluations.map((e) => e.scores[n]))]);
  }
}

function showLoads(processes) {
  $("loads").replaceChildren(...processes.map((load) => {
    const row = document.createElement("div");
    row.className = "load";
    const name = document.createElement("span"), share = document.createElement("span");
    const bar = document.createElement("progress");
    name.textContent = `${load.process} (layers ${load.layers})`;
    bar.value = load.busy;
    bar.setAttribute("aria-label", `${load.process} busy`);
    share.textContent = `${Math.round(100 * load.busy)}% busy`;
    row.append(name, bar, share);
    return row;
  }));
}

function showTimeline(trace) {
  const spans = trace.traceEvents.filter((e) => e.ph === "X" && COLOURS[e.name]);
  const rows = trace.traceEvents.filter((e) => e.name === "thread_name");
  if (!spans.length) return;
  const canvas = $("timeline"), pen = canvas.getContext("2d"), height = 26, left = 90;
  canvas.width = canvas.clientWidth * devicePixelRatio;
  canvas.height = (rows.length * height + 4) * devicePixelRatio;
  pen.scale(devicePixelRatio, devicePixelRatio);
  const width = canvas.clientWidth - left - 4;
  const end = Math.max(...spans.map((s) => s.ts + s.dur));
  pen.font = "12px system-ui, sans-serif";
  pen.fillStyle = "#1b1f24";
  for (const row of rows) pen.fillText(row.args.name, 4, row.tid * height + 19);
  for (const span of spans) {
    pen.fillStyle = COLOURS[span.name];
    pen.fillRect(left + width * span.ts / end, span.tid * height + 4,
      Math.max(1, width * span.dur / end - 0.5), height - 4);
  }
  const steps = new Set(spans.map((s) => s.args.step));
  $("timeline-note").textContent = `steps ${[...steps].sort((a, b) => a - b).join(", ")}: ` +
    `${(end / 1000).toFixed(1)} ms`;
}

let busy = false;
async function refresh() {
  if (busy) return;
  busy = true;
  try {
    const jobs = (await ask("api/jobs")).jobs;
    $("login").hidden = true;
    if (!chosen && jobs.length) chosen = jobs[0].id;
    showJobs(jobs);
    const job = jobs.find((j) => j.id === chosen);
    $("one").hidden = !job;
    shownState = job ? job.state : "";
    if (job) {
      $("one-title").textContent = `${job.id}: ${job.state}`;
      showLoads(job.processes);
      const after = curves === null ? 0 : curves.after;
      const found = await ask(`api/jobs/${encodeURIComponent(job.id)}/curves?after=${after}`);
      if (job.id === chosen) showCurves(found);
    }
    $("status").textContent = `${jobs.length} job(s)`;
  } catch (error) {
    if (error instanceof NeedsToken) $("login").hidden = false;
    $("status").textContent = error instanceof NeedsToken ? "" : `no answer from the service: ${error.message}`;
  } finally {
    busy = false;
  }
}

async function refreshTimeline() {
  if (!chosen || shownState !== "RUNNING" || document.hidden) return;
  const asked = chosen;
  try {
    const trace = await ask(`api/jobs/${encodeURIComponent(asked)}/timeline`);
    if (asked === chosen) showTimeline(trace);
  } catch (error) {
    if (!$("timeline-note").textContent) $("timeline-note").textContent = error.message;
  }
}

$("login").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("token", $("token").value);
  refresh();
});
refresh();
setInterval(refresh, JOBS_MS);
setInterval(refreshTimeline, TIMELINE_MS);
