// A question before a risky change; Escape means no.

import { byId, setText } from "./dom.js";

/** Ask, and return whether the answer was yes; `label` is the text of the button. */
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
