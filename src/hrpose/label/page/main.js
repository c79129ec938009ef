// The page of `hrpose label`: its images, its keys and buttons, and what it asks of the server.

import { make } from "/page/dom.js";
import { addWords, firstLanguage, setLanguage, t } from "/page/language.js";
import { Notice } from "/page/notice.js";
import { fetchFile, fetchJson, useToken } from "/page/server.js";
import { BoxMode, boxOf } from "/label/box-mode.js";
import { showConflict } from "/label/conflicts.js";
import { Editor, HIDDEN, OUTSIDE, VISIBLE } from "/label/editor.js";
import { showFindings } from "/label/findings.js";
import { actionOf, showKeys } from "/label/keys.js";
import { Learning } from "/label/learn.js";
import { followOthers } from "/label/others.js";
import { showPanel } from "/label/panel.js";
import { Saver, post } from "/label/saving.js";
import { showStrip } from "/label/strip.js";
import { View, around } from "/label/view.js";
import { LABEL_WORDS } from "/label/words.js";

const $ = (id) => document.getElementById(id);
const CHECK = 900; // ms without a change until the labels are checked
const ANNOTATOR = "hrpose.annotator";

addWords(LABEL_WORDS);
const notice = new Notice($("notice"));
const saver = new Saver({
  changed: (saved) => {
    state.saved = saved;
    showSaved();
    if (saved === "saved") checkLater();
  },
  conflict: (theirs, mine, before) => {
    if (theirs.image === state.editor?.image.id) state.editor.replace(theirs.id, theirs.label);
    showConflict($("conflicts"), theirs, before, state.about.skeleton.keypoints, () => {
      saver.label(theirs.image, theirs.id, mine.label);
      if (theirs.image === state.editor?.image.id) state.editor.replace(theirs.id, mine.label);
    });
  },
  failed: (error) => showProblem(error),
});
const view = new View($("view"), {
  click: ({ x, y }, found, hidden) => {
    const { editor } = state;
    // Where something waits for its place, a click is that place; a drag moves what is there.
    if (editor.point !== null && found) {
      editor.choose(found.person, found.keypoint);
      if (hidden) editor.mark(editor.point[2] === HIDDEN ? VISIBLE : HIDDEN);
    } else if (editor.point === null) editor.place(x, y, hidden ? HIDDEN : VISIBLE);
  },
  drag: ({ person, keypoint }, { x, y }, tag) => {
    state.editor.at = person;
    state.editor.keypoint = keypoint;
    state.editor.move(person, keypoint, x, y, `${tag} ${keypoint}`);
  },
  hover: ({ x, y }) => {
    view.hovered = true;
    view.showCursor = false;
    state.editor.cursor = { x, y };
    view.draw();
  },
  zoomed: () => boxMode.place(),
});
const boxMode = new BoxMode(view, {
  editor: () => state.editor,
  model: () => state.about.model !== null,
  failed: (error) => showProblem(error),
});

const learning = new Learning($("learning"), {
  used: async () => {
    try {
      state.about = await fetchJson("/v1/label/project");
      await loadImages();
      updateWords();
      if (state.editor?.persons.every((person) => person.suggested)) await show(state.editor.image.id);
    } catch (error) {
      showProblem(error);
    }
  },
  show: (image) => show(image),
  failed: (error) => showProblem(error),
});

const state = {
  about: null, // the answer of /v1/label/project
  images: [], // all of them, in the chosen order
  editor: null, // of the image that is shown
  next: null, // the id of the one that will be
  findings: [],
  saved: "saved",
  ready: false, // whether the server has ordered all images
  check: 0, // the timer of the next check
};

// ---- images -----------------------------------------------------------------------------------

async function loadImages() {
  const { revision, ready, images } = await fetchJson("/v1/label/images");
  saver.revision = Math.max(saver.revision, revision);
  Object.assign(state, { ready, images });
  for (const image of images) image.done = saver.isDone(image);
  sortImages();
}

function sortImages() {
  if ($("order").value === "name") {
    const { compare } = new Intl.Collator("en", { numeric: true });
    state.images.sort((one, other) => compare(one.name, other.name));
  }
  updateStrip();
}

/** Show an image by its id. */
async function show(id) {
  state.next = id;
  try {
    const [image, file] = await Promise.all([
      fetchJson(`/v1/label/images/${id}`), fetchFile(`/v1/label/images/${id}/file`),
    ]);
    const bitmap = await createImageBitmap(file);
    if (state.next !== id) return bitmap.close();
    notice.drop("image");
    state.editor = new Editor(image, state.about.skeleton, saver, update);
    state.findings = [];
    boxMode.set(false);
    view.hovered = false;
    view.show(bitmap, state.editor);
    update();
    updateStrip();
    checkLater();
    if (image.suggestions === null) awaitSuggestions(id);
  } catch (error) {
    if (state.next === id) showProblem(error, "image");
  }
  return undefined;
}

