import { h, fill } from "./dom.js";
import { frame, follow } from "./panel.js";

/** @param {HTMLElement} section @param {import("./state.js").Store} store */
export function mount(section, store) {
  const framed = frame(section);
  follow(framed, store, "overview", () => fill(framed.body, h("p", { class: "muted" }, "…")));
}
