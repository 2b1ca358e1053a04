// The server's routes.  The cookie that let this page in lets its requests in, too.

const base = document.documentElement.dataset.base;

export async function api(path, { method = "GET", body } = {}) {
  const headers = {};
  if (method !== "GET") headers["X-XSRFToken"] = cookie("_xsrf");
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const response = await fetch(`${base}/api/${path}`, {
    method, headers, credentials: "same-origin", body: body && JSON.stringify(body),
  });
  const found = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(found.message ?? response.statusText);
  return found;
}

export function events(clusterId) {
  const query = clusterId ? `?cluster=${encodeURIComponent(clusterId)}` : "";
  return new EventSource(`${base}/api/events${query}`);
}

function cookie(name) {
  const found = document.cookie.split("; ").find((one) => one.startsWith(`${name}=`));
  return found ? decodeURIComponent(found.slice(name.length + 1)) : "";
}
