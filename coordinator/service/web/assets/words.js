// Writes numbers, times and states for people. What is not known is a dash.

export const UNKNOWN = "–";

export function number(value) {
  if (value === null || value === undefined) return UNKNOWN;
  if (value === 0 || (Math.abs(value) >= 1e-3 && Math.abs(value) < 1e5)) {
    return String(Math.abs(value) >= 100 ? Number(value.toFixed(1)) : value.toFixed(4));
  }
  return value.toExponential(2);
}

/** A number for a plot's axis: as short as it can be. */
export function tick(value) {
  if (value === null || value === undefined) return "";
  if (value === 0 || (Math.abs(value) >= 1e-3 && Math.abs(value) < 1e5)) {
    return String(Number(value.toPrecision(6)));
  }
  return value.toExponential().replace("e+", "e");
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return UNKNOWN;
  const s = Math.round(seconds);
  const two = (n) => String(n).padStart(2, "0");
  if (s < 1) return "under 1 s";
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${two(s % 60)} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${two(Math.floor(s % 3600 / 60))} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor(s % 86400 / 3600)} h`;
}

/** The local date and time: "2026-03-09 14:05". */
export function moment(seconds) {
  if (seconds === null) return UNKNOWN;
  const at = new Date(seconds * 1000), two = (n) => String(n).padStart(2, "0");
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ` +
    `${two(at.getHours())}:${two(at.getMinutes())}`;
}

/** The local time of a moment of today, and date and time of another. */
export function shortMoment(seconds) {
  const [text, today] = [moment(seconds), moment(Date.now() / 1000)];
  return text.slice(0, 10) === today.slice(0, 10) ? text.slice(11) : text;
}

export function timeLeft(job) {
  if (job.seconds_left === null) return UNKNOWN;
  return (job.may_end_early ? "at most " : "") + duration(job.seconds_left);
}

export function loss(job) {
  return job.step && job.loss === null ? "not finite" : number(job.loss);
}

export function metric(job) {
  if (job.metric === null) return UNKNOWN;
  const value = job.metric.value;
  return `${job.metric.name} ${value === null ? "not finite" : number(value)}`;
}

/** A task's name without the folder of its file. */
export const shortTask = (task) => task.slice(task.lastIndexOf("/") + 1);

export const whole = (n) => n.toLocaleString("en");

export const counted = (n, one, many) => `${whole(n)} ${n === 1 ? one : many}`;
