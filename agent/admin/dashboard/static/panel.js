/**
 * The frame of a panel: what it says while there is nothing to show, and how it shows that what it has is old.
 *
 * `index.html` has one `<section class="panel" id="panel-NAME">` for each. A panel's module exports
 * `mount(section, store)`; it calls `frame` and fills `body`.
 */

import { h, fill, setText } from "./dom.js";

/** @typedef {import("./state.js").Store} Store */
/** @typedef {"loading" | "live" | "empty" | "error" | "off"} Look `off`: what it would show is not switched on, or not running */

/**
 * @typedef {object} Frame
 * @property {HTMLElement} body what the panel shows when it is live
 * @property {(text: string) => void} note a few words beside the title: the window, the unit, how many
 * @property {(look: Look, words?: string, hint?: string) => void} show `words`: what is the matter; `hint`: what to do
 */

/**
 * @param {HTMLElement} section
 * @returns {Frame}
 */
export function frame(section) {
  const body = h("div", { class: "panel-body" });
  const words = h("p", { class: "panel-words" });
  const hint = h("p", { class: "panel-hint" });
  const message = h("div", { class: "panel-message", hidden: true }, words, hint);
  const note = part(section.querySelector(".panel-head") ?? section, "p", "panel-note");
  fill(part(section, "div", "panel-content"), message, body);
  return {
    body,
    note: (text) => setText(note, text),
    show: (look, about = "", advice = "") => {
      section.dataset.look = look;
      section.toggleAttribute("aria-busy", look === "loading");
      message.hidden = about === "";
      body.hidden = look === "empty" || look === "off" || look === "loading";
      setText(words, about);
      setText(hint, advice);
    },
  };
}

/**
 * What to show of one document, with the words for each state that is not `live`.
 * @param {Frame} framed
 * @param {Store} store
 * @param {string} key the store's
 * @param {(value: any) => void} render shows the value; may itself call `framed.show("empty", …)` afterwards
 * @returns {() => void} ends it
 */
export function follow(framed, store, key, render) {
  return store.subscribe(key, () => {
    const { value, problem } = store.entry(key);
    if (value === undefined) {
      if (problem) framed.show("error", problem.words, problem.hint);
      else framed.show("loading");
      return;
    }
    framed.show("live");
    attempt(framed, () => render(value));
    if (problem) framed.show("error", problem.words, problem.hint);
  });
}

/**
 * Draws; a panel that can't says so, and the others go on.
 * @param {Frame} framed
 * @param {() => void} draw
 */
export function attempt(framed, draw) {
  try {
    draw();
  } catch (error) {
    console.error(error);
    framed.show("error", "This panel could not be drawn.", "Load the page again. If that does not help, the browser's console has the reason.");
  }
}

/** The part of an element that has this class; it is made if there is none. @param {Element} of @param {string} tag @param {string} name @returns {Element} */
function part(of, tag, name) {
  return of.querySelector(`.${name}`) ?? of.appendChild(h(tag, { class: name }));
}
