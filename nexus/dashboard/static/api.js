// Requests to the proxy, with a key if it requires one.

const KEPT_AS = "nexus-key";

/** An error response of the proxy. */
export class Refused extends Error {
  constructor(status, message, param = null) {
    super(message);
    this.status = status;
    /** The invalid member of the body, if there is one. */
    this.param = param;
  }
}

export function keep(key) {
  // Kept for this tab only, until it is closed.
  if (key) sessionStorage.setItem(KEPT_AS, key);
  else sessionStorage.removeItem(KEPT_AS);
}

export async function ask(path, { method = "GET", body, headers = {} } = {}) {
  const key = sessionStorage.getItem(KEPT_AS);
  const answer = await fetch(path, {
    method,
    body,
    cache: "no-store",
    headers: {
      ...headers,
      ...(key ? { Authorization: `Bearer ${key}` } : {}),
      ...(body === undefined ? {} : { "Content-Type": "application/json" }),
    },
    signal: AbortSignal.timeout(10_000),
  });
  const text = await answer.text();
  if (!answer.ok) {
    const { message, param } = errorIn(text);
    throw new Refused(answer.status, message ?? `${method} ${path}: ${answer.status}`, param);
  }
  return text === "" ? null : JSON.parse(text);
}

function errorIn(text) {
  try {
    const { error } = JSON.parse(text);
    return typeof error === "string" ? { message: error, param: null } : { message: error?.message ?? null, param: error?.param ?? null };
  } catch {
    return { message: null, param: null };
  }
}