/** The model may still be looking at the image. */
async function awaitSuggestions(id) {
  const { editor } = state;
  while (state.editor === editor && editor.waiting) {
    await new Promise((done) => setTimeout(done, 300));
    try {
      const { suggestions } = await fetchJson(`/v1/label/images/${id}`);
      if (suggestions === null) continue;
      editor.suggest(suggestions);
      if (state.editor === editor) update();
    } catch (error) {
      if (error.code !== "noServer") return;
    }
  }
}

/** The image `step` places away in the strip. */
function go(step) {
  const at = state.images.findIndex((image) => image.id === state.editor?.image.id);
  const other = state.images[at + step];
  if (other) show(other.id);
}

/** The labels of this image are right: go to the next that is not done. */
async function finish() {
  const { editor } = state;
  if (!editor || state.next !== editor.image.id) return;
  editor.accept();
  if (!editor.image.done) {
    editor.image.done = true;
    saver.done(editor.image.id, true);
  }
  const here = state.images.find((image) => image.id === editor.image.id);
  Object.assign(here, { done: true, count: editor.persons.length });
  const at = state.images.indexOf(here);
  const order = [...state.images.slice(at + 1), ...state.images.slice(0, at)];
  const next = order.find((image) => !image.done);
  if (next) await show(next.id);
  else update();
  updateStrip();
}

function updateStrip() {
  const { images, editor } = state;
  showStrip($("strip"), images, editor?.image.id ?? state.next, show);
  const done = images.filter((image) => image.done).length;
  const name = editor?.image.name ?? "";
  $("progress").textContent = `${t("progress", { done, all: images.length })}${state.ready ? "" : ` · ${t("ordering")}`}${name ? ` · ${name}` : ""}`;
}

// ---- what is shown ----------------------------------------------------------------------------

function update() {
  const { editor } = state;
  if (!editor) return;
  showPanel(editor);
  view.draw();
  boxMode.show();
  const here = state.images.find((image) => image.id === editor.image.id);
  const count = editor.persons.filter((person) => !person.suggested).length;
  if (here && here.count !== count) {
    here.count = count;
    updateStrip();
  }
  $("now").classList.toggle("done", editor.image.done);
  showFindingsNow();
}

function showSaved() {
  $("saved").textContent = t(state.saved);
  $("saved").classList.toggle("late", state.saved === "late");
}

function updateWords() {
  showSaved();
  if (state.about) {
    const { folder, skeleton, model } = state.about;
    $("about").textContent = [
      folder, `${skeleton.name}, ${t("keypointCount", { n: skeleton.keypoints.length })}`,
      model ? t("suggestionsBy", { model }) : t("noSuggestions"),
    ].join(" · ");
  }
  showKeys($("keys-list"));
  notice.update();
  learning.draw();
  updateStrip();
  update();
}

function showProblem(error, about = "server") {
  notice.show(about, error);
  if (error.code === "wrong_token" && !$("ask").open) $("ask").showModal();
}

// ---- findings ----------------------------------------------------------------------------------

/** Check the labels once nothing has changed for a moment. */
function checkLater() {
  clearTimeout(state.check);
  state.check = setTimeout(async () => {
    const { editor } = state;
    if (!editor || !saver.idle) return;
    try {
      const { findings } = await fetchJson(`/v1/label/images/${editor.image.id}/findings`);
      if (state.editor !== editor || !saver.idle) return;
      state.findings = findings;
      showFindingsNow();
    } catch { /* the labels themselves are saved */ }
  }, CHECK);
}

function showFindingsNow() {
  const { editor } = state;
  showFindings($("findings"), state.findings, editor, {
    fix: (finding) => {
      drop(finding);
      editor.repair(finding.person, finding.repair);
    },
    accept: async (finding) => {
      drop(finding);
      try {
        await post(`/v1/label/images/${editor.image.id}/findings`, { by: saver.by, key: finding.key });
      } catch (error) {
        showProblem(error);
      }
    },
    look: (finding) => {
      const at = editor.persons.findIndex((person) => person.id === finding.person);
      const label = at < 0 ? finding.repair : editor.persons[at].label;
      const keypoint = state.about.skeleton.keypoints.indexOf(finding.keypoints[0]);
      if (at >= 0) editor.choose(at, keypoint < 0 ? null : keypoint);
      const box = label && (label.box ?? around(label.keypoints));
      if (box) view.fitBox(box);
    },
  });
}

function drop(finding) {
  state.findings = state.findings.filter((other) => other !== finding);
  showFindingsNow();
}

// ---- actions ----------------------------------------------------------------------------------

/** An action of the editor that changes what is current: it is shown. */
const edit = (work) => () => {
  if (!state.editor) return;
  work(state.editor);
  if (!view.hovered) view.reveal(state.editor.cursor);
};

async function copyBefore() {
  const { editor } = state;
  if (editor.image.before === null) return;
  try {
    const { persons } = await fetchJson(`/v1/label/images/${editor.image.before}`);
    const own = editor.persons.filter((person) => !person.suggested).length;
    if (state.editor === editor && persons.length > own) editor.addAll(persons.slice(own).map(({ label }) => label));
  } catch (error) {
    showProblem(error);
  }
}

function turnPerson(step) {
  const { editor } = state;
  const count = editor.persons.length;
  if (count) editor.choose((editor.at + step + count) % count);
}

