// The table of jobs: one page of rows, of which only the cells that changed are written.

import { loss, metric, moment, shortMoment, shortTask, timeLeft, UNKNOWN, whole } from "./words.js";

export const PAGE = 20;
const COLUMNS = [
  { key: "job", title: "Job" },
  { key: "owner", title: "Owner" },
  { key: "task", title: "Task" },
  { key: "state", title: "State" },
  { key: "progress", title: "Progress", descending: true },
  { key: "metric", title: "Metric", descending: true },
  { key: "loss", title: "Loss" },
  { key: "left", title: "Time left" },
  { key: "started", title: "Started", descending: true },
];

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

/** Writes a text where it is another one, so that nothing else is laid out again. */
function write(where, text) {
  if (where.textContent !== text) where.textContent = text;
}

/** A task in two parts, between which a line may end: "mytask.py:" and "make_task". */
function halves(task) {
  const end = task.indexOf(":") + 1;
  return [task.slice(0, end), task.slice(end)];
}

class Row {
  constructor(job, on) {
    this.tick = element("input", { type: "checkbox" });
    this.tick.setAttribute("aria-label", `Compare ${job.id}`);
    this.tick.addEventListener("change", () => on.tick(job.id, this.tick.checked));
    this.open = element("button", { type: "button", textContent: job.id });
    this.open.addEventListener("click", () => on.open(job.id));
    this.row = element("tr");
    this.row.setAttribute("role", "row");
    const tick = this.#cell("td", "tick", "");
    tick.append(element("label", {}, this.tick));
    this.#cell("th", "job", "").append(this.open);
    this.cells = Object.fromEntries(COLUMNS.slice(1).map(({ key, title }) =>
      [key, this.#cell("td", key, title)]));
    this.state = element("span", { className: "badge" });
    this.reason = element("span", { className: "reason" });
    this.cells.state.append(this.state, this.reason);
    this.file = element("span");
    this.name = element("span", { className: "name" });
    this.method = element("small");
    this.cells.task.append(this.file, this.name, this.method);
    this.bar = element("progress", { max: 1 });
    this.bar.setAttribute("aria-hidden", "true");  // the text beside it says the same
    this.steps = element("span");
    this.cells.progress.append(this.steps, this.bar);
  }

  #cell(name, key, title) {
    const made = element(name, { className: key });
    if (name === "th") made.scope = "row";
    made.setAttribute("role", name === "th" ? "rowheader" : "cell");
    made.dataset.title = title;
    this.row.append(made);
    return made;
  }

  show(job, { ticked, full, opened }) {
    this.tick.checked = ticked;
    this.tick.disabled = full && !ticked;
    this.row.classList.toggle("opened", opened);
    this.open.setAttribute("aria-current", String(opened));
    write(this.cells.owner, job.owner || UNKNOWN);
    const [file, name] = halves(shortTask(job.task));
    write(this.file, file);
    write(this.name, name);
    write(this.method, job.method);
    this.cells.task.title = job.task;
    write(this.state, job.state);
    this.state.dataset.state = job.state;
    write(this.reason, ["QUEUED", "FAILED"].includes(job.state) ? job.reason : "");
    write(this.steps, job.total ? `${whole(job.step)} / ${whole(job.total)}` : UNKNOWN);
    const done = job.total ? job.step / job.total : 0;
    this.bar.hidden = !job.total;
    if (this.bar.value !== done) this.bar.value = done;
    write(this.cells.metric, metric(job));
    write(this.cells.loss, loss(job));
    write(this.cells.left, timeLeft(job));
    write(this.cells.started, shortMoment(job.started));
    this.cells.started.title = job.started === null ? "" : moment(job.started);
  }
}

export class JobTable {
  #rows = new Map();
  #heads = new Map();

  /** on: tick(id, whether), open(id) and sort(column, descending) are called for the reader. */
  constructor(table, on) {
    this.body = table.tBodies[0];
    this.on = on;
    const row = table.tHead.insertRow();
    row.setAttribute("role", "row");
    const compare = element("th", { scope: "col", className: "tick", textContent: "Compare" });
    compare.setAttribute("role", "columnheader");
    row.append(compare);
    for (const column of COLUMNS) row.append(this.#head(column));
    this.body.addEventListener("keydown", (event) => this.#move(event));
  }

  #head({ key, title, descending = false }) {
    const head = element("th", { scope: "col", className: key });
    head.setAttribute("role", "columnheader");
    const button = element("button", { type: "button", textContent: title });
    button.addEventListener("click", () => {
      const sort = head.getAttribute("aria-sort");
      this.on.sort(key, sort === null ? descending : sort === "ascending");
    });
    head.append(button);
    this.#heads.set(key, head);
    return head;
  }

  /** Shows these jobs in this order. */
  show(jobs, { column, descending, ticked, full, opened }) {
    for (const [key, head] of this.#heads) {
      if (key === column) head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    }
    const focused = document.activeElement, shown = new Set(jobs.map((job) => job.id));
    for (const [id, row] of this.#rows) {
      if (shown.has(id)) continue;
      row.row.remove();
      this.#rows.delete(id);
    }
    let next = this.body.firstElementChild;
    for (const job of jobs) {
      if (!this.#rows.has(job.id)) this.#rows.set(job.id, new Row(job, this.on));
      const row = this.#rows.get(job.id);
      row.show(job, { ticked: ticked.includes(job.id), full, opened: job.id === opened });
      if (row.row === next) next = next.nextElementSibling;
      else this.body.insertBefore(row.row, next);
    }
    // a row that is moved loses the focus
    if (focused !== document.activeElement && focused.isConnected) focused.focus({ preventScroll: true });
  }

  #move(event) {
    const away = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
    const row = event.target.closest("tr");
    if (!away || !row || !row[away]) return;
    const kind = event.target.matches("input") ? "input" : "th button";
    row[away].querySelector(kind).focus();
    event.preventDefault();
  }
}
