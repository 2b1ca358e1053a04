// Engines as lanes: who runs what, and what ended in the last minute.

import { button, element, seconds, set } from "./dom.js";

const SPAN = 60; // seconds that a strip shows
const MOST = 3000; // tasks that a lane remembers; more do not fit into its pixels
const COLOURS = ["ok", "running", "pending", "error", "lost", "aborted"];

export class Lanes {
  // `interrupt(engineId)` is called by a lane's button.
  constructor(body, interrupt) {
    this.body = body;
    this.interrupt = interrupt;
    this.lanes = new Map();
    this.offset = 0; // the hub's clock minus ours
    this.colours = {};
    this.readColours();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.readColours());
  }

  readColours() {
    const style = getComputedStyle(document.documentElement);
    for (const name of COLOURS) {
      this.colours[name] = style.getPropertyValue(`--${name === "lost" ? "error" : name}`).trim();
    }
  }

  clear() {
    this.lanes.clear();
    this.body.replaceChildren();
  }

  take(news) {
    this.offset = news.now - Date.now() / 1000;
    for (const engine of news.engines) this.lane(engine.engine_id).update(engine);
    const there = new Set(news.engines.map((engine) => engine.engine_id));
    for (const [id, lane] of this.lanes) {
      if (!there.has(id)) {
        lane.row.remove();
        this.lanes.delete(id);
      }
    }
    for (const task of news.ends) this.lanes.get(task.engine_id)?.ended(task);
  }

  lane(id) {
    let lane = this.lanes.get(id);
    if (!lane) {
      lane = new Lane(id, () => this.interrupt(id));
      this.lanes.set(id, lane);
      const after = [...this.lanes.keys()].filter((other) => other > id).sort((a, b) => a - b)[0];
      this.body.insertBefore(lane.row, after === undefined ? null : this.lanes.get(after).row);
    }
    return lane;
  }

  paint() {
    const now = Date.now() / 1000 + this.offset;
    for (const lane of this.lanes.values()) lane.paint(now, this.colours);
  }
}

class Lane {
  constructor(id, interrupt) {
    this.spans = [];
    this.engine = null;
    this.canvas = element("canvas", { "aria-hidden": "true" });
    this.dot = element("span", { class: "dot" });
    this.state = element("span");
    this.now = element("td", { class: "now" });
    this.done = element("td", { class: "number" });
    this.button = button("Interrupt", interrupt, {
      class: "small",
      "aria-label": `Interrupt what engine ${id} runs`,
    });
    this.row = element(
      "tr", { "data-engine": id },
      element("th", { scope: "row" }, String(id)),
      element("td", {}, this.dot, this.state),
      element("td", { class: "strip" }, this.canvas),
      this.now, this.done,
      element("td", { class: "number" }, this.button),
    );
  }

  update(engine) {
    this.engine = engine;
    const state = !engine.up ? "starting" : engine.stopped ? "stopped" : engine.task ? "running" : "idle";
    if (this.shown !== state) {
      this.shown = state;
      this.dot.className = `dot ${state}`;
      set(this.state, state);
    }
    set(this.done, String(engine.finished));
    this.button.disabled = !engine.task;
    this.row.title = `process ${engine.pid}`;
  }

  ended(task) {
    if (task.completed === null) return; // lost: it has no end of its own
    this.spans.push([task.started ?? task.completed, task.completed, task.status]);
    if (this.spans.length > MOST) this.spans.splice(0, this.spans.length - MOST);
  }

  paint(now, colours) {
    const task = this.engine?.task;
    const since = task?.started;
    set(this.now, task ? `${task.name ?? task.msg_id}${since ? ` · ${seconds(now - since)}` : ""}` : "");
    const width = this.canvas.clientWidth;
    if (!width) return; // a narrow window shows no strips
    const scale = devicePixelRatio || 1;
    if (this.canvas.width !== Math.round(width * scale)) {
      this.canvas.width = Math.round(width * scale);
      this.canvas.height = Math.round(20 * scale);
    }
    const context = this.canvas.getContext("2d");
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    const x = (time) => ((time - now + SPAN) / SPAN) * this.canvas.width;
    while (this.spans.length && this.spans[0][1] < now - SPAN) this.spans.shift();
    for (const [start, end, status] of this.spans) {
      context.fillStyle = colours[status] ?? colours.ok;
      context.fillRect(x(start), 3 * scale, Math.max(x(end) - x(start) - 0.5, 1), 14 * scale);
    }
    if (since) {
      context.fillStyle = colours.running;
      context.fillRect(x(since), 3 * scale, x(now) - x(since), 14 * scale);
    }
  }
}
