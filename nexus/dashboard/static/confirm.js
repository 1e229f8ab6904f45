// One question before a change that may hurt; Escape is a no.

import { byId, setText } from "./dom.js";

/** Ask, and return whether the answer was yes; `label` is the word on the button. */
export function confirmed(question, label) {
  const dialog = byId("confirm");
  setText(byId("confirm-text"), question);
  setText(byId("confirm-yes"), label);
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}
