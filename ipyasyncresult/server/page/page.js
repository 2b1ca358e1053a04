// The page of clusters.  Events drive it; it asks only for what somebody opens.

import { api, events } from "./api.js";
import { Calls } from "./calls.js";
import { button, counted, element, seconds, set } from "./dom.js";
import { Lanes } from "./lanes.js";

const find = (id) => document.getElementById(id);
const PERIOD = 100; // milliseconds between two paintings, at least
const state = { clusters: [], chosen: null, source: null, news: null, silent: "", dirty: false };

const lanes = new Lanes(find("lanes"), (engine) =>
  change("interrupt", { engines: [engine] }, () => `engine ${engine} is interrupted`));
const calls = new Calls(find("calls"), find("no-calls"), find("older"), act, say);

// ------------------------------------------------------------------------------- what comes

function listen() {
  state.source?.close();
  state.source = events(state.chosen);
  state.source.addEventListener("clusters", (event) => takeClusters(JSON.parse(event.data)));
  state.source.addEventListener("news", (event) => takeNews(JSON.parse(event.data)));
  state.source.addEventListener("ended", (event) => setSilent(JSON.parse(event.data).reason));
  state.source.addEventListener("error", () => {
    if (state.source.readyState === EventSource.CLOSED) say("The server does not answer: reload the page.", true);
  });
}

function takeClusters(clusters) {
  state.clusters = clusters;
  const ids = clusters.map((one) => one.cluster_id);
  if (!ids.includes(state.chosen)) {
    const wanted = decodeURIComponent(location.hash.slice(1));
    const stays = clusters.filter((one) => one.persist);
    choose(ids.includes(wanted) ? wanted : (stays.at(-1) ?? clusters.at(-1))?.cluster_id ?? null);
    return;
  }
  showClusters();
}

// The hub says nothing; if its cluster lives, the server asks it again.
function setSilent(reason) {
  state.silent = reason;
  showClusters();
}

function takeNews(news) {
  state.news = news;
  if (state.silent) setSilent("");
  lanes.take(news);
  for (const call of news.calls) calls.take(call);
  const running = new Map();
  for (const { task } of news.engines) {
    if (task) running.set(task.call_id, (running.get(task.call_id) ?? 0) + 1);
  }
  calls.takeRunning(running);
  state.dirty = true;
}

// ------------------------------------------------------------------------------- what shows

function choose(clusterId) {
  state.chosen = clusterId;
  state.news = null;
  state.silent = "";
  lanes.clear();
  find("nothing").hidden = clusterId !== null;
  find("cluster").hidden = clusterId === null;
  find("numbers").replaceChildren();
  if (clusterId !== null) {
    history.replaceState(null, "", `#${encodeURIComponent(clusterId)}`);
    calls.show(clusterId);
    find("log").open = false;
  }
  showClusters();
  listen();
}

// A button that stays is not touched: one that is put there anew while it is pressed hears no click.
function showClusters() {
  const place = find("clusters");
  const ids = state.clusters.map((one) => one.cluster_id);
  const known = new Map([...place.children].map((one) => [one.textContent, one]));
  for (const [id, gone] of known) if (!ids.includes(id)) gone.remove();
  ids.forEach((id, index) => {
    const shown = known.get(id) ?? button(id, () => choose(id));
    shown.setAttribute("aria-current", String(id === state.chosen));
    if (place.children[index] !== shown) place.insertBefore(shown, place.children[index] ?? null);
  });
  const chosen = state.clusters.find((one) => one.cluster_id === state.chosen);
  if (!chosen) return;
  document.title = `${chosen.cluster_id} · ipyasyncresult`;
  set(find("title"), chosen.cluster_id);
  const lasts = chosen.persist ? "stays until it is stopped" : "ends with its notebook";
  const silent = state.silent && `no news: ${state.silent}`;
  set(find("about"), silent || `${lasts} · hub is process ${chosen.pid} · Python ${chosen.python}`);
  find("about").classList.toggle("bad", Boolean(silent));
}

