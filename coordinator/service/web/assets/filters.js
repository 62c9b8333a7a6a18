// The filters of the table: a search, and choices whose values are those of the jobs.

import { STATES } from "./job_list.js";
import { shortTask } from "./words.js";

const $ = (id) => document.getElementById(id);
const ANY = "any", OWNED_BY = "owner ";  // an owner's name may be empty

export class Filters {
  #offered = "";

  /** onChange: called when the reader has changed a filter. */
  constructor(onChange) {
    this.form = $("filters");
    const states = [["any state", ""], ["not ended", "active"], ...STATES.map((s) => [s, s])];
    $("state").append(...states.map(([text, value]) => new Option(text, value)));
    const told = () => {
      $("clear").hidden = !this.active;
      onChange();
    };
    this.form.addEventListener("input", told);
    this.form.addEventListener("submit", (event) => event.preventDefault());
    this.form.addEventListener("reset", () => setTimeout(() => {  // the values change after it
      told();
      $("search").focus();
    }));
  }

  get chosen() {
    const owner = $("owner").value;
    return {
      text: $("search").value,
      state: $("state").value,
      owner: owner.startsWith(OWNED_BY) ? owner.slice(OWNED_BY.length) : null,
      task: $("task").value,
    };
  }

  get active() {
    const { text, state, owner, task } = this.chosen;
    return Boolean(text || state || owner !== null || task);
  }

  /** Offers the owners and tasks of these jobs. */
  offer(jobs) {
    const owners = [...new Set(jobs.map((job) => job.owner))].sort();
    const tasks = [...new Set(jobs.map((job) => job.task))].sort();
    const offered = JSON.stringify([owners, tasks]);
    if (offered === this.#offered) return;
    this.#offered = offered;
    fill($("owner"), "any owner", ANY, owners.map((name) => [name || "no owner", OWNED_BY + name]));
    fill($("task"), "any task", "", tasks.map((name) => [shortTask(name), name]));
  }
}

function fill(select, text, value, choices) {
  const chosen = select.value;
  select.replaceChildren(new Option(text, value), ...choices.map((choice) => new Option(...choice)));
  select.value = choices.some((choice) => choice[1] === chosen) ? chosen : value;
}
