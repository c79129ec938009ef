// The page: its images, its requests to the server, and its events.

import { Camera } from "./camera.js";
import { showCard } from "./card.js";
import { isClip, readFrames } from "./clips.js";
import { loadExamples, showExamples } from "./examples.js";
import { Item } from "./item.js";
import { detectorName, firstLanguage, setLanguage, t } from "./language.js";
import { Notice } from "./notice.js";
import { listenToPanel, offerHeatmaps, options, threshold } from "./panel.js";
import { Refused } from "./refused.js";
import { saveJson, savePng } from "./save.js";
import { fetchModels, useToken } from "./server.js";
import { Stage } from "./stage.js";
import { showStrip } from "./strip.js";

const MOST = 60; // images at a time

const $ = (id) => document.getElementById(id);
const notice = new Notice($("notice"));
const stage = new Stage({
  began: () => {
    state.interrupted = state.request !== null;
    state.request?.abort(); // its answer would move the box that is dragged
  },
  changed: (boxes, { pause, tag } = {}) => {
    stage.item.history.push(boxes, tag);
    stage.showTools();
    estimate({ pause });
  },
  left: () => state.interrupted && estimateAgain(),
});

const state = {
  about: null, // the answer of /v1/models
  items: [], // those of the strip; an image of the camera is on the stage alone
  next: null, // the item that will be shown once it is decoded
  camera: null, // from the moment it is requested
  request: null, // the AbortController of the request for the item that is shown
  background: null, // {item, request} of the one for another item
  interrupted: false, // whether the current edit aborted a request
};

// ---- images -----------------------------------------------------------------------------------

/** Fetch the model and the detector: drawing needs the skeleton. */
async function loadModel() {
  state.about = await fetchModels((part) =>
    showReading(part < 1 ? t("loading", { percent: Math.floor(100 * part) }) : ""));
  [stage.model] = state.about.models;
  notice.drop("server");
  updateWords();
}

/** Add files to the strip, the frames of clips too, and show the first. */
async function addFiles(files) {
  if (!files.length) return;
  stopCamera();
  notice.clear();
  let first = true;
  const add = (file, name) => {
    if (state.items.length >= MOST) throw new Refused("tooMany");
    const item = new Item(file, name);
    state.items.push(item);
    updateStrip();
    if (first) show(item);
    else processNext();
    first = false;
  };
  for (const file of files) {
    try {
      if (!isClip(file)) add(file, file.name);
      else {
        for await (const frame of readFrames(file)) {
          showReading(t("frames", { name: file.name, n: frame.index + 1, of: frame.count }));
          add(frame.file, frame.name);
        }
      }
    } catch (error) {
      notice.show(file, error, file.name);
      if (error.code === "tooMany") break;
    } finally {
      showReading("");
    }
  }
}

/** Show an item, and estimate its poses unless it has them. */
async function show(item) {
  stopCamera();
  state.request?.abort();
  if (state.background?.item === item) state.background.request.abort();
  state.next = item;
  try {
    await item.open();
  } catch (error) {
    if (state.next === item) await explain(item, error);
    return;
  }
  if (state.next !== item) {
    if (stage.item !== item) item.close(); // a later one was chosen
    return;
  }
  put(item);
  updateStrip();
  if (item.answers(options())) processNext();
  else await estimate();
}

/** Put an item that is open on the stage. */
function put(item) {
  state.next = null;
  stage.show(item);
}

/** The server may explain better what is wrong with a file that the browser cannot read. */
async function explain(item, error) {
  await during(async (signal) => {
    await item.estimate(options(), signal);
    throw error;
  }, item);
  remove(item, { explained: true });
}

/** Remove an item from the strip. */
function remove(item, { explained = false } = {}) {
  const index = state.items.indexOf(item);
  if (index < 0) return;
  state.items.splice(index, 1);
  if (!explained) notice.drop(item);
  if (state.background?.item === item) state.background.request.abort();
  if (item === stage.item) state.request?.abort();
  const following = state.items[index] ?? (item === stage.item ? state.items.at(-1) : null);
  if (item === stage.item || item === state.next) {
    state.next = null;
    if (following) show(following);
    else if (item === stage.item) stage.show(null);
  }
  updateStrip();
  processNext();
}

