// The history: calls, their tasks, and what those printed.

import { api } from "./api.js";
import { button, clock, counted, element, seconds, set } from "./dom.js";

const STATES = ["ok", "error", "lost", "aborted", "running", "pending"];
const WORDS = { ok: "done", error: "failed", lost: "lost", aborted: "aborted", running: "running", pending: "waiting" };
const PAGE = 50;

export class Calls {
  // `say(text, bad)` tells the user; `act(callId, what)` stops or interrupts.
  constructor(body, none, older, act, say) {
    Object.assign(this, { body, none, older, act, say });
    this.rows = new Map();
    older.addEventListener("click", () => this.load(this.rows.size));
  }

  // How many tasks of each call run, by its id: engines know, the counts of a call do not.
  takeRunning(running) {
    for (const [callId, row] of this.rows) {
      const count = running.get(callId) ?? 0;
      if (row.running === count) continue;
      row.running = count;
      row.update(row.call);
    }
  }

  // `now` is the hub's.
  paint(now) {
    for (const row of this.rows.values()) row.paint(now);
  }

  show(clusterId) {
    this.clusterId = clusterId;
    this.rows.clear();
    this.body.replaceChildren();
    return this.load(0);
  }

  get path() {
    return `clusters/${this.clusterId}`;
  }

  async load(skip) {
    const { clusterId } = this;
    const asked = performance.now();
    try {
      const calls = await api(`${this.path}/calls?limit=${PAGE}&skip=${skip}`);
      if (clusterId !== this.clusterId) return;
      for (const call of calls) {
        const row = this.rows.get(call.call_id);
        if (!row || row.updated < asked) this.take(call); // an event may have been faster
      }
      this.older.hidden = calls.length < PAGE;
    } catch (error) {
      this.say(error.message, true);
    }
    this.none.hidden = this.rows.size > 0;
  }

  take(call) {
    let row = this.rows.get(call.call_id);
    if (!row) {
      row = new CallRow(this, call.call_id);
      this.rows.set(call.call_id, row);
      const next = [...this.body.children].find((one) => Number(one.dataset.submitted) < call.submitted);
      row.head.dataset.submitted = row.detail.dataset.submitted = call.submitted;
      this.body.insertBefore(row.head, next ?? null);
      this.body.insertBefore(row.detail, next ?? null);
      this.none.hidden = true;
    }
    row.update(call);
  }
}

class CallRow {
  constructor(calls, callId) {
    Object.assign(this, { calls, callId, shown: 0, failedOnly: false, running: 0 });
    this.opens = button("", () => this.toggle(), { class: "opens", "aria-expanded": "false" });
    this.bar = element("div", { class: "segments", role: "img" });
    this.tasks = element("td");
    this.submitted = element("td", { class: "when" });
    this.took = element("td", { class: "number" });
    this.abort = button("Stop queued", () => calls.act(callId, "abort"), { class: "small" });
    this.interrupt = button("Interrupt", () => calls.act(callId, "interrupt"), { class: "small" });
    this.head = element(
      "tr", { "data-call": callId },
      element("td", { class: "name" }, this.opens),
      element("td", { class: "bar" }, this.bar),
      this.tasks, this.submitted, this.took,
      element("td", { class: "number" }, this.abort, " ", this.interrupt),
    );
    this.inside = element("td", { colspan: "6" });
    this.detail = element("tr", { class: "detail" }, this.inside);
    this.detail.hidden = true;
  }

  update(call) {
    this.call = call;
    this.updated = performance.now();
    const name = call.label || call.fname || "a single call";
    const running = Math.min(this.running, call.counts.pending ?? 0);
    const counts = { ...call.counts, running, pending: (call.counts.pending ?? 0) - running };
    if (call.counts.running) counts.running = call.counts.running; // a single one's own state
    set(this.opens, name);
    this.opens.title = `${name} ${call.call_id}`;
    this.abort.setAttribute("aria-label", `Stop queued tasks of ${name}`);
    this.interrupt.setAttribute("aria-label", `Interrupt ${name}`);
    const parts = STATES.filter((state) => counts[state]);
    this.bar.replaceChildren(...parts.map((state) => {
      const part = element("i", { class: state });
      part.style.flexGrow = counts[state];
      return part;
    }));
    const words = parts.map((state) => `${counts[state].toLocaleString()} ${WORDS[state]}`);
    this.bar.setAttribute("aria-label", words.join(", "));
    this.tasks.replaceChildren(...parts.map((state, index) => element(
      "span", ["error", "lost"].includes(state) ? { class: "bad" } : {},
      words[index] + (index < parts.length - 1 ? ", " : ""))));
    set(this.submitted, clock(call.submitted));
    this.open = Boolean(counts.pending || counts.running);
    if (!this.open) set(this.took, call.completed === null ? "" : seconds(call.completed - call.submitted));
    this.abort.hidden = this.interrupt.hidden = !this.open;
    if (this.onlyFailed) this.offerFailed();
  }

