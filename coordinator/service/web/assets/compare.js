// Overlays the curves of the jobs that the reader compares, or shows those of the opened job.

import { CurveData } from "./curve_data.js";
import { Figure } from "./figure.js";
import { STYLES } from "./plot.js";

export const MOST = STYLES.length;  // jobs in one plot

export class Compare {
  #data = new CurveData();
  #styles = new Map();  // of a job: it keeps its colour while others come and go
  #shown = [];
  #drawn = [null];  // what was last drawn, at first nothing

  constructor() {
    const onChoice = () => this.#draw();
    this.note = document.getElementById("curves-note");
    this.axis = document.getElementById("axis");
    this.log = document.getElementById("log");
    this.loss = new Figure(document.getElementById("loss"),
      { title: "Loss", none: "No loss is logged yet.", onChoice });
    this.metric = new Figure(document.getElementById("metric"),
      { title: "Metric", none: "No evaluation is logged yet.", onChoice });
    this.axis.addEventListener("change", onChoice);
    this.log.addEventListener("change", onChoice);
  }

  /** Fetches what is new of these jobs, and draws them if they are still wanted. */
  async show(jobs, text) {
    const same = jobs.length === this.#drawn.length && jobs.every((job, i) => job === this.#drawn[i]);
    this.#shown = jobs;
    if (this.note.textContent !== text) this.note.textContent = text;
    if (same) return;  // the same objects: nothing has changed
    this.#chooseStyles(jobs);
    await this.#data.update(jobs);
    if (this.#shown === jobs) this.#draw();
  }

  #chooseStyles(jobs) {
    for (const id of this.#styles.keys()) {
      if (!jobs.some((job) => job.id === id)) this.#styles.delete(id);
    }
    for (const job of jobs) {
      if (this.#styles.has(job.id)) continue;
      const used = [...this.#styles.values()];
      this.#styles.set(job.id, STYLES.find((style) => !used.includes(style)));
    }
  }

  #draw() {
    this.#drawn = this.#shown;
    const jobs = this.#shown, losses = new Set(), others = new Set();
    for (const job of jobs) {
      const values = this.#data.values(job);
      values.losses.forEach((value) => losses.add(value));
      values.others.forEach((value) => others.add(value));
    }
    const name = jobs.find((job) => job.metric !== null)?.metric.name;
    const axis = this.axis.value;
    const loss = this.loss.offer([...losses], (value) => value === "training loss");
    const metric = this.metric.offer([...others], (value) => value.split(" ").slice(1).join(" ") === name);
    const lines = (value) => jobs.map((job) => ({
      id: job.id, method: job.method, style: this.#styles.get(job.id), ...this.#data.line(job, value, axis) }));
    this.loss.draw(lines(loss), { axis, log: this.log.checked });
    this.metric.draw(lines(metric), { axis });
  }
}
