// Draws what each process did in the traced steps: a row a process, a bar a piece of work.

const KINDS = ["forward", "update", "weights", "optimizer", "head"];
const ROW = 26, GAP = 12;
let shown = null;

const canvas = () => document.getElementById("timeline");

/** Shows a trace in the Chrome format; null shows nothing. */
export function showTimeline(trace) {
  const spans = (trace?.traceEvents ?? []).filter((e) => e.ph === "X" && KINDS.includes(e.name));
  const rows = (trace?.traceEvents ?? []).filter((e) => e.name === "thread_name");
  shown = spans.length ? { spans, rows, end: Math.max(...spans.map((s) => s.ts + s.dur)) } : null;
  canvas().hidden = shown === null;
  document.getElementById("timeline-note").textContent = describe();
  draw();
}

function describe() {
  if (shown === null) return "The next steps will be shown here.";
  const steps = [...new Set(shown.spans.map((s) => s.args.step))].sort((a, b) => a - b);
  return `steps ${steps.join(", ")}: ${(shown.end / 1000).toFixed(1)} ms`;
}

/** The same for those who do not see the canvas: shares of the time. */
function shares(row) {
  const parts = KINDS.map((kind) => {
    const spent = shown.spans.filter((s) => s.tid === row.tid && s.name === kind)
      .reduce((sum, s) => sum + s.dur, 0);
    return [kind, Math.round(100 * spent / shown.end)];
  }).filter(([, share]) => share > 0);
  return `${row.args.name}: ${parts.map(([kind, share]) => `${kind} ${share}%`).join(", ") || "waiting"}`;
}

function draw() {
  const where = canvas(), pen = where.getContext("2d"), style = getComputedStyle(where);
  if (shown === null || !where.clientWidth) return;
  where.ariaLabel = `Timeline of ${describe()}. ${shown.rows.map(shares).join("; ")}`;
  const height = shown.rows.length * ROW + 4;
  where.style.height = `${height}px`;
  where.width = where.clientWidth * devicePixelRatio;
  where.height = height * devicePixelRatio;
  pen.scale(devicePixelRatio, devicePixelRatio);
  pen.font = "13px system-ui, sans-serif";
  const names = shown.rows.map((row) => pen.measureText(row.args.name).width);
  const left = Math.min(where.clientWidth / 2, Math.max(...names) + 2 * GAP);
  const width = where.clientWidth - left - GAP;
  const colours = Object.fromEntries(KINDS.map((kind) => [kind, colourOf(kind)]));
  pen.fillStyle = style.color;
  for (const row of shown.rows) pen.fillText(row.args.name, GAP / 2, row.tid * ROW + 19, left - GAP);
  for (const span of shown.spans) {
    pen.fillStyle = colours[span.name];
    pen.fillRect(left + width * span.ts / shown.end, span.tid * ROW + 4,
      Math.max(1, width * span.dur / shown.end - 0.5), ROW - 4);
  }
}

/** The legend beside the canvas has the colours of the theme. */
function colourOf(kind) {
  return getComputedStyle(document.querySelector(`.kind.${kind}`), "::before").backgroundColor;
}

addEventListener("themechange", draw);
addEventListener("resize", draw);
