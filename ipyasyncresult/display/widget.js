// Paints the one trait of the widget, `state`: see `state_of` in model.py for what is in it.
//
// Python sends the whole state a few times a second; the page paints it in the next frame, and counts
// on by itself in between. Everything from tasks goes into the page as text, never as HTML.
// server.js stands above this in the page.

const SEGMENTS = ["done", "failed", "aborted", "running"]; // from left to right
const LEAST = 0.5; // percent of the bar: what there is, is seen
const BUTTONS = [
  ["stop", "Stop queued", "Take back the tasks that have not started"],
  ["interrupt", "Interrupt running", "Raise KeyboardInterrupt in the tasks that run"],
  ["retry", "Retry failed", "Run the failed tasks again, as a part of this result"],
];
const STATES = { stopped: "stopped", starting: "restarting", gone: "gone", idle: "idle", busy: "" };
const ROWS = 12; // with more engines than these there is a tile for each, and details of one
const DEAF = 250; // ms without an answer after which a kernel is taken not to listen
const PATIENCE = 1500; // ms after which a button that nobody heard says so
const NOT_HEARD =
  "The kernel is busy with this cell, and this frontend cannot reach it meanwhile. " +
  "The stop button of the toolbar ends the wait: then this is done.";

// ---------------------------------------------------------------------------------- small things

function make(parent, tag, name, attributes = {}) {
  const element = document.createElement(tag);
  if (name) element.className = name;
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  parent?.append(element);
  return element;
}

function svg(parent, tag, attributes = {}) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  parent?.append(element);
  return element;
}

// The page is touched only where it changes: that keeps a frame short with 128 engines.
function setText(element, text) {
  if (element.shown !== text) element.textContent = element.shown = text;
}

function setAttribute(element, name, value) {
  const known = (element.known ??= {});
  if (known[name] === value) return;
  known[name] = value;
  if (value === null) element.removeAttribute(name);
  else element.setAttribute(name, value);
}

const format = new Intl.NumberFormat("en-US");
const number = (value) => format.format(value);

function duration(seconds) {
  if (seconds < 9.95) return `${Math.max(0, seconds).toFixed(1)} s`;
  if (seconds < 100) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 60
    ? `${minutes} min`
    : `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min`;
}

function countdown(seconds) {
  const whole = Math.ceil(seconds);
  const two = (value) => String(value).padStart(2, "0");
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  return hours ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
}

function pace(rate) {
  if (rate >= 10) return `${number(Math.round(rate))}/s`;
  return rate >= 0.1 ? `${Number(rate.toPrecision(2))}/s` : `${Number((60 * rate).toPrecision(2))}/min`;
}

// -------------------------------------------------------------------------------------- the strip

// What an engine did, as bars: one path for all that went well, one for bins with failures.
class Strip {
  constructor(parent) {
    this.root = make(parent, "span", "ipar-strip", { "aria-hidden": "true" });
    this.svg = svg(this.root, "svg", { viewBox: "0 0 32 8", preserveAspectRatio: "none" });
    this.good = svg(this.svg, "path", { class: "ipar-strip-good" });
    this.bad = svg(this.svg, "path", { class: "ipar-strip-bad" });
  }

  paint(codes) {
    if (codes === this.codes) return;
    this.codes = codes;
    const paths = { good: "", bad: "" };
    for (let i = 0; i < codes.length; i++) {
      const code = codes.charCodeAt(i);
      const failed = code >= 97; // "a" to "i"
      const level = failed ? code - 97 : code - 48;
      if (level || failed) {
        const height = Math.max(level, 1);
        paths[failed ? "bad" : "good"] += `M${i} 8v-${height}h0.85v${height}z`;
      }
    }
    this.good.setAttribute("d", paths.good);
    this.bad.setAttribute("d", paths.bad);
  }
}

// --------------------------------------------------------------------------------------- engines

function laneOf([id, state, what, seconds, done, failed, replaced, strip, lines]) {
  return { id, state, what, seconds, done, failed, replaced, strip, lines };
}

function describe(lane) {
  const state = STATES[lane.state];
  if (lane.what) return lane.state === "idle" || !state ? lane.what : `${state} · ${lane.what}`;
  return state || "busy";
}

