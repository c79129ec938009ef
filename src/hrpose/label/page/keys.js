// The keys: what each does, and what the list of them says.

import { make } from "/page/dom.js";
import { t } from "/page/language.js";

/** [keys as shown, action, its text]; a key is `event.key`, letters in lower case. */
const KEYS = [
  [["Space"], "place", "keyPlace"],
  [["N"], "next", "keyNext"],
  [["P"], "previous", "keyPrevious"],
  [["↑", "↓", "←", "→"], "arrows", "keyArrows"],
  [["V"], "visible", "keyVisible"],
  [["H"], "hide", "keyHide"],
  [["O"], "outside", "keyOutside"],
  [["X"], "clear", "keyClear"],
  [["S"], "swap", "keySwap"],
  [["Shift+S"], "swapPair", "keySwapPair"],
  [["C"], "copy", "keyCopy"],
  [["A"], "add", "keyAdd"],
  [["Delete"], "deletePerson", "keyDelete"],
  [["]"], "nextPerson", "keyNextPerson"],
  [["["], "previousPerson", "keyPreviousPerson"],
  [["B"], "boxes", "keyBoxes"],
  [["Z"], "undo", "keyUndo"],
  [["Y"], "redo", "keyRedo"],
  [["Enter"], "finish", "keyFinish"],
  [["PageDown"], "nextImage", "keyNextImage"],
  [["PageUp"], "previousImage", "keyPreviousImage"],
  [["+", "−"], "zoom", "keyZoom"],
  [["F"], "fitPerson", "keyFitPerson"],
  [["0"], "fit", "keyFit"],
  [["T"], "labels", "keyLabels"],
  [["L"], "brighter", "keyBrighter"],
  [["?"], "keys", "keyKeys"],
];

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const PLAIN = new Map([
  [" ", "place"], ["enter", "finish"], ["delete", "deletePerson"], ["backspace", "clear"],
  ["pagedown", "nextImage"], ["pageup", "previousImage"], ["]", "nextPerson"], ["[", "previousPerson"],
  ["+", "zoomIn"], ["=", "zoomIn"], ["-", "zoomOut"], ["0", "fit"], ["?", "keys"], ["escape", "escape"],
  ...KEYS.filter(([[key]]) => /^[A-Z]$/.test(key)).map(([[key], action]) => [key.toLowerCase(), action]),
]);
const SHIFTED = new Map([["s", "swapPair"], ["z", "redo"], ["n", "previous"], ["l", "darker"]]);

/** {action, by} of a key: `by` are the steps of an arrow. Null for keys that do nothing here. */
export function actionOf(event) {
  if (event.altKey) return null;
  const key = event.key.toLowerCase();
  if (event.ctrlKey || event.metaKey) {
    if (key === "z") return { action: event.shiftKey ? "redo" : "undo" };
    return key === "y" ? { action: "redo" } : null;
  }
  if (event.key in ARROWS) return { action: "move", by: ARROWS[event.key], far: event.shiftKey };
  const action = (event.shiftKey && SHIFTED.get(key)) || PLAIN.get(key);
  return action ? { action } : null;
}

/** Fill a list with all keys, and what the mouse does. */
export function showKeys(list) {
  const mouse = ["mouseClick", "mouseDrag", "mouseRight", "mouseWheel"];
  list.replaceChildren(...KEYS.flatMap(([keys, , text]) => [
    make("dt", {}, ...keys.flatMap((key) => [make("kbd", { textContent: key }), " "])),
    make("dd", { textContent: t(text) }),
  ]), ...mouse.flatMap((key) => [
    make("dt", { textContent: t(key) }), make("dd", { textContent: t(`${key}Help`) }),
  ]));
}