// ---- requests ---------------------------------------------------------------------------------

/** Do `work(signal)` as the request for what is shown: the one before is aborted, errors are shown. */
async function during(work, item, pause = 0) {
  state.request?.abort();
  const request = new AbortController();
  state.request = request;
  $("stage").setAttribute("aria-busy", "true");
  const later = setTimeout(() => { $("working").hidden = false; }, pause + 150);
  try {
    if (pause) await new Promise((done) => setTimeout(done, pause));
    if (!state.about) await loadModel();
    request.signal.throwIfAborted();
    await work(request.signal);
    notice.drop(item);
    notice.drop("server");
  } catch (error) {
    if (!request.signal.aborted) showProblem(error, item);
  } finally {
    clearTimeout(later);
    if (state.request === request) {
      state.request = null;
      $("stage").setAttribute("aria-busy", "false");
      $("working").hidden = true;
      processNext();
    }
  }
}

/** Request the poses of what is shown; after `pause` ms. */
async function estimate({ pause = 0 } = {}) {
  const item = stage.item;
  await during(async (signal) => {
    await item.estimate(options(), signal);
    stage.refresh();
    updateStrip();
  }, item, pause);
}

/** Estimate again, with other options. */
function estimateAgain() {
  if (stage.item && !state.camera?.on) estimate();
}

/** Estimate the poses of the items that are not shown, one after another. */
async function processNext() {
  if (state.background || state.request || state.camera?.on || !state.about) return;
  const how = { ...options(), heatmaps: false };
  const waits = (item) => item !== stage.item && item !== state.next && !item.failed && !item.answers(how);
  const item = state.items.find(waits);
  if (!item) return;
  const request = new AbortController();
  state.background = { item, request };
  let goesOn = true;
  try {
    let unreadable = null;
    await item.open().catch((error) => { unreadable = error; });
    await item.estimate(how, request.signal);
    if (unreadable) throw unreadable;
  } catch (error) {
    if (!request.signal.aborted) {
      item.failed = true;
      goesOn = !["noServer", "busy", "wrong_token"].includes(error.code);
      showProblem(error, item);
      if (!item.thumbnail) remove(item, { explained: true });
    }
  } finally {
    if (item !== stage.item && item !== state.next) item.close();
    state.background = null;
    updateStrip();
  }
  if (goesOn) processNext();
}

/** Show what went wrong with an item, or with the server. */
function showProblem(error, item) {
  const about = ["noServer", "wrong_token"].includes(error.code) ? "server" : item;
  notice.show(about, error, about === item ? item?.name : "");
  if (error.code === "wrong_token" && !$("ask").open) $("ask").showModal();
}

// ---- words and lists ---------------------------------------------------------------------------

function updateStrip() {
  showStrip($("strip"), state.items, stage.item, { choose: show, remove });
  document.querySelector("[data-do=jsonAll]").hidden = state.items.length < 2;
}

function showReading(text) {
  $("reading").textContent = text;
  $("reading").hidden = text === "";
}

/** Update the texts that are not in the HTML. */
function updateWords() {
  $("working").textContent = t("working");
  if (state.about) {
    const { models: [model], detector } = state.about;
    $("model").textContent = `${model.name} · ${detectorName(detector)}`;
    for (const element of document.querySelectorAll(".engine")) {
      element.textContent = t("runsOn", { engine: model.engine });
    }
    showCard($("card-title"), $("card-list"), state.about);
    offerHeatmaps(model.keypoints);
  }
  showExamples($("examples"), {
    open: (file) => addFiles([file]),
    fail: (error, name) => notice.show("server", error, name),
  });
  updateStrip();
  notice.update();
  stage.refresh();
}

// ---- boxes ------------------------------------------------------------------------------------

