// The list of persons: each keypoint with its name and score, for reading and for the keyboard.

import { keypointName, t } from "./language.js";

/** Fill `element`. `mark(person, keypoint)` is called with indices while a row has the pointer or
 * the focus, `mark(null)` afterwards. */
export function listPersons(element, persons, threshold, mark) {
  const open = new Set([...element.querySelectorAll("details")].map((d, i) => (d.open ? i : -1)));
  const lists = persons.map((person, index) => {
    const details = document.createElement("details");
    details.open = open.has(index);
    const summary = document.createElement("summary");
    summary.append(t("person", { n: index + 1 }), value(person.score));
    const table = document.createElement("table");
    const head = table.createTHead().insertRow();
    for (const key of ["keypointColumn", "scoreColumn"]) {
      const cell = document.createElement("th");
      cell.scope = "col";
      cell.textContent = t(key);
      head.append(cell);
    }
    const body = table.createTBody();
    person.keypoints.forEach((point, keypoint) => {
      const row = body.insertRow();
      row.className = point.score >= threshold ? "" : "absent";
      row.tabIndex = 0;
      const name = document.createElement("th");
      name.scope = "row";
      name.textContent = keypointName(point.name);
      const bar = document.createElement("meter");
      bar.min = 0;
      bar.max = 1;
      bar.value = point.score;
      bar.setAttribute("aria-hidden", "true");
      row.append(name);
      row.insertCell().append(bar, value(point.score));
      for (const on of ["pointerenter", "focus"]) row.addEventListener(on, () => mark(index, keypoint));
      for (const off of ["pointerleave", "blur"]) row.addEventListener(off, () => mark(null));
    });
    details.append(summary, table);
    return details;
  });
  element.replaceChildren(...lists);
}

function value(score) {
  const span = document.createElement("span");
  span.className = "value";
  span.textContent = score.toFixed(2);
  return span;
}
