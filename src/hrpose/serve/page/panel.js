// The panel: its options, and the results in words.

import { detectorName, keypointName, t } from "./language.js";
import { make } from "./dom.js";
import { listPersons } from "./persons.js";

const $ = (id) => document.getElementById(id);

/** The options of a request. */
export function options() {
  return {
    heatmaps: chosenKeypoint() !== null,
    flipTest: $("flip-test").checked,
    minScore: Number($("min-score").value),
  };
}

/** What is shown: as `render` takes it. */
export function appearance() {
  return {
    threshold: threshold(),
    keypoint: chosenKeypoint(),
    strength: Number($("strength").value),
    skeletons: $("show-skeletons").checked,
    names: $("show-names").checked,
  };
}

/** Keypoints with a lower confidence are not shown. */
export const threshold = () => Number($("threshold").value);

/** The keypoint whose heatmap is shown, by its index, or "all"; null: none. */
function chosenKeypoint() {
  const value = $("keypoint").value;
  return value === "" ? null : value === "all" ? "all" : Number(value);
}

/** Offer the heatmap of each keypoint. */
export function offerHeatmaps(keypoints) {
  const choices = [["", t("noHeatmap")], ["all", t("allKeypoints")]];
  keypoints.forEach((name, index) => choices.push([String(index), keypointName(name)]));
  const chosen = $("keypoint").value;
  $("keypoint").replaceChildren(...choices.map(([value, text]) => new Option(text, value)));
  $("keypoint").value = chosen;
}

/** Show an item's results; `mark(person, keypoint)` as of `listPersons`. */
export function showResults(item, mark) {
  listPersons($("persons"), item.answer?.persons ?? [], threshold(), mark);
  $("summary").replaceChildren(...(item.answer ? summary(item) : []));
}

/** The number of persons and keypoints, who drew the boxes, and whether the image was shrunk. */
function summary({ answer: { persons, boxes_from: from, width, height }, shrunkTo }) {
  const keypoints = persons.flatMap((person) => person.keypoints).filter((p) => p.score >= threshold());
  const key = persons.length === 0 ? "none" : persons.length === 1 ? "one" : "many";
  const small = (text) => make("small", { textContent: text });
  const by = from === "request" ? t("byYou") : detectorName(from);
  const lines = [t(key, { persons: persons.length, keypoints: keypoints.length }), small(t("detectedBy", { by }))];
  if (shrunkTo) {
    const [w, h] = shrunkTo;
    lines.push(small(t("shrunk", { width: w, height: h, fullWidth: width, fullHeight: height })));
  }
  return lines;
}

/** Call `draw` and `refresh` where the results look otherwise, `estimate` where others are needed. */
export function listenToPanel({ draw, refresh, estimate }) {
  const shown = (id) => { $(`${id}-value`).textContent = Number($(id).value).toFixed(2); };
  $("threshold").addEventListener("input", () => {
    shown("threshold");
    refresh();
  });
  $("min-score").addEventListener("input", () => shown("min-score"));
  $("min-score").addEventListener("change", estimate);
  $("keypoint").addEventListener("change", () => {
    $("strength-field").hidden = chosenKeypoint() === null;
    draw();
    estimate();
  });
  $("strength").addEventListener("input", () => {
    shown("strength");
    draw();
  });
  $("flip-test").addEventListener("change", estimate);
  for (const id of ["show-skeletons", "show-names"]) $(id).addEventListener("change", draw);
}
