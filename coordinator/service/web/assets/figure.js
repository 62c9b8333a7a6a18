// A plot with its title, its choice of a value, and a table that says the same in numbers.

import { Plot } from "./plot.js";
import { duration, number, tick, UNKNOWN } from "./words.js";

const COLUMNS = ["Job", "Newest", "Lowest", "Highest", "At the pointer"];

export class Figure {
  #values = [];
  #axis = "step";

  /** onChoice: called when the reader chooses another value. */
  constructor(figure, { title, none, onChoice }) {
    this.figure = figure;
    this.none = none;
    const id = figure.id;
    this.choice = document.createElement("select");
    this.choice.addEventListener("change", onChoice);
    this.choice.id = `${id}-value`;
    const label = document.createElement("label"), choice = document.createElement("p");
    label.htmlFor = this.choice.id;
    label.textContent = title;
    choice.append(label, " ", this.choice);
    this.showAll = document.createElement("button");
    this.showAll.type = "button";
    this.showAll.textContent = "Show the whole axis";
    this.showAll.hidden = true;
    const bar = document.createElement("div");
    bar.className = "bar";
    bar.append(choice, this.showAll);
    this.box = document.createElement("div");
    this.box.className = "plot";
    this.box.tabIndex = 0;
    this.box.setAttribute("role", "img");
    this.box.setAttribute("aria-describedby", `${id}-keys`);
    this.note = document.createElement("p");
    const keys = document.createElement("p");
    keys.id = `${id}-keys`;
    keys.className = "keys";
    keys.textContent = "Drag to zoom. With the keyboard: arrows move the pointer, + and - zoom, 0 shows all.";
    this.table = document.createElement("table");
    this.table.createCaption().className = "unseen";
    const head = this.table.createTHead().insertRow();
    for (const name of COLUMNS) {
      const cell = document.createElement("th");
      cell.scope = "col";
      cell.textContent = name;
      head.append(cell);
    }
    this.pointer = head.lastElementChild;
    this.table.createTBody();
    figure.append(bar, this.note, this.box, keys, this.table);
    this.plot = new Plot(this.box, {
      onPointer: (x, values) => this.#showPointer(x, values),
      onZoom: (zoomed) => { this.showAll.hidden = !zoomed; },
    });
    this.showAll.addEventListener("click", () => {
      this.plot.showAll();
      this.box.focus({ preventScroll: true });
    });
  }

  /** The value that is drawn; `wanted` says which one, until the reader chooses another. */
  offer(values, wanted) {
    if (String(values) !== String(this.#values)) {
      const chosen = this.choice.value;
      this.choice.replaceChildren(...values.map((value) => new Option(value, value)));
      this.#values = values;
      this.choice.value = values.includes(chosen) ? chosen : values.find(wanted) ?? values[0] ?? "";
    }
    return this.choice.value;
  }

  /** Draws lines {id, method, style, x, y}. axis: step, epoch or time. */
  draw(lines, { axis, log = false }) {
    const drawn = lines.filter((line) => line.x.length > 0);
    this.#axis = axis;
    this.note.textContent = drawn.length ? "" : this.none;
    this.box.hidden = this.table.hidden = drawn.length === 0;
    this.choice.disabled = this.#values.length === 0;
    if (!drawn.length) {
      this.plot.clear();
      return;
    }
    const value = this.choice.value, jobs = drawn.map((line) => `${line.id} (${line.method})`).join(", ");
    const label = `Line plot of the ${value} by ${axis} of ${jobs}. The table after it has the numbers.`;
    if (this.box.ariaLabel !== label) this.box.ariaLabel = label;
    this.table.caption.textContent = `The ${value} of the jobs in the plot`;
    const [unit, xLabel] = unitOf(drawn, axis);
    this.unit = unit;
    const scaled = drawn.map((line) => ({ ...line, x: line.x.map((x) => x / unit) }));
    this.#fill(drawn);
    this.plot.draw(scaled, { xLabel, log });
  }

  #fill(lines) {
    const body = this.table.tBodies[0];
    while (body.rows.length > lines.length) body.deleteRow(-1);
    lines.forEach((line, i) => {
      const row = body.rows[i] ?? newRow(body);
      const known = line.y.filter((y) => y !== null);
      const numbers = known.length ? [line.y.at(-1), least(known), -least(known.map((y) => -y))] : [];
      const [head, ...cells] = row.cells;
      head.firstElementChild.dataset.style = `${line.style.colour}${line.style.dash.length ? "d" : ""}`;
      head.children[1].textContent = line.id;
      head.children[2].textContent = line.method;
      for (const k of [0, 1, 2]) {
        const newestIsNot = k === 0 && line.y.length > 0 && line.y.at(-1) === null;
        cells[k].textContent = newestIsNot ? "not finite" : number(numbers[k]);
      }
    });
  }

  #showPointer(x, values) {
    const at = { step: (s) => `step ${tick(s)}`, epoch: (e) => `epoch ${e?.toFixed(1)}`,
      time: (s) => duration(s * this.unit) }[this.#axis];
    this.pointer.textContent = x === null ? "At the pointer" : `At ${at(x)}`;
    [...this.table.tBodies[0].rows].forEach((row, i) => {
      row.lastElementChild.textContent = x === null ? "" : values[i] || UNKNOWN;
    });
  }
}

/** What the numbers of an axis are divided by, and what is written below it. */
function unitOf(lines, axis) {
  if (axis !== "time") return [1, axis];
  const longest = Math.max(...lines.map((line) => line.x.at(-1)));
  const [unit, name] = longest < 300 ? [1, "seconds"] : longest < 18000 ? [60, "minutes"] : [3600, "hours"];
  return [unit, `${name} since the start`];
}

/** Without spreading: a call takes a limited number of arguments. */
const least = (numbers) => numbers.reduce((a, b) => (b < a ? b : a));

function newRow(body) {
  const row = body.insertRow(), head = document.createElement("th");
  head.scope = "row";
  const sample = document.createElement("span");
  sample.className = "sample";
  head.append(sample, document.createElement("span"), " ", document.createElement("small"));
  row.append(head);
  for (let i = 1; i < COLUMNS.length; i++) row.insertCell();
  return row;
}
