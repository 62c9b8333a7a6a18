// The points of jobs' curves. They are fetched once; later only those after the last known event.

import { ask, jobPath } from "./service.js";

const MOST_POINTS = 4000;  // of a curve: more than a plot has pixels
const MOST_JOBS = 32;  // whose points are kept

/** Points in ascending order of their steps. */
class Points {
  #points = [];
  #every = 1;  // one of this many is kept, and the newest
  #seen = 0;
  #spare = false;  // whether the newest is there only because it is the newest

  /** Adds a point; a step that is repeated, after a fault, replaces it and those after it. */
  add(point) {
    while (this.#points.length && this.#points.at(-1).step >= point.step) {
      this.#points.pop();
      this.#spare = false;
    }
    if (this.#spare) this.#points.pop();
    this.#points.push(point);
    this.#spare = this.#seen++ % this.#every !== 0;
    if (this.#points.length <= MOST_POINTS) return;
    this.#every *= 2;
    this.#spare = this.#points.length % 2 === 0;
    this.#points = this.#points.filter((_, i, all) => i % 2 === 0 || i === all.length - 1);
  }

  get all() {
    return this.#points;
  }
}

export class JobCurves {
  training = new Points();
  evaluations = new Map();  // by the data that was evaluated
  after = 0;
  fetching = null;  // a promise, while points are on their way

  add(found) {
    for (const point of found.training) this.training.add(point);
    for (const point of found.evaluations) {
      if (!this.evaluations.has(point.data)) this.evaluations.set(point.data, new Points());
      this.evaluations.get(point.data).add(point);
    }
    this.after = found.after;
  }
}

export class CurveData {
  #jobs = new Map();

  /** Fetches what jobs have reported since the last time. */
  async update(jobs) {
    await Promise.all(jobs.map((job) => this.#updateOne(job)));
    for (const id of this.#jobs.keys()) {
      if (this.#jobs.size <= MOST_JOBS) break;
      if (!jobs.some((job) => job.id === id)) this.#jobs.delete(id);
    }
  }

  #updateOne(job) {
    if (!this.#jobs.has(job.id)) this.#jobs.set(job.id, new JobCurves());
    const curves = this.#jobs.get(job.id);
    curves.fetching ??= fetchNew(job, curves).finally(() => { curves.fetching = null; });
    return curves.fetching;
  }

  /** What can be drawn of a job: the names of losses, and of other values. */
  values(job) {
    const curves = this.#jobs.get(job.id), losses = [], others = [];
    if (!curves) return { losses, others };
    if (curves.training.all.length) losses.push("training loss");
    for (const [data, points] of curves.evaluations) {
      const names = new Set(points.all.flatMap((point) => Object.keys(point.scores)));
      for (const name of [...names].sort()) (name === "loss" ? losses : others).push(`${data} ${name}`);
    }
    if (curves.training.all.length) others.push("learning rate");
    return { losses, others };
  }

  /** The points of a value: {x, y}, two lists. What is not finite is null. */
  line(job, value, axis) {
    const curves = this.#jobs.get(job.id), line = { x: [], y: [] };
    if (!curves) return line;
    const place = placeOn(axis, job);
    const add = (point, y) => {
      const x = place(point);
      if (y === undefined || x === null) return;
      line.x.push(x);
      line.y.push(y);
    };
    if (value === "training loss") for (const point of curves.training.all) add(point, point.loss);
    else if (value === "learning rate") for (const point of curves.training.all) add(point, point.lr);
    else {
      const data = value.split(" ", 1)[0], points = curves.evaluations.get(data);
      const name = value.slice(data.length + 1);
      for (const point of points ? points.all : []) add(point, point.scores[name]);
    }
    return line;
  }
}

async function fetchNew(job, curves) {
  let more = curves.after < job.events;
  while (more) {
    const found = await ask(jobPath(job.id, `/curves?after=${curves.after}`));
    curves.add(found);
    more = found.more;
  }
}

/** How a point is placed on an axis: by its step, its epoch, or the seconds since the job started. */
function placeOn(axis, job) {
  if (axis === "epoch") return (point) => (job.total ? point.step * job.epochs / job.total : null);
  if (axis === "time") return (point) => (job.started === null ? null : point.time - job.started);
  return (point) => point.step;
}