/** Take the boxes of a step of the history. */
function step(move) {
  if (!stage.item || state.camera?.on) return;
  const { boxes } = stage.item;
  move(stage.item.history);
  if (stage.item.boxes === boxes) return;
  stage.refresh();
  estimate();
}

// ---- the camera -------------------------------------------------------------------------------

async function runCamera() {
  if (state.camera) return; // it may still wait for permission
  const camera = new Camera();
  state.camera = camera;
  try {
    await camera.start();
    if (!camera.on) return;
    showCamera();
    notice.clear();
    state.request?.abort();
    state.next = null;
    showStrip($("strip"), state.items, null, { choose: show, remove });
    if (!state.about) await loadModel();
    while (camera.on) {
      const item = new Item(await camera.frame(), "camera");
      if (!camera.on) return;
      await item.estimate({ ...options(), flipTest: false });
      await item.open();
      if (!camera.on) {
        item.close();
        return;
      }
      // Each image is shown with its own answer, so that the skeleton matches the person.
      put(item);
    }
  } catch (error) {
    if (state.camera === camera) showProblem(error, camera);
  } finally {
    if (state.camera === camera) {
      stopCamera();
      if (camera.gone) notice.show(camera, new Refused("cameraGone"));
      processNext();
    }
  }
}

function stopCamera() {
  state.camera?.stop();
  state.camera = null;
  showCamera();
}

function showCamera() {
  const on = state.camera?.on ?? false;
  $("boxes").inert = $("tools").inert = on;
  $("summary").ariaLive = on ? "off" : "polite"; // a screen reader would not come to an end
  for (const button of document.querySelectorAll("[data-do=camera], [data-do=stop]")) {
    button.hidden = (button.dataset.do === "stop") !== on;
  }
}

// ---- events -----------------------------------------------------------------------------------

const actions = {
  choose: () => $("file").click(),
  camera: runCamera,
  stop: stopCamera,
  add: () => stage.boxLayer.add(),
  undo: () => step((history) => history.undo()),
  redo: () => step((history) => history.redo()),
  detect: () => step((history) => history.push(null)),
  json: () => saveJson([stage.item], threshold()),
  jsonAll: () => saveJson(state.items, threshold()),
  png: () => savePng(stage.item.name, { ...stage.view(), marked: null }),
  cancel: () => $("ask").close(),
  card: () => state.about && $("card").showModal(),
  cardClose: () => $("card").close(),
};

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button?.dataset.do) actions[button.dataset.do]();
  if (button?.dataset.language) {
    setLanguage(button.dataset.language, { store: true });
    updateWords();
  }
});

document.addEventListener("keydown", (event) => {
  if (!(event.ctrlKey || event.metaKey) || event.target.type === "password") return;
  const key = event.key.toLowerCase();
  const action = key === "y" || (key === "z" && event.shiftKey) ? "redo" : key === "z" ? "undo" : null;
  if (!action) return;
  event.preventDefault();
  actions[action]();
});

$("file").addEventListener("change", () => {
  addFiles([...$("file").files]);
  $("file").value = ""; // so that the same file can be chosen again
});

for (const kind of ["dragenter", "dragover"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    $("stage").classList.add("over");
  });
}
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) $("stage").classList.remove("over");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  $("stage").classList.remove("over");
  addFiles([...event.dataTransfer.files]);
});
document.addEventListener("paste", (event) => addFiles([...event.clipboardData.files]));

listenToPanel({
  draw: () => stage.draw(),
  refresh: () => stage.refresh(),
  estimate: () => {
    if (stage.item && !stage.item.answers(options())) estimateAgain();
  },
});

$("ask-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  useToken($("token").value);
  $("token").value = "";
  $("ask").close();
  notice.drop("server");
  if (stage.item) estimateAgain();
  else await start();
});

async function start() {
  try {
    await loadModel();
    processNext();
  } catch (error) {
    showProblem(error, null);
  }
}

setLanguage(firstLanguage());
updateWords();
start();
loadExamples().then(updateWords, () => {});
