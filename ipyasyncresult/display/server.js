// The way round a kernel that does not listen: Jupyter's own server, where this package's extension
// runs in it, asks the cluster itself.
//
// It is the server that the page came from, or none. The cookie that let the page in lets these requests
// in; no token is looked at. Pages that say nothing of a server (VS Code, Colab, saved HTML) get none.

const ID = /^[A-Za-z0-9_.-]{1,100}$/;
const OVER_THE_SERVER = {
  stop: {
    route: "abort",
    words: { aborted: "aborted", running: "already running" },
    nothing: "nothing was queued",
  },
  interrupt: {
    route: "interrupt",
    words: { interrupting: "interrupted", queued: "still queued" },
    nothing: "nothing was running",
  },
};
const ABSENT = Symbol.for("ipyasyncresult: this page's server has no such routes");

// Where the page and the routes are; null where there is no server.
function addressOfServer() {
  if (globalThis[ABSENT]) return null;
  const said = document.querySelector("script#jupyter-config-data[type='application/json']");
  try {
    const { baseUrl } = JSON.parse(said.textContent);
    const address = new URL(`${baseUrl.replace(/\/*$/, "/")}ipyasyncresult`, location.href);
    return address.origin === location.origin ? address.href : null;
  } catch {
    return null;
  }
}

async function askServer(address, path, options = {}) {
  const response = await fetch(`${address}/api/${path}`, { credentials: "same-origin", ...options });
  const found = await response.json().catch(() => null);
  if (!response.ok || found === null) {
    const error = new Error(found?.message ?? response.statusText);
    error.status = response.status;
    throw error;
  }
  return found;
}

function xsrfToken() {
  const found = document.cookie.split("; ").find((one) => one.startsWith("_xsrf="));
  return found ? decodeURIComponent(found.slice("_xsrf=".length)) : "";
}

// The page's server, if it sees this cluster.
class Server {
  static async of(cluster) {
    const address = ID.test(cluster) ? addressOfServer() : null;
    if (!address) return null;
    try {
      const clusters = await askServer(address, "clusters");
      return clusters.some((one) => one.cluster_id === cluster) ? new Server(address, cluster) : null;
    } catch (error) {
      if (error.status === 404) globalThis[ABSENT] = true; // asked once for the whole page
      return null;
    }
  }

  constructor(address, cluster) {
    this.address = address;
    this.cluster = cluster;
    this.page = `${address}#${encodeURIComponent(cluster)}`;
  }

  // Stop or interrupt the tasks; what was done, in the words of the kernel's answer.
  async act(action, tasks) {
    const { route, words, nothing } = OVER_THE_SERVER[action];
    const ids = tasks.flatMap(([session, first, last]) =>
      Array.from({ length: last - first + 1 }, (_, index) => `${session}-${first + index}`)
    );
    const outcomes = await askServer(this.address, `clusters/${this.cluster}/${route}`, {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-XSRFToken": xsrfToken() },
      body: JSON.stringify({ msg_ids: ids }),
    });
    const counts = {};
    for (const outcome of Object.values(outcomes)) counts[outcome] = (counts[outcome] ?? 0) + 1;
    const said = Object.keys(words).filter((outcome) => counts[outcome]);
    return said.map((outcome) => `${counts[outcome]} ${words[outcome]}`).join(", ") || nothing;
  }
}
