// What somebody else changed at the same time: said in one line, with a way to keep one's own.

import { make } from "/page/dom.js";
import { keypointName, t } from "/page/language.js";

/** The keypoints, in words, in which two labels differ; "" where none does. */
function difference(before, after, names) {
  const changed = names.filter((_, i) => (
    JSON.stringify(before?.keypoints[i] ?? null) !== JSON.stringify(after.keypoints[i])
  ));
  const shown = changed.slice(0, 3).map(keypointName);
  if (JSON.stringify(before?.box ?? null) !== JSON.stringify(after.box)) shown.push(t("box"));
  return shown.join(", ") + (changed.length > 3 ? " …" : "");
}

/** Add a line to the list: the row `theirs`, made from `before`; `keep()` takes one's own instead. */
export function showConflict(list, theirs, before, names, keep) {
  const by = theirs.by || t("somebody");
  const text = theirs.label === null
    ? t("conflictDeleted", { by })
    : t("conflict", { by, what: difference(before, theirs.label, names) || t("person", { n: "" }) });
  const close = make("button", { type: "button", textContent: t("keepTheirs") });
  const own = make("button", { type: "button", textContent: t("keepMine") });
  const line = make("li", {}, make("span", { textContent: text }), close, own);
  close.addEventListener("click", () => line.remove());
  own.addEventListener("click", () => {
    line.remove();
    keep();
  });
  list.append(line);
}
