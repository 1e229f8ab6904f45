// Creates elements. Everything from the network is inserted as text, never as markup.

const SVG = "http://www.w3.org/2000/svg";

/** Make an element; attributes that are null, undefined or false are left out. */
export function make(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** The same for an SVG element. */
export function draw(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export function byId(id) {
  return document.getElementById(id);
}

/** Natural order of names: gpu-2 before gpu-10. */
export function byName(a, b) {
  return NAMES.compare(a.name, b.name);
}

const NAMES = new Intl.Collator(undefined, { numeric: true });

/** Change a text only when it differs: assistive technology reads every change. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * Make the children of `parent` match `items`, in order; a child whose key stays is kept and updated.
 */
export function reconcile(parent, items, { key, create, update }) {
  const known = new Map(Array.from(parent.children, (child) => [child.dataset.key, child]));
  let next = parent.firstElementChild;
  for (const item of items) {
    const name = String(key(item));
    let child = known.get(name);
    if (child === undefined) {
      child = create(item);
      child.dataset.key = name;
    } else {
      known.delete(name);
    }
    update?.(child, item);
    if (child === next) next = next.nextElementSibling;
    else parent.insertBefore(child, next);
  }
  for (const gone of known.values()) gone.remove();
}

/** Call `work` once before the next frame, however often this is called until then. */
export function oncePerFrame(work) {
  let isDue = false;
  return () => {
    if (isDue) return;
    isDue = true;
    requestAnimationFrame(() => {
      isDue = false;
      work();
    });
  };
}
