/** What is wrong now, the gravest first, each with what to do. */

import { h, fill, keep, setAll, setText } from "./dom.js";
import { counted, name } from "./format.js";
import { follow, frame } from "./panel.js";

const SHOWN = 20;

/** @param {HTMLElement} section @param {import("./state.js").Store} store */
export function mount(section, store) {
  const framed = frame(section);
  const list = h("ul", { class: "problems" });
  fill(framed.body, list);
  follow(framed, store, "overview", (overview) => {
    const problems = (overview.problems ?? []).slice(0, SHOWN);
    const left_out = (overview.problems ?? []).length - problems.length;
    framed.note(left_out > 0 ? `${counted(left_out, "more")} in /api/overview` : problems.length > 0 ? "now" : "");
    section.classList.toggle("quiet", problems.length === 0);
    if (problems.length === 0) framed.show("empty", "Nothing, as far as this node knows.");
    keep(list, problems, (problem) => `${problem.what} ${problem.node} ${problem.problem}`, makeProblem);
  });
}

function makeProblem() {
  const chip = h("span", { class: "chip" });
  const subject = h("span", { class: "problem-of" });
  const words = h("p", { class: "problem-words" });
  const hint = h("p", { class: "problem-hint" });
  return {
    element: h("li", { class: "problem" }, h("div", { class: "problem-head" }, chip, subject), h("div", {}, words, hint)),
    update: (problem) => {
      setAll(chip, { "data-look": problem.grave ? "bad" : "warn" });
      setText(chip, problem.grave ? "pulls suffer" : "warning");
      setText(subject, [problem.what, problem.node].filter(Boolean).map((part) => name(part, 80)).join(" · "));
      setText(words, name(problem.problem, 400));
      setText(hint, problem.hint ? name(problem.hint, 400) : "");
    },
  };
}