  paint(now) {
    if (this.open) set(this.took, seconds(Math.max(0, now - this.call.submitted)));
  }

  toggle() {
    const open = this.detail.hidden;
    this.detail.hidden = !open;
    this.opens.setAttribute("aria-expanded", String(open));
    if (open) this.list(false);
  }

  // Where there are some; who looks at them must get back, though.
  offerFailed() {
    const { error, lost, aborted } = this.call.counts;
    this.onlyFailed.hidden = !(error || lost || aborted || this.failedOnly);
  }

  async list(failedOnly) {
    this.failedOnly = failedOnly;
    this.body = element("tbody");
    this.more = button("More tasks", () => this.fetch(), { class: "small" });
    this.onlyFailed = button(failedOnly ? "All tasks" : "Only failed", () => this.list(!failedOnly), { class: "small" });
    this.offerFailed();
    const head = ["Task", "State", "Engine", "Waited", "Ran"].map((text) => element("th", { scope: "col" }, text));
    this.total = element("span", { class: "quiet" });
    this.inside.replaceChildren(
      element("p", {}, this.total, " ", this.onlyFailed),
      element("table", {}, element("thead", {}, element("tr", {}, ...head)), this.body),
      element("p", {}, this.more),
    );
    this.shown = 0;
    await this.fetch();
  }

  async fetch() {
    const { body } = this;
    const query = `limit=${PAGE}&skip=${this.shown}&failed=${this.failedOnly ? 1 : 0}`;
    try {
      const found = await api(`${this.calls.path}/calls/${this.callId}/tasks?${query}`);
      if (body !== this.body) return; // another list was asked for meanwhile
      for (const task of found.tasks) body.append(...taskRows(this.calls, task));
      this.shown += found.tasks.length;
      set(this.total, counted(found.total, this.failedOnly ? "failed task" : "task"));
      this.more.hidden = this.shown >= found.total;
    } catch (error) {
      this.calls.say(error.message, true);
    }
  }
}

function taskRows(calls, task) {
  const inside = element("td", { colspan: "5" });
  const detail = element("tr", { class: "detail" }, inside);
  detail.hidden = true;
  const opens = button(`${task.index}`, toggle, { class: "opens", "aria-expanded": "false" });
  const waited = task.started === null ? "" : seconds(Math.max(0, task.started - task.submitted));
  const ran = task.duration === null ? "" : seconds(task.duration);
  const failed = ["error", "lost"].includes(task.status);
  const head = element(
    "tr", { "data-task": task.msg_id },
    element("td", {}, opens),
    element("td", failed ? { class: "bad" } : {}, WORDS[task.status] ?? task.status),
    element("td", {}, task.engine_id === null || task.engine_id < 0 ? "" : String(task.engine_id)),
    element("td", {}, waited), element("td", {}, ran),
  );

  async function toggle() {
    detail.hidden = !detail.hidden;
    opens.setAttribute("aria-expanded", String(!detail.hidden));
    if (detail.hidden) return;
    try {
      const found = await api(`${calls.path}/tasks/${task.msg_id}`);
      inside.replaceChildren(...contents(found));
    } catch (error) {
      inside.replaceChildren(element("p", { class: "bad" }, error.message));
    }
  }

  return [head, detail];
}

function contents(task) {
  const shown = task.outputs.map((output) =>
    element("pre", { class: output.kind === "stderr" ? "stderr" : "stdout" }, output.text));
  if (task.error) {
    const text = task.error.traceback || `${task.error.name}: ${task.error.message}`;
    shown.push(element("pre", { class: "traceback" }, text));
  }
  return shown.length ? shown : [element("p", { class: "quiet" }, "It printed nothing.")];
}
