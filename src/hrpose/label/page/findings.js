// Labels that may be wrong, each with "fix" and "it is right".

import { make } from "/page/dom.js";
import { keypointName, t } from "/page/language.js";

/**
 * Fill the section with findings of the server; `fix(finding)`, `accept(finding)` and
 * `look(finding)` are called by its buttons.
 */
export function showFindings(section, findings, editor, { fix, accept, look }) {
  section.hidden = findings.length === 0;
  section.querySelector("ul").replaceChildren(...findings.map((finding) => {
    const at = editor.persons.findIndex((person) => person.id === finding.person);
    const names = finding.keypoints.slice(0, 4).map(keypointName).join(", ");
    const more = finding.keypoints.length > 4 ? ` +${finding.keypoints.length - 4}` : "";
    const who = at < 0 ? "" : t("person", { n: at + 1 });
    const text = [t(`finding-${finding.kind}`), [who, names + more].filter(Boolean).join(": ")].filter(Boolean).join(" · ");
    const button = (key, action, main = false) => {
      const made = make("button", { type: "button", className: main ? "main" : "", textContent: t(key) });
      made.addEventListener("click", () => action(finding));
      return made;
    };
    return make("li", {}, make("span", { textContent: text }), make(
      "div", { className: "row" }, button(`fix-${finding.kind}`, fix, true), button("itIsRight", accept), button("look", look),
    ));
  }));
}
