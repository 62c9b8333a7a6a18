// One plot with several lines, drawn by uPlot. Each line has a colour and dashes of its own.

import { number, tick } from "./words.js";

const HEIGHT = 300;
export const STYLES = [
  ...[1, 2, 3, 4].map((colour) => ({ colour, dash: [] })),
  ...[1, 2, 3, 4].map((colour) => ({ colour, dash: [7, 4] })),
];

const probe = document.createElement("span");
probe.hidden = true;

/** A colour of the theme in words that a canvas knows. */
function themed(name) {
  if (!probe.isConnected) document.body.append(probe);
  probe.style.color = `var(--${name})`;
  return getComputedStyle(probe).color;
}

export class Plot {
  #plot = null;
  #shape = "";
  #zoomed = false;
  #ends = [];  // the last x of each line

  /** onPointer: called with the x under the pointer and each line's y there, or with null. */
  constructor(box, { onPointer, onZoom }) {
    this.box = box;
    this.onPointer = onPointer;
    this.onZoom = onZoom;
    addEventListener("themechange", () => this.#plot?.redraw());
    new ResizeObserver(() => this.#plot?.setSize(this.#size())).observe(box);
    box.addEventListener("keydown", (event) => this.#key(event));
  }

  /** Draws lines {id, style, x, y}; they share the axes. */
  draw(lines, { xLabel, log }) {
    const usable = lines.map((line) => [line.x, log ? line.y.map((y) => (y > 0 ? y : null)) : line.y]);
    const columns = uPlot.join(usable);
    this.#ends = lines.map((line) => line.x.at(-1));
    const shape = JSON.stringify([lines.map((line) => [line.id, line.style]), xLabel, log]);
    if (shape === this.#shape) {
      this.#plot.setData(columns, !this.#zoomed);
      if (this.#zoomed) this.#plot.redraw();
      return;
    }
    this.clear();
    this.#shape = shape;
    this.#plot = new uPlot(this.#options(lines, columns, xLabel, log), columns, this.box);
  }

  clear() {
    this.#plot?.destroy();
    this.#plot = null;
    this.#shape = "";
    this.#setZoomed(false);
  }

  showAll() {
    this.#plot?.setData(this.#plot.data, true);
    this.#setZoomed(false);
  }

  #setZoomed(zoomed) {
    this.#zoomed = zoomed;
    this.onZoom(zoomed);
  }

  #size() {
    return { width: Math.max(200, this.box.clientWidth), height: HEIGHT };
  }

  #options(lines, columns, xLabel, log) {
    const axis = {
      stroke: () => themed("ink"), grid: { stroke: () => themed("line"), width: 1 },
      ticks: { stroke: () => themed("line") }, font: "13px system-ui, sans-serif",
    };
    return {
      ...this.#size(),
      legend: { show: false },
      padding: [12, 16, 0, 0],
      cursor: { drag: { x: true, y: false }, points: { size: 7 } },
      scales: { x: { time: false, range: spread }, y: log ? { distr: 3 } : {} },
      axes: [
        { ...axis, label: xLabel, labelFont: "13px system-ui, sans-serif", labelSize: 24, size: 34,
          values: (_, all) => all.map(tick) },
        { ...axis, size: widthOf, values: (_, all) => all.map(tick), ...(log ? powers(axis) : {}) },
      ],
      series: [{}, ...lines.map(({ style }) => ({
        stroke: () => themed(`curve-${style.colour}`), width: 2, dash: style.dash,
        points: { fill: () => themed("paper"), show: (_, i) => columns[i].filter((y) => y !== null && y !== undefined).length < 40 },
      }))],
      hooks: {
        setCursor: [(plot) => this.#point(plot)],
        setSelect: [(plot) => { if (plot.select.width > 0) this.#setZoomed(true); }],
        ready: [(plot) => plot.over.addEventListener("dblclick", () => this.#setZoomed(false))],
      },
    };
  }

  #point(plot) {
    const index = plot.cursor.idx;
    if (index === null || index === undefined) return this.onPointer(null);
    const x = plot.data[0][index];
    const values = plot.data.slice(1).map((column, line) => {
      if (x > this.#ends[line]) return "";  // it has ended before
      for (let i = index; i >= 0; i--) if (column[i] !== undefined) return number(column[i]);
      return "";
    });
    return this.onPointer(plot.data[0][index], values);
  }

  /** The keys left and right move the pointer, + and - zoom around it, 0 shows all. */
  #key(event) {
    const plot = this.#plot;
    if (!plot || event.ctrlKey || event.metaKey || event.altKey) return;
    const xs = plot.data[0], last = xs.length - 1, at = plot.cursor.idx ?? 0;
    const goTo = (i) => {
      const left = plot.valToPos(xs[Math.min(last, Math.max(0, i))], "x");
      plot.setCursor({ left, top: plot.over.clientHeight / 2 });
    };
    const zoom = (factor) => {
      const { min, max } = plot.scales.x, middle = xs[at];
      this.#setZoomed(true);
      plot.setScale("x", { min: middle - (middle - min) * factor, max: middle + (max - middle) * factor });
    };
    const actions = {
      ArrowLeft: () => goTo(at - 1), ArrowRight: () => goTo(at + 1),
      Home: () => goTo(0), End: () => goTo(last),
      "+": () => zoom(0.5), "-": () => zoom(2), 0: () => this.showAll(),
    };
    if (!actions[event.key] || last < 0) return;
    actions[event.key]();
    event.preventDefault();
  }
}

/** Where a logarithmic axis has lines and numbers: at powers of ten, or nearer over a short range. */
function powers(axis) {
  const filter = (plot, values) => {
    const decades = Math.log10(plot.scales.y.max / plot.scales.y.min);
    const every = Math.ceil(decades / 6), nearer = decades <= 2 ? [1, 2, 5] : [1];
    return values.map((value) => {
      const power = Math.floor(Math.log10(value) + 1e-9), digit = Math.round(value / 10 ** power);
      return nearer.includes(digit) && power % every === 0 ? value : null;
    });
  };
  return { filter, grid: { ...axis.grid, filter }, ticks: { ...axis.ticks, filter } };
}

/** A range that has a width also where there is one point. */
function spread(_, min, max) {
  return min === max ? [min - 1, max + 1] : [min, max];
}

/** As wide as the longest number beside the axis. */
function widthOf(plot, values) {
  if (!values) return 50;
  plot.ctx.font = `${13 * devicePixelRatio}px system-ui, sans-serif`;
  const widest = Math.max(...values.map((text) => plot.ctx.measureText(text ?? "").width));
  return Math.ceil(widest / devicePixelRatio) + 18;
}