function notes(lane) {
  const said = [`${number(lane.done)} done`];
  if (lane.failed) said.push(`${number(lane.failed)} failed`);
  if (lane.replaced) said.push(`restarted ${lane.replaced}×`);
  return said.join(" · ");
}

// A row: number, state, what it runs and for how long, what it did, the last line that it wrote.
class Row {
  constructor(parent) {
    this.root = make(parent, "div", "ipar-lane", { role: "listitem" });
    this.head = make(this.root, "div", "ipar-lane-head");
    this.id = make(this.head, "span", "ipar-lane-id");
    this.dot = make(this.head, "span", "ipar-dot", { "aria-hidden": "true" });
    this.what = make(this.head, "span", "ipar-lane-what");
    this.time = make(this.head, "span", "ipar-lane-time");
    this.strip = new Strip(this.head);
    this.notes = make(this.head, "span", "ipar-lane-notes");
    this.output = new Output(this.root);
  }

  paint(lane, passed) {
    this.lane = lane;
    setText(this.id, String(lane.id));
    setAttribute(this.root, "data-state", lane.state);
    setText(this.what, describe(lane));
    setAttribute(this.what, "title", lane.what || null);
    setText(this.notes, notes(lane));
    this.strip.paint(lane.strip);
    this.output.paint(lane);
    this.tick(passed);
  }

  tick(passed) {
    const { seconds } = this.lane;
    setText(this.time, seconds === null ? "" : duration(seconds + passed));
  }
}

// The last line of an engine; unfolded, the last few.
class Output {
  constructor(parent) {
    this.root = make(parent, "details", "ipar-output");
    this.summary = make(this.root, "summary");
    this.last = make(this.summary, "span", "ipar-line");
    this.rest = make(this.root, "pre", "ipar-lines", { tabindex: "0" });
    this.root.addEventListener("toggle", () => this.lane && this.paint(this.lane, true));
  }

  paint(lane, anyway = false) {
    this.lane = lane;
    const lines = lane.lines;
    const shown = JSON.stringify(lines);
    if (shown === this.shown && !anyway) return;
    this.shown = shown;
    this.root.hidden = !lines.length;
    if (!lines.length) return;
    setAttribute(this.summary, "aria-label", `Last output of engine ${lane.id}`);
    const [kind, text] = lines[lines.length - 1];
    setText(this.last, this.root.open ? `last output` : text);
    setAttribute(this.last, "data-kind", this.root.open ? null : kind);
    this.rest.replaceChildren();
    if (!this.root.open) return;
    for (const [kind, text] of lines) {
      make(this.rest, "div", "ipar-line", { "data-kind": kind }).textContent = text;
    }
  }
}

// Many engines: a tile each, coloured by what it does; arrows move between them, one has details.
class Tiles {
  constructor(parent, chosen) {
    this.root = make(parent, "div", "ipar-tiles", { role: "listbox", "aria-label": "Engines" });
    this.tiles = [];
    this.chosen = chosen;
    this.root.addEventListener("keydown", (event) => this.move(event));
    this.root.addEventListener("click", (event) => {
      const index = this.indexOf(event);
      if (index >= 0) this.choose(index, true);
    });
    // What a tile stands for in words is put together when somebody wants to know.
    for (const wanted of ["pointerover", "focusin"]) {
      this.root.addEventListener(wanted, (event) => this.name(this.indexOf(event)));
    }
  }

  indexOf(event) {
    return this.tiles.indexOf(event.target.closest(".ipar-tile"));
  }

  paint(lanes) {
    while (this.tiles.length < lanes.length) {
      const tile = make(this.root, "span", "ipar-tile", { role: "option", tabindex: "-1" });
      tile.level = make(tile, "span", "ipar-tile-level");
      tile.label = make(tile, "span", "ipar-tile-id");
      this.tiles.push(tile);
    }
    while (this.tiles.length > lanes.length) this.tiles.pop().remove();
    this.lanes = lanes;
    if (this.index === undefined || this.index >= lanes.length) {
      const longest = lanes.reduce((a, b) => ((b.seconds ?? -1) > (a.seconds ?? -1) ? b : a));
      this.choose(lanes.indexOf(longest), false);
    }
    lanes.forEach((lane, index) => {
      const tile = this.tiles[index];
      setText(tile.label, String(lane.id));
      setAttribute(tile, "data-state", lane.state);
      setAttribute(tile, "data-failed", lane.failed ? "" : null);
      const code = lane.strip.charCodeAt(lane.strip.length - 1);
      setAttribute(tile.level, "data-level", code >= 97 ? code - 97 : code - 48);
    });
  }

