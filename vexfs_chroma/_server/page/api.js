// Requests to the server.  The credential is kept by the tab alone (sessionStorage), and sent in a
// header: never in an address, which logs and histories keep.

const KEY = "vexfs-credential";

export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** Called when the server asks for a credential, or refuses the one that is kept. */
export const session = { onDenied: () => {} };

export function credential() {
  try {
    return JSON.parse(sessionStorage.getItem(KEY));
  } catch {
    return null;
  }
}

export function keepToken(token) {
  sessionStorage.setItem(KEY, JSON.stringify({ "X-Chroma-Token": token }));
}

export function keepPassword(name, password) {
  const bytes = new TextEncoder().encode(`${name}:${password}`);
  const value = btoa(String.fromCharCode(...bytes));
  sessionStorage.setItem(KEY, JSON.stringify({ Authorization: `Basic ${value}` }));
}

export function forget() {
  sessionStorage.removeItem(KEY);
}

/** Integers that a double cannot hold stay exact, where the browser tells their digits. */
function revive(key, value, context) {
  if (typeof value === "number" && !Number.isSafeInteger(value)) {
    const source = context?.source;
    if (source && /^-?\d+$/.test(source)) return BigInt(source);
  }
  return value;
}

export async function call(method, path, body, { signal, quiet = false } = {}) {
  const headers = { ...credential() };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response;
  let text;
  try {
    response = await fetch(path, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      signal,
      cache: "no-store",
      credentials: "omit",
      redirect: "error",
    });
    text = await response.text();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "The server does not answer.");
  }
  if (response.ok) return text ? JSON.parse(text, revive) : null;
  if (response.status === 401 && !quiet) session.onDenied();
  let message = `${response.status} ${response.statusText}`;
  try {
    message = JSON.parse(text).message || message;
  } catch {
    // not JSON: the status is all there is
  }
  throw new ApiError(response.status, message);
}

export const get = (path, options) => call("GET", path, undefined, options);
export const post = (path, body, options) => call("POST", path, body, options);

/** A path of Chroma's API: every part is escaped. */
export function database(tenant, name) {
  const parts = [tenant, name].map(encodeURIComponent);
  return `/api/v2/tenants/${parts[0]}/databases/${parts[1]}`;
}

export function collection(place) {
  return `${database(place.tenant, place.database)}/collections/${encodeURIComponent(place.id)}`;
}

/** Every item of a list that comes in pages. */
export async function all(path, take, { most = 1000, signal } = {}) {
  const found = [];
  while (found.length < most) {
    const page = take(await get(`${path}?limit=200&offset=${found.length}`, { signal }));
    found.push(...page);
    if (page.length < 200) break;
  }
  return found;
}

/**
 * Call `look` again and again, `wait(seconds it took)` milliseconds after it ended, but not while
 * nobody sees the page.  Returns what stops it.
 */
export function poll(look, wait) {
  const controller = new AbortController();
  let timer = 0;
  let running = false;
  async function turn() {
    clearTimeout(timer);
    if (running || document.hidden || controller.signal.aborted) return;
    running = true;
    const begun = performance.now();
    try {
      await look(controller.signal);
    } catch (error) {
      if (error.name !== "AbortError") throw error;
    } finally {
      running = false;
      if (!controller.signal.aborted) {
        timer = setTimeout(turn, wait((performance.now() - begun) / 1000));
      }
    }
  }
  document.addEventListener("visibilitychange", turn, { signal: controller.signal });
  turn();
  return () => {
    clearTimeout(timer);
    controller.abort();
  };
}
