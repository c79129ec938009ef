// The persons, the keypoints of the current one with their states, and what to do now.

import { make } from "/page/dom.js";
import { keypointName, t } from "/page/language.js";
import { HIDDEN, OUTSIDE, VISIBLE } from "/label/editor.js";

const $ = (id) => document.getElementById(id);
const STATES = new Map([[VISIBLE, "visible"], [HIDDEN, "hide"], [OUTSIDE, "outside"]]);
const NAMES = new Map([[VISIBLE, "visible"], [HIDDEN, "hiddenState"], [OUTSIDE, "outside"]]);

/** Show the persons and keypoints of an editor. */
export function showPanel(editor) {
  showPersons(editor);
  showKeypoints(editor);
  const state = editor.point?.[2];
  for (const [value, action] of STATES) {
    document.querySelector(`.states [data-do=${action}]`).setAttribute("aria-pressed", String(state === value));
  }
  document.querySelector("[data-do=undo]").disabled = !editor.canUndo;
  document.querySelector("[data-do=redo]").disabled = !editor.canRedo;
  document.querySelector("[data-do=copy]").disabled = editor.image.before === null;
  document.querySelector("[data-do=deletePerson]").disabled = !editor.person;
  $("now").replaceChildren(...now(editor));
}

function showPersons(editor) {
  $("persons-list").replaceChildren(...editor.persons.map(({ label, suggested }, at) => {
    const done = label.keypoints.filter((point) => point !== null).length;
    const button = make("button", {
      type: "button",
      className: suggested ? "suggested" : "",
      "aria-pressed": String(at === editor.at),
      textContent: `${t("person", { n: at + 1 })} · ${done}/${label.keypoints.length}`,
      title: suggested ? t("suggestedHelp") : "",
    });
    button.addEventListener("click", () => editor.choose(at));
    return button;
  }));
}

function showKeypoints(editor) {
  const { keypoints, keypoint_colors: colors } = editor.skeleton;
  const list = $("keypoints");
  const rows = keypoints.map((name, index) => {
    const point = editor.person?.label.keypoints[index] ?? null;
    const state = point === null ? t("unlabeled") : t(NAMES.get(point[2]));
    const dot = make("span", { className: "dot" });
    dot.style.setProperty("--dot", `rgb(${colors[index].join(" ")})`);
    const button = make(
      "button", { type: "button", tabIndex: index === editor.keypoint ? 0 : -1 },
      dot, make("span", { textContent: keypointName(name) }), make("small", { textContent: state }),
    );
    button.className = point === null ? "unlabeled" : { 0: "outside", 1: "hidden", 2: "visible" }[point[2]];
    if (index === editor.keypoint) button.setAttribute("aria-current", "true");
    button.addEventListener("click", () => editor.choose(editor.at, index));
    return make("li", {}, button);
  });
  const focused = list.contains(document.activeElement);
  list.replaceChildren(...rows);
  const current = rows[editor.keypoint]?.firstElementChild;
  if (focused) current?.focus({ preventScroll: true });
  // The list scrolls, the page does not.
  if (current) {
    const top = current.offsetTop - list.offsetTop;
    if (top < list.scrollTop || top + current.offsetHeight > list.scrollTop + list.clientHeight) {
      list.scrollTop = top - list.clientHeight / 2;
    }
  }
}

/** One line: what a click or the Space key does now. */
function now(editor) {
  const name = keypointName(editor.skeleton.keypoints[editor.keypoint]);
  const hint = (key) => make("span", { className: "quiet", textContent: t(key) });
  if (editor.waiting) return [t("waitingForModel")];
  if (editor.persons.some((person) => person.suggested)) return [t("nowSuggested"), " ", hint("nowSuggestedHelp")];
  if (editor.unlabeled || !editor.persons.length) return [t("nowPlace", { name }), " ", hint("nowPlaceHelp")];
  return [t("nowComplete"), " ", hint("nowCompleteHelp")];
}