  name(index) {
    if (index < 0) return;
    const lane = this.lanes[index];
    const state = STATES[lane.state] || describe(lane);
    setAttribute(this.tiles[index], "aria-label", `Engine ${lane.id}: ${state}, ${notes(lane)}`);
    setAttribute(this.tiles[index], "title", `${lane.id}: ${state} · ${notes(lane)}`);
  }

  move(event) {
    const columns = Math.max(
      1,
      this.tiles.filter((tile) => tile.offsetTop === this.tiles[0].offsetTop).length
    );
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[event.key];
    const ends = { Home: 0, End: this.tiles.length - 1 }[event.key];
    if (step === undefined && ends === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    const wanted = ends ?? this.index + step;
    this.choose(Math.min(this.tiles.length - 1, Math.max(0, wanted)), true);
  }

  choose(index, focus) {
    const before = this.tiles[this.index];
    if (before) {
      setAttribute(before, "tabindex", "-1");
      setAttribute(before, "aria-selected", "false");
    }
    this.index = index;
    setAttribute(this.tiles[index], "tabindex", "0");
    setAttribute(this.tiles[index], "aria-selected", "true");
    if (focus) this.tiles[index].focus();
    this.chosen();
  }
}

class Engines {
  constructor(parent) {
    this.root = make(parent, "div", "ipar-engines");
    this.tiles = new Tiles(this.root, () => this.paintDetails());
    this.list = make(this.root, "div", "ipar-lanes", { role: "list", "aria-label": "Engines" });
    this.rows = [];
  }

  paint(lanes, passed) {
    this.lanes = lanes;
    this.passed = passed;
    const many = lanes.length > ROWS;
    this.root.hidden = !lanes.length;
    this.tiles.root.hidden = !many;
    setAttribute(this.root, "data-many", many ? "" : null);
    if (many) this.tiles.paint(lanes);
    this.paintDetails();
  }

  paintDetails() {
    if (!this.lanes) return;
    const many = this.lanes.length > ROWS;
    const shown = many ? [this.lanes[this.tiles.index ?? 0]] : this.lanes;
    while (this.rows.length < shown.length) this.rows.push(new Row(this.list));
    while (this.rows.length > shown.length) this.rows.pop().root.remove();
    shown.forEach((lane, index) => this.rows[index].paint(lane, this.passed));
  }

  tick(passed) {
    this.passed = passed;
    for (const row of this.rows) row.tick(passed);
  }
}

// -------------------------------------------------------------------------------------- failures

class FailureList {
  constructor(parent) {
    this.root = make(parent, "div", "ipar-failures", { role: "list", "aria-label": "Failures" });
    this.groups = [];
    this.more = make(this.root, "div", "ipar-more");
  }

  paint(failures, failed) {
    this.root.hidden = !failed;
    while (this.groups.length < failures.length) this.groups.push(this.make());
    while (this.groups.length > failures.length) this.groups.pop().root.remove();
    failures.forEach((failure, index) => this.paintGroup(this.groups[index], failure));
    const others = failed - failures.reduce((sum, { count }) => sum + count, 0);
    setText(this.more, others > 0 ? `${number(others)} more failed` : "");
  }

  make() {
    const item = make(null, "div", "ipar-failure", { role: "listitem" });
    this.root.insertBefore(item, this.more);
    const root = make(item, "details");
    const summary = make(root, "summary");
    return {
      root: item,
      count: make(summary, "span", "ipar-failure-count"),
      title: make(summary, "span", "ipar-failure-title"),
      first: make(summary, "span", "ipar-failure-first"),
      inputs: make(root, "div", "ipar-failure-inputs"),
      traceback: make(root, "pre", "ipar-lines", { tabindex: "0" }),
    };
  }

