// The state of the proxy, updated by the feed.

import { byName } from "./dom.js";

const MAX_REQUESTS = 200;
const MAX_OF_A_RESULT = 50;

export class State {
  overview = null;
  backends = new Map();
  requests = [];

  get isReady() {
    return this.overview !== null;
  }

  replace(overview) {
    this.overview = overview;
    this.backends = new Map(overview.backends.map((backend) => [backend.name, backend]));
    this.requests = overview.history;
  }

  update(type, data) {
    switch (type) {
      case "BackendStatus":
        // Models are not included; they are sent when they change.
        for (const row of data) this.backends.set(row.name, { ...this.backends.get(row.name), ...row });
        break;
      case "BackendRemoved":
        for (const name of data) this.backends.delete(name);
        break;
      case "ModelChange": {
        const backend = Array.from(this.backends.values()).find(({ id }) => id === data.backend_id);
        if (backend) this.backends.set(backend.name, { ...backend, models: data.models });
        break;
      }
      case "RequestComplete":
        // A request that ended while the overview was built is sent twice.
        if (this.requests.some(({ request_id: id }) => id === data.request_id)) break;
        this.requests = kept([data, ...this.requests]);
        break;
      case "Figures":
        this.#takeFigures(data);
        break;
    }
  }

  #takeFigures({ backends, hour, ...rest }) {
    for (const [name, live] of Object.entries(backends)) {
      const known = this.backends.get(name);
      if (known) this.backends.set(name, { ...known, ...live });
    }
    Object.assign(this.overview, rest);
    this.overview.hour = joined(this.overview.hour, hour);
  }

  /** The models of the fleet by name, each with its backends. */
  models() {
    const models = new Map();
    for (const backend of this.backends.values()) {
      for (const model of backend.models ?? []) {
        const known = models.get(model.name);
        if (known) known.backends.push(backend);
        else models.set(model.name, { ...model, backends: [backend] });
      }
    }
    return Array.from(models.values()).sort(byName);
  }
}

/** The newest requests, and more of those with another result than `finished`. */
function kept(requests) {
  const counts = new Map();
  return requests.filter(({ result }, index) => {
    const before = counts.get(result) ?? 0;
    counts.set(result, before + 1);
    return index < MAX_REQUESTS || (result !== "finished" && before < MAX_OF_A_RESULT);
  });
}

/** Replace the steps of the hour that are sent again. */
function joined(hour, tail) {
  const steps = Math.round((tail.until_unix_s - hour.until_unix_s) / hour.step_s);
  const kept = hour.points.slice(0, Math.max(0, hour.points.length + steps - tail.points.length));
  return { ...tail, points: [...kept, ...tail.points].slice(-360) };
}