const actions = {
  place: edit((editor) => editor.place(editor.cursor.x, editor.cursor.y)),
  next: edit((editor) => editor.next()),
  previous: edit((editor) => editor.previous()),
  visible: edit((editor) => editor.mark(VISIBLE)),
  hide: edit((editor) => editor.mark(HIDDEN)),
  outside: edit((editor) => editor.mark(OUTSIDE)),
  clear: edit((editor) => editor.clear()),
  swap: edit((editor) => editor.swap()),
  swapPair: edit((editor) => editor.swap(true)),
  add: () => (boxMode.on ? boxMode.add() : edit((editor) => editor.add())()),
  deletePerson: edit((editor) => editor.remove()),
  undo: edit((editor) => editor.undo()),
  redo: edit((editor) => editor.redo()),
  nextPerson: () => turnPerson(1),
  previousPerson: () => turnPerson(-1),
  copy: copyBefore,
  finish,
  nextImage: () => go(1),
  previousImage: () => go(-1),
  boxes: () => boxMode.set(!boxMode.on),
  escape: () => boxMode.set(false),
  zoomIn: () => view.zoom(1.4),
  zoomOut: () => view.zoom(1 / 1.4),
  fit: () => view.fit(),
  fitPerson: () => {
    const box = state.editor.person && boxOf(state.editor.person);
    if (box) view.fitBox(box);
  },
  labels: () => $("show-labels").click(),
  brighter: () => view.brighten(Number($("brightness").value) + 0.2),
  darker: () => view.brighten(Number($("brightness").value) - 0.2),
  download: async () => {
    try {
      const address = URL.createObjectURL(await fetchFile("/v1/label/annotations.json"));
      make("a", { href: address, download: "annotations.json" }).click();
      setTimeout(() => URL.revokeObjectURL(address), 10_000);
    } catch (error) {
      showProblem(error);
    }
  },
  learn: () => learning.learn(),
  keys: () => $("keys").showModal(),
  keysClose: () => $("keys").close(),
  cancel: () => $("ask").close(),
};

/** Arrows move the current keypoint by a pixel of the screen, with Shift by a part of the view. */
function nudge([dx, dy], far) {
  const { editor } = state;
  const step = far ? Math.max(8, view.size[1] / view.scale / 20) : Math.max(1, 1 / view.scale);
  view.hovered = false;
  view.showCursor = true;
  editor.nudge(Math.round(dx * step), Math.round(dy * step));
  view.reveal(editor.cursor);
}

// ---- events -----------------------------------------------------------------------------------

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.dataset.do) {
    actions[button.dataset.do]();
    // The keys go on with the image, unless the button was pressed by a key itself.
    if (event.detail > 0 && !button.closest("dialog")) $("view").focus({ preventScroll: true });
  }
  if (button.dataset.mode && state.editor) boxMode.set(button.dataset.mode === "boxes");
  if (button.dataset.language) {
    setLanguage(button.dataset.language, { store: true });
    updateWords();
  }
});

document.addEventListener("keydown", (event) => {
  if (!state.editor || document.querySelector("dialog[open]")) return;
  const { target } = event;
  if (target.closest("input:not([type=checkbox]), select")) return;
  const found = actionOf(event);
  if (!found) return;
  // Keys that buttons, lists and boxes have themselves stay theirs.
  const own = target.closest("button, input, .box");
  if (own && (found.action === "move" || [" ", "Enter", "Delete", "Backspace"].includes(event.key))) return;
  event.preventDefault();
  if (found.action === "move") nudge(found.by, found.far);
  else {
    if (found.action === "place") view.showCursor = !view.hovered;
    actions[found.action]();
  }
});

for (const [id, part] of [["show-labels", "showLabels"], ["show-names", "showNames"]]) {
  $(id).addEventListener("change", () => {
    view[part] = $(id).checked;
    view.draw();
  });
}
$("brightness").addEventListener("input", () => view.brighten($("brightness").value));
$("order").addEventListener("change", () => loadImages().catch(showProblem));
$("annotator").addEventListener("change", () => {
  saver.by = $("annotator").value.trim();
  try {
    localStorage.setItem(ANNOTATOR, saver.by);
  } catch { /* private windows may forbid it */ }
});
$("ask-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  useToken($("token").value);
  $("token").value = "";
  $("ask").close();
  notice.drop("server");
  if (!state.editor) await start();
});
window.addEventListener("beforeunload", (event) => {
  if (!saver.idle) event.preventDefault();
});

async function start() {
  try {
    state.about = await fetchJson("/v1/label/project");
    await loadImages();
    updateWords();
    const first = state.images.find((image) => !image.done) ?? state.images[0];
    if (first) await show(first.id);
    await learning.update();
  } catch (error) {
    showProblem(error);
  }
}

try {
  saver.by = localStorage.getItem(ANNOTATOR) ?? "";
} catch { /* private windows may forbid it */ }
$("annotator").value = saver.by;
setLanguage(firstLanguage());
showSaved();
start();
followOthers(state, saver, {
  load: loadImages,
  changed: () => {
    updateStrip();
    update();
  },
});