function showNumbers() {
  const { engines, unfinished, waiting, now } = state.news;
  const running = engines.filter((one) => one.task).length;
  const started = state.clusters.find((one) => one.cluster_id === state.chosen)?.started ?? now;
  const numbers = {
    engines: engines.filter((one) => one.up).length,
    "busy engines": running,
    "tasks waiting": waiting,
    "tasks unfinished": unfinished,
    "tasks done": engines.reduce((sum, one) => sum + one.finished, 0),
    "up for": seconds(now - started),
  };
  const place = find("numbers");
  if (!place.children.length) {
    place.append(...Object.keys(numbers).map((name) =>
      element("div", {}, element("dt", {}, name), element("dd"))));
  }
  Object.values(numbers).forEach((value, index) =>
    set(place.children[index].lastChild, value.toLocaleString()));
  find("interrupt-all").disabled = !running;
}

// The address may have brought a token: it has done its work, and is nobody's to see.
if (location.search) history.replaceState(null, "", location.pathname + location.hash);

let painted = 0;
function paint(now) {
  if (now - painted >= PERIOD && state.news) {
    painted = now;
    lanes.paint();
    calls.paint(Date.now() / 1000 + lanes.offset);
    if (state.dirty) showNumbers();
    state.dirty = false;
  }
  requestAnimationFrame(paint);
}
requestAnimationFrame(paint);

// ------------------------------------------------------------------------------- what one does

function say(text, bad = false) {
  set(find("said"), text);
  find("said").classList.toggle("bad", bad);
}

async function change(what, body, tell) {
  try {
    say(tell(await api(`clusters/${state.chosen}/${what}`, { method: "POST", body })));
  } catch (error) {
    say(error.message, true);
  }
}

function act(callId, what) {
  const wanted = what === "abort" ? "aborted" : "interrupting";
  const words = { aborted: "taken back", interrupting: "interrupted" };
  change(what, { call_id: callId }, (outcome) => {
    const count = Object.values(outcome).filter((one) => one === wanted).length;
    return count ? `${counted(count, "task")} ${words[wanted]}` : "too late: there was none";
  });
}

find("interrupt-all").addEventListener("click", () => {
  const engines = state.news.engines.filter((one) => one.task).map((one) => one.engine_id);
  change("interrupt", { engines }, () => `${counted(engines.length, "engine")} interrupted`);
});

find("stop").addEventListener("click", () => {
  const unfinished = state.news?.unfinished ?? 0;
  const loses = unfinished ? ` ${counted(unfinished, "task")} will not be finished.` : "";
  set(find("question"), `Stop cluster ${state.chosen}?${loses}`);
  find("sure").showModal();
});

find("sure").addEventListener("close", async () => {
  if (find("sure").returnValue !== "yes") return;
  const { chosen } = state;
  try {
    await api(`clusters/${chosen}`, { method: "DELETE" });
    say(`${chosen} is stopped`);
  } catch (error) {
    say(error.message, true);
  }
});

find("start").addEventListener("submit", async (event) => {
  event.preventDefault();
  const press = event.target.querySelector("button");
  const count = find("count").value;
  const body = { n: count === "" ? null : Number(count), cluster_id: find("name").value.trim() || null };
  press.disabled = true;
  say("starting ...");
  try {
    const started = await api("clusters", { method: "POST", body });
    say(`${started.cluster_id} is up with ${counted(started.engines, "engine")}`);
    takeClusters(await api("clusters"));
    choose(started.cluster_id);
    event.target.reset();
  } catch (error) {
    say(error.message, true);
  }
  press.disabled = false;
});

async function showLog() {
  const { chosen } = state;
  if (!find("log").open || chosen === null) return;
  try {
    const { lines } = await api(`clusters/${chosen}/log?lines=200`);
    if (chosen === state.chosen) set(find("log-lines"), lines.join("\n") || "Nothing: all is well.");
  } catch (error) {
    say(error.message, true);
  }
}

find("log").addEventListener("toggle", showLog);

// A tab that nobody looks at reads nothing: browsers allow few open connections to a server.
document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    state.source?.close();
  } else {
    if (state.chosen !== null) calls.load(0);
    listen();
  }
});

listen();
