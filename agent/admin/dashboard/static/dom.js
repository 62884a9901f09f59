/**
 * Makes and changes elements. Text goes in as text: nothing here, or anywhere in this page, reads HTML from a
 * string, because names of images, nodes and zones may be hostile.
 */

/** @typedef {Node | string | number | null | undefined | false} Child what an element may contain; null and false are left out */

/**
 * An element. `h("button", { class: "quiet", "aria-pressed": "true", onclick: act }, "Pause")`.
 * @param {string} tag
 * @param {Record<string, any>} [properties] attributes; `on…` listeners; `dataset`; null and false leave one out
 * @param {...(Child | Child[])} children
 * @returns {HTMLElement}
 */
export function h(tag, properties = {}, ...children) {
  return /** @type {HTMLElement} */ (furnish(document.createElement(tag), properties, children));
}

/** @param {Element} element @param {Record<string, any>} properties @param {any[]} children */
function furnish(element, properties, children) {
  setAll(element, properties);
  element.append(...nodes(children));
  return element;
}

/**
 * Sets attributes and listeners of an element that exists; null and false remove an attribute.
 * @param {Element} element
 * @param {Record<string, any>} properties
 */
export function setAll(element, properties) {
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on") && typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (name === "dataset") Object.assign(/** @type {HTMLElement} */ (element).dataset, value);
    else setAttribute(element, name, value);
  }
}

/** @param {Element} element @param {string} name @param {any} value */
function setAttribute(element, name, value) {
  if (name === "style" || name === "srcdoc") throw new TypeError(`${name} is not for this page: use a class, or element.style`);
  if (value === null || value === undefined || value === false) element.removeAttribute(name);
  else {
    const text = value === true ? "" : String(value);
    if (element.getAttribute(name) !== text) element.setAttribute(name, text);
  }
}

/**
 * Puts text into an element, only if it is another one: a screen reader is told of what changed, and of nothing else.
 * @param {Element} element
 * @param {string | number} text
 */
export function setText(element, text) {
  const wanted = String(text);
  if (element.textContent !== wanted) element.textContent = wanted;
}

/**
 * The element contains these from now on, and nothing else.
 * @param {Element} element
 * @param {...(Child | Child[])} children
 */
export function fill(element, ...children) {
  element.replaceChildren(...nodes(children));
}

/** @param {any[]} children @returns {(Node | string)[]} */
function nodes(children) {
  return children
    .flat(Infinity)
    .filter((child) => child !== null && child !== undefined && child !== false)
    .map((child) => (child instanceof Node ? child : String(child)));
}

/** @type {WeakMap<Element, Map<string, {element: Element, update: (item: any) => void}>>} */
const lists = new WeakMap();

/**
 * Keeps one child for each item: what is there stays the same element, so focus, selection and what is unfolded survive.
 * @template Item
 * @param {Element} parent contains the items' elements and nothing else
 * @param {Item[]} items in the order in which they are shown; the caller caps them
 * @param {(item: Item) => string} keyOf tells the items apart; a second item with the same key is left out
 * @param {(item: Item) => {element: Element, update: (item: Item) => void}} make
 */
export function keep(parent, items, keyOf, make) {
  const before = lists.get(parent) ?? new Map();
  const now = new Map();
  for (const item of items) {
    const key = keyOf(item);
    if (now.has(key)) continue;
    const row = before.get(key) ?? make(item);
    row.update(item);
    now.set(key, row);
  }
  for (const [key, row] of before) if (now.get(key) !== row) row.element.remove();
  arrange(parent, [...now.values()].map((row) => row.element));
  lists.set(parent, now);
}

/** Moves only what is out of place. @param {Element} parent @param {Element[]} wanted */
function arrange(parent, wanted) {
  let place = parent.firstElementChild;
  for (const element of wanted) {
    if (element === place) place = place.nextElementSibling;
    else parent.insertBefore(element, place);
  }
  while (place !== null) {
    const next = place.nextElementSibling;
    place.remove();
    place = next;
  }
}

/**
 * A figure with its unit, so that the unit can be set smaller: `<span class="figure">1.2<small> GB</small></span>`.
 * @param {import("./format.js").Quantity} quantity
 * @returns {HTMLElement}
 */
export function figure(quantity) {
  return h("span", { class: "figure" }, quantity.value, quantity.unit && h("small", {}, ` ${quantity.unit}`));
}
