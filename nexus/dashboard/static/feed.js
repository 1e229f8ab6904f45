// The live feed: a WebSocket, or polling of the overview while that fails.

import { ask, Refused } from "./api.js";

const FIRST_WAIT_MS = 1000;
const MAX_WAIT_MS = 30_000;
const POLL_MS = 5000;
const SILENCE_MS = 15_000;

/**
 * Call `onOverview` with the whole state, also after each reconnect; `onUpdate(type, data)` with each change; `onState`
 * with `live`, `polling`, `lost` or `locked`. `start()` connects, and reconnects after the key has changed.
 */
export class Feed {
  #onOverview;
  #onUpdate;
  #onState;
  #socket = null;
  #wait = FIRST_WAIT_MS;
  #retry = 0;
  #poll = 0;
  #silence = 0;

  constructor({ onOverview, onUpdate, onState }) {
    this.#onOverview = onOverview;
    this.#onUpdate = onUpdate;
    this.#onState = onState;
  }

  start() {
    this.#stop();
    this.#connect();
  }

  #stop() {
    clearTimeout(this.#retry);
    clearTimeout(this.#poll);
    clearTimeout(this.#silence);
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
  }

  async #connect() {
    let ticket;
    try {
      ({ ticket } = await ask("admin/feed-ticket", { method: "POST" }));
    } catch (error) {
      this.#failed(error);
      return;
    }
    const url = new URL("ws", document.baseURI);
    url.protocol = url.protocol.replace("http", "ws");
    url.searchParams.set("ticket", ticket);
    const socket = new WebSocket(url);
    this.#socket = socket;
    socket.addEventListener("message", (event) => {
      if (socket === this.#socket) this.#received(JSON.parse(event.data));
    });
    socket.addEventListener("close", () => {
      if (socket === this.#socket) this.#failed(null);
    });
  }

  #received({ update_type: type, data }) {
    this.#wait = FIRST_WAIT_MS;
    clearTimeout(this.#poll);
    this.#poll = 0;
    clearTimeout(this.#silence);
    // A proxy that lost power closes no connection.
    this.#silence = setTimeout(() => this.start(), SILENCE_MS);
    if (type === "Overview") {
      this.#onState("live");
      this.#onOverview(data);
    } else {
      this.#onUpdate(type, data);
    }
  }

  #failed(error) {
    this.#socket = null;
    clearTimeout(this.#silence);
    if (error instanceof Refused && error.status === 401) {
      this.#onState("locked");
      return;
    }
    this.#retry = setTimeout(() => this.#connect(), this.#wait * (0.75 + Math.random() / 2));
    this.#wait = Math.min(MAX_WAIT_MS, this.#wait * 2);
    if (this.#poll === 0) this.#pollNow();
  }

  async #pollNow() {
    this.#poll = setTimeout(() => this.#pollNow(), POLL_MS);
    try {
      const overview = await ask("admin/overview");
      if (this.#poll === 0) return;
      this.#onState("polling");
      this.#onOverview(overview);
    } catch (error) {
      if (this.#poll !== 0) this.#onState(error instanceof Refused && error.status === 401 ? "locked" : "lost");
    }
  }
}
