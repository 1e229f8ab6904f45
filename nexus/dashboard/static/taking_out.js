// Drains or removes a backend; asks first if it is the last one with a model.

import { ask } from "./api.js";
import { confirmed } from "./confirm.js";

const MAX_NAMED = 10;

/** Drain the backend, unless the user declines. */
export async function drain(name) {
  const models = await lastWith(name);
  if (models !== "" && !(await confirmed(`${name} is the last healthy backend with ${models}. Drain it?`, "Drain"))) return;
  await ask(`admin/backends/${encodeURIComponent(name)}/drain`, { method: "POST" });
}

/** Remove a backend that was added, unless the user declines. */
export async function remove(name) {
  const models = await lastWith(name);
  const warning = models === "" ? "" : ` It is the last healthy backend with ${models}.`;
  if (!(await confirmed(`Remove ${name} from the fleet?${warning} Requests that it has are finished.`, "Remove"))) return;
  await ask(`admin/backends/${encodeURIComponent(name)}`, { method: "DELETE" });
}

async function lastWith(name) {
  const { last_with: last } = await ask("admin/backends");
  const models = (Object.hasOwn(last, name) && last[name]) || [];
  const more = models.length - MAX_NAMED;
  return models.slice(0, MAX_NAMED).join(", ") + (more > 0 ? ` and ${more} more` : "");
}
