/** The index: who is asked which nodes have a content, and whether that works. */

import { h, fill, keep, setText } from "./dom.js";
import { bytes, clockTime, count, counted, isKnown, microseconds, name, share, unixSeconds } from "./format.js";
import { frame, follow } from "./panel.js";
import { chip, chipOf, facts, listOf, numberOf, said, textOf } from "./parts.js";

/** @type {Record<string, [import("./parts.js").Level, string, string]>} */
const STATES = {
  peers: ["ok", "peers", "The peers are asked who has what. There is no server."],
  server: ["ok", "server", "The server is asked who has what."],
  warming: ["warn", "warming up", "The server is asked, and near peers for what it does not know: it was reset a moment ago."],
  full: ["warn", "full", "The server is asked, and takes no announcements. Pulls work."],
  down: ["bad", "down", "Near peers are asked in place of the server. Pulls work."],
};

/** @param {HTMLElement} section @param {import("./state.js").Store} store */
export function mount(section, store) {
  const framed = frame(section);
  const state = chip();
  const words = h("p", { class: "p-why" });
  const problem = h("p", { class: "p-problem" });
  const hint = h("p", { class: "p-advice" });
  const warnings = h("ul", { class: "p-warnings" });
  const table = facts();
  fill(framed.body, h("div", { class: "p-verdict" }, state.element, words), problem, hint, warnings, table.element);
  follow(framed, store, "index", (document_) => {
    const known = typeof document_.state === "string" && Object.hasOwn(STATES, document_.state);
    const [level, word, meaning] = known ? STATES[document_.state] : /** @type {const} */ (["plain", name(textOf(document_.state), 30), ""]);
    state.set(level, word);
    setText(words, meaning);
    setText(problem, document_.problem ? name(document_.problem, 400) : "");
    setText(hint, document_.problem ? said(document_.hint, 400) : "");
    problem.hidden = hint.hidden = !document_.problem;
    keep(warnings, listOf(document_.warnings, 16), (warning) => textOf(warning.problem), warningItem);
    table.set(document_.state === "peers" ? [["Setting", name(textOf(document_.index), 200)]] : factsOf(document_));
    framed.note(document_.state === "peers" ? "" : "of this node");
  });
}

function warningItem() {
  const problem = h("span");
  const hint = h("span", { class: "p-advice" });
  return {
    element: h("li", {}, chipOf("warn", "warning"), problem, " ", hint),
    update: (/** @type {any} */ warning) => {
      setText(problem, name(textOf(warning.problem), 300));
      setText(hint, said(warning.hint, 300));
    },
  };
}

/** @returns {[string, any][]} */
function factsOf(index) {
  return [
    ["Server", index.server ? name(index.server, 80) : null],
    ["Setting", name(textOf(index.index), 200)],
    ["Last answer", isKnown(index.latency_us) ? `${microseconds(index.latency_us)}, there and back` : null],
    ["Announced", `${counted(numberOf(index.announced), "digest")} of this node`],
    ["To be told", numberOf(index.pending) > 0 ? counted(index.pending, "change") : null],
    ["Memory", memoryOf(index)],
    ["Resets", numberOf(index.resets) > 0 ? `${count(index.resets)}, the last at ${clockTime(unixSeconds(index.reset_at))}: ${name(textOf(index.reset_reason), 200)}` : null],
    ["Silent nodes", numberOf(index.silent_count) > 0 ? silentOf(index) : null],
    ["Number", isKnown(index.number) ? count(index.number) : null],
    ["Cluster", index.cluster ? name(index.cluster, 80) : null],
  ];
}

function memoryOf(index) {
  if (!isKnown(index.used_bytes)) return null;
  const policy = index.policy ? `, ${name(index.policy, 40)}` : "";
  if (!isKnown(index.most_bytes) || index.most_bytes === 0) return `${bytes(index.used_bytes)}, no limit${policy}`;
  return `${bytes(index.used_bytes)} of ${bytes(index.most_bytes)}, ${share(index.used_bytes / index.most_bytes)}${policy}`;
}

function silentOf(index) {
  const some = (Array.isArray(index.silent) ? index.silent : []).slice(0, 8).map((node) => name(textOf(node), 60));
  return `${counted(index.silent_count, "node")} of this zone tell it nothing: ${some.join(", ")}${index.silent_count > some.length ? ", …" : ""}`;
}
