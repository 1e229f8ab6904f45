// The form that adds a backend; errors are shown below their field.

import { ask } from "./api.js";
import { byId, make, setText } from "./dom.js";

const NUMBERS = new Set(["tier", "priority"]);

/** Make the button open the form; `kinds` returns the names of the kinds. */
export function addingForm({ kinds }) {
  const dialog = byId("add");
  const form = byId("add-form");
  byId("add-open").addEventListener("click", () => {
    form.reset();
    clear(form);
    byId("add-kind").replaceChildren(make("option", { value: "" }, "found out by asking it"), ...kinds().map((kind) => make("option", {}, kind)));
    dialog.showModal();
  });
  byId("add-cancel").addEventListener("click", () => dialog.close());
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    void add(form, dialog);
  });
}

async function add(form, dialog) {
  clear(form);
  byId("add-submit").disabled = true;
  try {
    await ask("admin/backends", { method: "POST", body: JSON.stringify(tableOf(form)) });
    dialog.close();
  } catch (error) {
    show(form, error);
  } finally {
    byId("add-submit").disabled = false;
  }
}

/** The form as the keys of a backend; an invalid number is sent as text, so that the proxy explains the error. */
function tableOf(form) {
  const table = { persist: form.elements.persist.checked };
  for (const field of fieldsOf(form)) {
    const text = field.value.trim();
    if (text === "" && !field.required) continue;
    table[field.name] = NUMBERS.has(field.name) && /^-?[0-9]+$/.test(text) ? Number(text) : text;
  }
  return table;
}

function fieldsOf(form) {
  return Array.from(form.elements).filter(({ name, type }) => name && type !== "checkbox");
}

function clear(form) {
  for (const field of fieldsOf(form)) {
    field.removeAttribute("aria-invalid");
    field.removeAttribute("aria-describedby");
  }
  for (const wrong of form.querySelectorAll(".wrong")) wrong.remove();
  byId("add-wrong").hidden = true;
}

/** Show an error below its field, or else above the buttons. */
function show(form, { message, param }) {
  const words = message.replace(/^body: /, "").replace(/ - at `[^`]*`/, "");
  const field = fieldsOf(form).find(({ name }) => name === param);
  if (field === undefined) {
    setText(byId("add-wrong"), words);
    byId("add-wrong").hidden = false;
    return;
  }
  const wrong = make("span", { class: "wrong", id: `add-wrong-${param}`, role: "alert" }, words);
  field.closest("label").append(wrong);
  field.setAttribute("aria-invalid", "true");
  field.setAttribute("aria-describedby", wrong.id);
  field.focus();
}
