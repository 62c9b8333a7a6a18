// The opened job: its settings, and the load of its processes.

import { ask, jobPath } from "./service.js";
import { showTimeline } from "./timeline.js";
import { duration, moment, number, UNKNOWN } from "./words.js";

const $ = (id) => document.getElementById(id);

function workers({ blocks, heads, replicas }) {
  const each = `${blocks} ${blocks === 1 ? "block" : "blocks"}` +
    (heads ? ` and ${heads} ${heads === 1 ? "head" : "heads"}` : "");
  return replicas > 1 ? `${replicas} replicas of ${each}` : each;
}

function facts(job, found) {
  const scores = Object.entries(found.metrics).sort()
    .map(([name, value]) => `${name} ${number(value)}`).join(", ");
  const ran = job.started === null ? null : (job.ended ?? Date.now() / 1000) - job.started;
  return [
    ["Task", job.task],
    ["Owner", job.owner || UNKNOWN],
    ["Method", job.method],
    ["Workers", workers(found)],
    ["Optimizer", `${found.optimizer}, learning rate ${found.lr}`],
    ["Batch", `${found.batch_size} samples in ${found.microbatches} ` +
      (found.microbatches === 1 ? "microbatch" : "microbatches")],
    ["Epochs", String(job.epochs)],
    ["Seed", String(found.seed)],
    ["Time of a step", found.step_seconds ? `${(1000 * found.step_seconds).toFixed(2)} ms` : UNKNOWN],
    ["Newest evaluation", scores || UNKNOWN],
    ["Submitted", moment(job.submitted)],
    ["Started", moment(job.started) + (found.starts > 1 ? ` (${found.starts} starts)` : "")],
    ["Ended", moment(job.ended)],
    ["Duration, with pauses", ran === null ? UNKNOWN : duration(ran)],
  ];
}

function showFacts(rows) {
  const list = $("facts");
  if (list.childElementCount !== rows.length) {
    list.replaceChildren(...rows.map(([name]) => {
      const pair = document.createElement("div"), term = document.createElement("dt");
      term.textContent = name;
      pair.append(term, document.createElement("dd"));
      return pair;
    }));
  }
  rows.forEach(([, text], i) => {
    const where = list.children[i].lastElementChild;
    if (where.textContent !== text) where.textContent = text;
  });
}

function showLoads(processes) {
  const box = $("loads");
  if (box.childElementCount !== processes.length) {
    box.replaceChildren(...processes.map(() => {
      const row = document.createElement("div");
      row.className = "load";
      row.append(document.createElement("span"), document.createElement("progress"),
        document.createElement("span"));
      return row;
    }));
  }
  processes.forEach((load, i) => {
    const [name, bar, share] = box.children[i].children;
    const parts = load.layers === "head" ? "head" : load.layers && `layers ${load.layers}`;
    name.textContent = parts ? `${load.process} (${parts})` : load.process;
    bar.value = load.busy;
    bar.ariaLabel = `${load.process} busy`;
    share.textContent = `${Math.round(100 * load.busy)}% busy`;
  });
  if (!processes.length) box.textContent = "It is known once the job has done its first steps.";
}

export class Details {
  #job = null;
  #tracing = "";  // the job whose trace is awaited
  #known = true;  // whether what is shown is all of it

  /** Shows a job; null hides what was shown. */
  async show(job) {
    if (job === this.#job && this.#known) return;  // the same object: nothing has changed
    const another = job?.id !== this.#job?.id;
    this.#job = job;
    this.#known = job === null;
    $("one").hidden = job === null;
    if (job === null) return;
    $("one-title").textContent = `${job.id}: ${job.state}`;
    $("reason").textContent = job.reason;
    $("trace").hidden = job.state !== "RUNNING";
    if (another) {
      $("loads").replaceChildren();
      $("facts").replaceChildren();
      showTimeline(null);
      this.trace();
    }
    const found = await ask(jobPath(job.id));
    if (this.#job?.id !== job.id) return;
    this.#known = this.#job === job;
    showFacts(facts(job, found));
    showLoads(found.processes);
  }

  /** Traces a few steps of the job, if it runs. */
  async trace() {
    const job = this.#job;
    if (job?.state !== "RUNNING" || this.#tracing === job.id) return;
    this.#tracing = job.id;
    try {
      const trace = await ask(jobPath(job.id, "/timeline"));
      if (this.#job?.id === job.id) showTimeline(trace);
    } catch {
      if (this.#job?.id === job.id) $("timeline-note").textContent = "The job cannot be traced just now.";
    } finally {
      if (this.#tracing === job.id) this.#tracing = "";
    }
  }
}
