// The jobs as this page knows them, and which of them the reader wants to see, in which order.

export const STATES = ["QUEUED", "STARTING", "RUNNING", "PAUSED", "SUCCEEDED", "FAILED", "CANCELLED"];

export class JobList {
  #jobs = new Map();
  revision = "";
  count = 0;

  get(id) {
    return this.#jobs.get(id);
  }

  get all() {
    return [...this.#jobs.values()];
  }

  /** Takes an answer of the service; returns the jobs whose state is another now. */
  merge(answer) {
    const before = answer.all ? this.#jobs : new Map(this.#jobs);
    if (answer.all) this.#jobs = new Map();
    for (const job of answer.jobs) this.#jobs.set(job.id, job);
    for (const id of answer.deleted) this.#jobs.delete(id);
    this.revision = answer.revision;
    this.count = answer.count;
    return answer.jobs.filter((job) => before.has(job.id) && before.get(job.id).state !== job.state);
  }
}

/** What columns are sorted by; null comes last in both directions. */
const KEYS = {
  job: (job) => job.number,
  owner: (job) => job.owner || null,
  task: (job) => job.task,
  state: (job) => STATES.indexOf(job.state),
  progress: (job) => (job.total ? job.step / job.total : null),
  metric: (job) => (job.metric === null ? null : job.metric.value),
  loss: (job) => job.loss,
  left: (job) => job.seconds_left,
  started: (job) => job.started,
};

/** The jobs that a filter lets through. An empty choice lets all through. */
export function filtered(jobs, filter) {
  const words = filter.text.toLowerCase().split(/\s+/).filter(Boolean);
  const inState = (job) => !filter.state ||
    (filter.state === "active" ? !job.final : job.state === filter.state);
  return jobs.filter((job) => {
    const text = `${job.id} ${job.task} ${job.method} ${job.owner} ${job.state} ${job.reason}`.toLowerCase();
    return inState(job) && (filter.owner === null || job.owner === filter.owner) &&
      (!filter.task || job.task === filter.task) && words.every((word) => text.includes(word));
  });
}

export function sorted(jobs, column, descending) {
  const key = KEYS[column], sign = descending ? -1 : 1;
  return [...jobs].sort((a, b) => {
    const [x, y] = [key(a), key(b)];
    if (x === y) return b.number - a.number;
    if (x === null || y === null) return x === null ? 1 : -1;
    return sign * (typeof x === "string" ? x.localeCompare(y) : x - y);
  });
}