  paintGroup(group, { count, title, place, engine, inputs, traceback }) {
    setText(group.count, count > 1 ? `${number(count)} ×` : "");
    setText(group.title, title);
    const where = engine === null ? "" : ` on engine ${engine}`;
    setText(group.first, `${count > 1 ? "first " : ""}${place}${where}`);
    setText(group.inputs, inputs ? `called as ${inputs}` : "");
    setText(group.traceback, traceback || "nothing more is known");
  }
}

// --------------------------------------------------------------------------------------- buttons

// Whether the kernel listens. A button is sent to one that just answered, or it might be heard when
// the cell is over, long after the server did what it asks for.
class Kernel {
  constructor(model) {
    this.model = model;
    this.asked = this.heard = 0;
    this.waiting = [];
    this.hear = this.hear.bind(this);
    model.on("msg:custom", this.hear);
  }

  hear({ heard }) {
    this.heard = heard;
    if (heard === this.asked) for (const resolve of this.waiting.splice(0)) resolve(true);
  }

  listens() {
    if (this.asked === this.heard) {
      this.asked += 1;
      this.since = performance.now();
      this.model.send({ ask: this.asked });
    }
    const left = DEAF - (performance.now() - this.since);
    if (left <= 0) return Promise.resolve(false);
    return new Promise((resolve) => {
      this.waiting.push(resolve);
      setTimeout(() => resolve(false), left);
    });
  }

  remove() {
    this.model.off("msg:custom", this.hear);
  }
}

class Buttons {
  constructor(parent, answers, model) {
    this.root = make(parent, "div", "ipar-buttons", { role: "group", "aria-label": "Control" });
    this.answers = answers;
    this.model = model;
    this.kernel = new Kernel(model);
    this.server = null;
    this.cannot = {};
    this.buttons = BUTTONS.map(([action, label, title]) => {
      const button = make(this.root, "button", "ipar-button", { type: "button", title });
      button.textContent = label;
      button.dataset.action = action;
      button.addEventListener("click", () => this.press(action));
      return [action, title, button];
    });
  }

  // There is a server that can do it, too.
  add(server) {
    this.server = server;
    this.kernel.listens();
  }

  paint({ cannot, answer, reach }) {
    this.cannot = cannot;
    this.tasks = reach?.tasks ?? [];
    for (const [action, title, button] of this.buttons) {
      const reason = cannot[action];
      // Not `disabled`: then nobody without a mouse would learn the reason.
      setAttribute(button, "aria-disabled", reason ? "true" : null);
      setAttribute(button, "title", reason ? `${title}: ${reason}` : title);
    }
    const [count, text] = answer;
    if (this.count !== undefined && count !== this.count) {
      clearTimeout(this.timer);
      this.say(text);
    }
    this.count = count;
  }

  async press(action) {
    clearTimeout(this.timer);
    if (this.cannot[action]) {
      this.say(`Not possible: ${this.cannot[action]}`);
      return;
    }
    this.say("…");
    const goesOver = this.server && this.tasks.length && action in OVER_THE_SERVER;
    if (goesOver && !(await this.kernel.listens())) await this.overTheServer(action);
    else this.toTheKernel(action);
  }

  toTheKernel(action) {
    this.timer = setTimeout(() => this.say(NOT_HEARD), PATIENCE);
    this.model.send({ action });
  }

  async overTheServer(action) {
    try {
      this.say(await this.server.act(action, this.tasks));
    } catch (error) {
      this.say(`That did not work: ${error.message}`);
    }
  }

  say(text) {
    setText(this.answers, text);
  }

