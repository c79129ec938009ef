// The chosen language, and what it makes of keys, keypoints and detectors.

import { DETECTORS, KEYPOINTS_ZH, WORDS } from "./words.js";

let language = "en";

/** The stored language, else the browser's. */
export function firstLanguage() {
  let stored = null;
  try {
    stored = localStorage.getItem("hrpose.language");
  } catch { /* private windows may forbid it */ }
  if (stored in WORDS) return stored;
  return (navigator.language || "").toLowerCase().startsWith("zh") ? "zh" : "en";
}

/** Set the language, and the text of every element with a `data-t` or `data-t-label`. */
export function setLanguage(chosen, { store = false } = {}) {
  language = chosen;
  if (store) {
    try {
      localStorage.setItem("hrpose.language", chosen);
    } catch { /* then it lasts until the page is closed */ }
  }
  document.documentElement.lang = chosen;
  for (const element of document.querySelectorAll("[data-t]")) {
    element.textContent = t(element.dataset.t);
  }
  for (const element of document.querySelectorAll("[data-t-label]")) {
    element.setAttribute("aria-label", t(element.dataset.tLabel));
    if (element.title) element.title = t(element.dataset.tLabel);
  }
  for (const button of document.querySelectorAll("[data-language]")) {
    button.setAttribute("aria-pressed", String(button.dataset.language === chosen));
  }
}

/** Add the texts of another page, or replace some: {en, zh}, each by its keys. */
export function addWords(words) {
  for (const [name, texts] of Object.entries(words)) Object.assign(WORDS[name], texts);
}

/** The text of a key, with its {names} filled in. */
export function t(key, values = {}) {
  const text = WORDS[language][key] ?? key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => String(values[name] ?? whole));
}

export function hasText(key) {
  return key in WORDS.en;
}

/** Of {en, zh}, the text in the chosen language; a string is in both. */
export function inLanguage(texts) {
  return typeof texts === "string" ? texts : texts[language];
}

/** `left_elbow` in the chosen language. */
export function keypointName(name) {
  const plain = name.replaceAll("_", " ");
  if (language !== "zh") return plain;
  const [, side, part] = name.match(/^(left|right)_(.+)$/) ?? [null, "", name];
  const known = KEYPOINTS_ZH[part];
  if (!known) return plain;
  return { left: "左", right: "右", "": "" }[side] + known;
}

export function detectorName(name) {
  return DETECTORS[language][name] ?? name;
}
