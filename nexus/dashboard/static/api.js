// Requests to the proxy itself, with the key that its operator asks for, if any.

const KEPT_AS = "nexus-key";

/** What the proxy answered instead of what was asked for. */
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export function keep(key) {
  // For this tab alone, and gone with it.
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
  if (!answer.ok) throw new Refused(answer.status, messageOf(text) ?? `${method} ${path}: ${answer.status}`);
  return text === "" ? null : JSON.parse(text);
}

function messageOf(text) {
  try {
    const { error } = JSON.parse(text);
    return typeof error === "string" ? error : (error?.message ?? null);
  } catch {
    return null;
  }
}