  remove() {
    clearTimeout(this.timer);
    this.kernel.remove();
  }
}

// ------------------------------------------------------------------------------------- the whole

class View {
  constructor(el, model) {
    el.classList.add("ipar");
    this.root = el;
    setAttribute(el, "role", "region");
    const head = make(el, "div", "ipar-head");
    this.title = make(head, "span", "ipar-title");
    this.count = make(head, "span", "ipar-count");
    this.pace = make(head, "span", "ipar-pace");
    this.link = make(head, "a", "ipar-link", { target: "_blank", rel: "noopener noreferrer" });
    this.link.textContent = "Cluster ↗";
    this.link.hidden = true;
    const answers = document.createElement("div");
    this.buttons = new Buttons(head, answers, model);
    this.bar = make(el, "div", "ipar-bar", { role: "progressbar", "aria-valuemin": "0" });
    // One over the other, each as wide as the bar and moved to where it ends: the browser moves them
    // without laying anything out.
    this.segments = [...SEGMENTS].reverse().map((name) => [
      name,
      make(this.bar, "div", `ipar-segment ipar-${name}`),
    ]).reverse();
    const under = make(el, "div", "ipar-under");
    this.legend = Object.fromEntries(
      ["done", "running", "queued", "failed", "aborted"].map((name) => {
        const root = make(under, "span", "ipar-key");
        make(root, "span", `ipar-swatch ipar-${name}`, { "aria-hidden": "true" });
        const value = make(root, "span", "ipar-value");
        make(root, "span").textContent = ` ${name}`;
        return [name, { root, value }];
      })
    );
    answers.className = "ipar-answer";
    answers.setAttribute("role", "status");
    under.append(answers);
    this.engines = new Engines(el);
    this.failures = new FailureList(el);
    // Counts on between two updates, and once a second is enough when nothing comes any more.
    this.timer = setInterval(() => this.tick(), 1000);
  }

  // Once it is known whose tasks these are: the way to the cluster's page, where there is one.
  async findServer(cluster) {
    this.cluster = cluster;
    const server = await Server.of(cluster);
    if (!server || this.removed) return;
    this.buttons.add(server);
    this.link.href = server.page;
    this.link.title = `All that cluster ${cluster} does, on a page of its own`;
    this.link.hidden = false;
  }

  // Many states may come between two frames: the last one is painted.
  take(state) {
    this.state = state;
    this.since = performance.now();
    this.frame ??= requestAnimationFrame(() => {
      this.frame = undefined;
      this.paint();
    });
  }

  paint() {
    const { state } = this;
    if (!state || state.done === undefined) return;
    const { name, total, done, failed, aborted, running, queued } = state;
    const ended = done + failed + aborted;
    const whole = total || 1;
    setText(this.title, name);
    setAttribute(this.root, "aria-label", `Progress of ${name}`);
    setText(this.count, `${number(ended)} of ${number(total)}`);
    let end = 0;
    for (const [name, segment] of this.segments) {
      if (state[name]) end += Math.max(LEAST, (100 * state[name]) / whole);
      const left = (Math.min(100, end) - 100).toFixed(2);
      setAttribute(segment, "style", `transform:translateX(${left}%)`);
    }
    setAttribute(this.bar, "aria-valuemax", String(whole));
    setAttribute(this.bar, "aria-valuenow", String(ended));
    setAttribute(this.bar, "aria-label", `${name}: ${ended} of ${whole} ended, ${failed} failed`);
    for (const [key, { root, value }] of Object.entries(this.legend)) {
      root.hidden = !state[key] && (key === "failed" || key === "aborted");
      setText(value, number(state[key]));
    }
    this.engines.paint(state.lanes.map(laneOf), this.passed());
    this.failures.paint(state.failures, failed);
    this.buttons.paint(state);
    if (state.reach && this.cluster === undefined) this.findServer(state.reach.cluster);
    this.tick();
  }

  passed() {
    return (performance.now() - this.since) / 1000;
  }

  tick() {
    const { state } = this;
    if (!state || state.done === undefined) return;
    const passed = this.passed();
    const said = [duration(state.elapsed + passed)];
    if (state.rate !== null) said.push(pace(state.rate));
    if (!state.engines) said.push("no engines");
    else if (state.remaining !== null) {
      said.push(`${countdown(Math.max(0, state.remaining - passed))} left`);
    }
    setText(this.pace, said.join(" · "));
    this.engines.tick(passed);
  }

  remove() {
    this.removed = true;
    clearInterval(this.timer);
    this.buttons.remove();
    if (this.frame !== undefined) cancelAnimationFrame(this.frame);
  }
}

export default {
  render({ model, el }) {
    const view = new View(el, model);
    const take = () => view.take(model.get("state"));
    model.on("change:state", take);
    take();
    return () => {
      model.off("change:state", take);
      view.remove();
    };
  },
};
