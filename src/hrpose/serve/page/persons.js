// The list of persons, the surest first: each keypoint with its name and confidence.

import { make, makeTable } from "./dom.js";
import { keypointName, t } from "./language.js";

/** Fill `element`. `mark(person, keypoint)` is called with indices while a row has the pointer or
 * the focus, `mark(person)` for the head of a person, `mark(null)` afterwards. */
export function listPersons(element, persons, threshold, mark) {
  const open = new Set([...element.children].filter((d) => d.open).map((d) => d.dataset.person));
  const focused = document.activeElement?.closest("#persons details")?.dataset.person;
  const lists = persons.map((person, index) => {
    const rows = person.keypoints.map((point) => [keypointName(point.name), confidence(point.score)]);
    const table = makeTable([t("keypointColumn"), t("scoreColumn")], rows);
    [...table.tBodies[0].rows].forEach((row, keypoint) => {
      if (person.keypoints[keypoint].score < threshold) row.className = "absent";
      row.tabIndex = 0;
      marks(row, () => mark(index, keypoint), () => mark(null));
    });
    const summary = make("summary", {}, t("person", { n: index + 1 }), value(person.score));
    marks(summary, () => mark(index), () => mark(null));
    const details = make("details", { open: open.has(String(index)) }, summary, table);
    details.dataset.person = String(index);
    return details;
  });
  element.replaceChildren(...lists.toSorted((one, other) =>
    persons[other.dataset.person].score - persons[one.dataset.person].score));
  if (focused) element.querySelector(`[data-person="${focused}"] summary`)?.focus();
}

function marks(element, on, off) {
  for (const kind of ["pointerenter", "focus"]) element.addEventListener(kind, on);
  for (const kind of ["pointerleave", "blur"]) element.addEventListener(kind, off);
}

function confidence(score) {
  const bar = make("meter", { min: 0, max: 1, value: score, "aria-hidden": "true" });
  return make("span", {}, bar, value(score));
}

const value = (score) => make("span", { className: "value", textContent: score.toFixed(2) });
