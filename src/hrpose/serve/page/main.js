// The page: its state, its requests to the server, and its events.

import { BoxLayer } from "./boxes.js";
import { Camera } from "./camera.js";
import { render } from "./draw.js";
import { readHeatmaps } from "./heatmaps.js";
import { listPersons } from "./persons.js";
import { Refused, fetchModels, fetchPoses, useToken } from "./server.js";
import { detectorName, firstLanguage, keypointName, hasText, setLanguage, t } from "./language.js";

const $ = (id) => document.getElementById(id);
const canvas = $("canvas");
const boxLayer = new BoxLayer($("boxes"), {
  began: () => {
    state.interrupted = state.request !== null;
    state.request?.abort(); // its answer would move the box that is dragged
  },
  changed: (boxes, pause) => {
    state.boxes = boxes;
    estimate({ pause });
  },
  left: () => state.interrupted && estimateAgain(),
});

const state = {
  model: null, // from /v1/models
  detector: "",
  file: null, // what is sent to the server
  name: "image",
  image: null, // the same, as a bitmap
  boxes: null, // edited boxes; null: the detector's
  answer: null,
  overlays: [], // the heatmaps of each person, if requested
  marked: null, // the keypoint under the pointer, by the indices of its person and itself
  scale: 1, // CSS pixels per image pixel
  opened: 0, // how many images were opened: only the last one is shown
  camera: null, // from the moment it is requested
  request: null, // the AbortController of the request in progress
  interrupted: false, // whether the current edit aborted a request
  problem: null,
};

// ---- requests ---------------------------------------------------------------------------------

async function start() {
  try {
    await loadModel();
  } catch (error) {
    showProblem(error);
  }
}

/** Fetch the model and the detector: drawing needs the skeleton. */
async function loadModel() {
  const { models, detector } = await fetchModels();
  [state.model] = models;
  state.detector = detector;
  showProblem(null);
  updateWords();
}

/** Show an image, and estimate its poses. */
async function open(file, name = "image") {
  if (!file) return;
  stopCamera();
  state.opened += 1;
  const opened = state.opened;
  let image = null;
  try {
    image = await createImageBitmap(file);
  } catch { /* the server may explain better what is wrong */ }
  if (opened !== state.opened) {
    image?.close(); // a later one was decoded first
  } else if (image) {
    setImage(file, name, image);
    layout();
    refresh();
    await estimate();
  } else {
    await estimate({ file, boxes: null, otherwise: new Refused("unreadable", "") });
  }
}

/** Replace the image, without results yet. */
function setImage(file, name, image) {
  state.image?.close();
  Object.assign(state, { file, name, image, boxes: null, answer: null, overlays: [], marked: null });
  $("empty").hidden = true;
  for (const id of ["view", "panel"]) $(id).hidden = false;
}

/** Request the poses in `boxes`, or in those of the detector; after `pause` ms. */
async function estimate({ file = state.file, boxes = state.boxes, otherwise = null, pause = 0 } = {}) {
  state.request?.abort();
  const request = new AbortController();
  state.request = request;
  $("stage").setAttribute("aria-busy", "true");
  const later = setTimeout(() => { $("working").hidden = false; }, pause + 150);
  try {
    if (pause) await new Promise((done) => setTimeout(done, pause));
    if (!state.model) await loadModel();
    request.signal.throwIfAborted();
    const answer = await fetchPoses(file, {
      boxes,
      heatmaps: chosenKeypoint() !== null,
      flipTest: $("flip-test").checked,
      minScore: Number($("min-score").value),
      signal: request.signal,
    });
    if (otherwise) throw otherwise;
    const overlays = await readHeatmaps(answer.persons);
    request.signal.throwIfAborted();
    Object.assign(state, { answer, overlays, marked: null });
    showProblem(null);
    refresh();
  } catch (error) {
    if (!request.signal.aborted) showProblem(error);
  } finally {
    clearTimeout(later);
    if (state.request === request) {
      state.request = null;
      $("stage").setAttribute("aria-busy", "false");
      $("working").hidden = true;
    }
  }
}

/** Estimate again, with other options. */
function estimateAgain() {
  if (state.file && !state.camera?.on) estimate();
}

/** Show what went wrong; null hides it. */
function showProblem(error) {
  state.problem = error;
  const notice = $("notice");
  notice.hidden = error === null;
  if (error === null) return;
  const text = hasText(error.code) ? t(error.code) : t("refused");
  notice.textContent = [text, error.message].filter(Boolean).join(" ");
  if (!(error instanceof Refused)) console.error(error);
  if (error.code === "wrong_token" && !$("ask").open) $("ask").showModal();
}

// ---- showing ----------------------------------------------------------------------------------

function chosenKeypoint() {
  const value = $("keypoint").value;
  return value === "" ? null : value === "all" ? "all" : Number(value);
}

/** What `render` draws. */
function currentView(threshold = Number($("threshold").value)) {
  return {
    image: state.image,
    persons: state.answer?.persons ?? [],
    model: state.model,
    threshold,
    keypoint: state.overlays.length ? chosenKeypoint() : null,
    strength: Number($("strength").value),
    overlays: state.overlays,
    marked: state.marked,
    skeletons: $("show-skeletons").checked,
    names: $("show-names").checked,
    nameOf: keypointName,
  };
}

/** Fit the image into the window. */
function layout() {
  if (!state.image) return;
  const { width, height } = state.image;
  const most = Math.max(280, window.innerHeight * 0.8);
  state.scale = Math.min($("stage").clientWidth / width, most / height);
  const ratio = window.devicePixelRatio || 1;
  canvas.style.width = `${Math.round(width * state.scale)}px`;
  canvas.style.height = `${Math.round(height * state.scale)}px`;
  canvas.width = Math.max(1, Math.round(width * state.scale * ratio));
  canvas.height = Math.max(1, Math.round(height * state.scale * ratio));
  boxLayer.rescale(state.scale);
  draw();
}

function draw() {
  if (state.image) {
    render(canvas.getContext("2d"), currentView(), canvas.width / state.image.width);
  }
}

/** Everything that depends on the answer, the boxes, the threshold or the language. */
function refresh() {
  draw();
  const { answer, image } = state;
  const persons = answer?.persons ?? [];
  const boxes = state.boxes ?? persons.map((person) => person.box);
  if (image) boxLayer.show(boxes, [image.width, image.height], state.scale);
  const threshold = Number($("threshold").value);
  listPersons($("persons"), persons, threshold, (person, keypoint) => {
    state.marked = person === null ? null : { person, keypoint };
    draw();
  });
  $("summary").replaceChildren(...(answer ? summary(answer, threshold) : []));
  canvas.setAttribute("aria-label", answer ? $("summary").textContent : t("stage"));
}

/** The number of persons and keypoints, and who drew the boxes. */
function summary({ persons, boxes_from: from }, threshold) {
  const keypoints = persons.flatMap((person) => person.keypoints).filter((p) => p.score >= threshold);
  const key = persons.length === 0 ? "none" : persons.length === 1 ? "one" : "many";
  const by = document.createElement("small");
  by.textContent = t("detectedBy", { by: from === "request" ? t("byYou") : detectorName(from) });
  return [t(key, { persons: persons.length, keypoints: keypoints.length }), by];
}

/** Update the texts that are not in the HTML. */
function updateWords() {
  $("working").textContent = t("working");
  if (state.model) $("model").textContent = `${state.model.name} · ${detectorName(state.detector)}`;
  const choices = [["", t("noHeatmap")], ["all", t("allKeypoints")]];
  state.model?.keypoints.forEach((name, index) => choices.push([String(index), keypointName(name)]));
  const chosen = $("keypoint").value;
  $("keypoint").replaceChildren(...choices.map(([value, text]) => new Option(text, value)));
  $("keypoint").value = chosen;
  if (state.problem) showProblem(state.problem);
  refresh();
}

function showStrength() {
  $("strength-value").textContent = Number($("strength").value).toFixed(2);
  $("strength-field").hidden = chosenKeypoint() === null;
}

/** Mark the keypoint under the pointer, with its name and score. */
function point(event) {
  const frame = canvas.getBoundingClientRect();
  const threshold = Number($("threshold").value);
  let best = null;
  let nearest = 16;
  state.answer?.persons.forEach(({ keypoints }, person) => {
    keypoints.forEach((point, keypoint) => {
      if (point.score < threshold) return;
      const x = (point.x + 0.5) * state.scale - (event.clientX - frame.left);
      const y = (point.y + 0.5) * state.scale - (event.clientY - frame.top);
      if (Math.hypot(x, y) < nearest) {
        nearest = Math.hypot(x, y);
        best = { person, keypoint, point };
      }
    });
  });
  const tip = $("tip");
  const before = JSON.stringify(state.marked);
  state.marked = best && { person: best.person, keypoint: best.keypoint };
  tip.hidden = best === null;
  if (best) {
    tip.textContent = `${keypointName(best.point.name)} ${best.point.score.toFixed(2)}`;
    const x = (best.point.x + 0.5) * state.scale;
    const most = frame.width - tip.offsetWidth - 4;
    tip.style.left = `${Math.max(4, Math.min(x + 14, most))}px`;
    tip.style.top = `${Math.max(4, (best.point.y + 0.5) * state.scale - 34)}px`;
  }
  if (JSON.stringify(state.marked) !== before) draw();
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
    state.request?.abort();
    state.opened += 1;
    if (!state.model) await loadModel();
    while (camera.on) {
      const file = await camera.frame();
      if (!camera.on) return;
      const answer = await fetchPoses(file, {
        heatmaps: chosenKeypoint() !== null,
        minScore: Number($("min-score").value),
      });
      const overlays = await readHeatmaps(answer.persons);
      const image = await createImageBitmap(file);
      if (!camera.on) {
        image.close();
        return;
      }
      // Each image is shown with its own answer, so that the skeleton matches the person.
      const same = state.image?.width === image.width && state.image?.height === image.height;
      setImage(file, "camera", image);
      Object.assign(state, { answer, overlays });
      showProblem(null);
      if (!same) layout();
      refresh();
    }
  } catch (error) {
    if (state.camera === camera) showProblem(error);
  } finally {
    if (state.camera === camera) {
      stopCamera();
      if (camera.gone) showProblem(new Refused("cameraGone", ""));
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
  $("boxes").inert = on;
  for (const button of document.querySelectorAll("[data-do=camera], [data-do=stop]")) {
    button.hidden = (button.dataset.do === "stop") !== on;
  }
}

// ---- saving -----------------------------------------------------------------------------------

function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

function saveJson() {
  const threshold = Number($("threshold").value);
  const persons = state.answer.persons.map(({ heatmaps, keypoints, ...person }) => ({
    ...person,
    keypoints: keypoints.map((point) => ({ ...point, present: point.score >= threshold })),
  }));
  const text = JSON.stringify({ ...state.answer, threshold, persons }, null, 1);
  save(new Blob([text], { type: "application/json" }), `${state.name}.poses.json`);
}

/** The image in its own size, with everything drawn on it. */
async function savePng() {
  const { width, height } = state.image;
  const large = new OffscreenCanvas(width, height);
  render(large.getContext("2d"), { ...currentView(), marked: null }, 1);
  save(await large.convertToBlob({ type: "image/png" }), `${state.name}.poses.png`);
}

// ---- events --------------------------------------------------------------------------------------

const actions = {
  choose: () => $("file").click(),
  camera: runCamera,
  stop: stopCamera,
  add: () => state.camera?.on || boxLayer.add(),
  json: () => state.answer && saveJson(),
  png: () => state.image && savePng(),
  cancel: () => $("ask").close(),
};

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button?.dataset.do) actions[button.dataset.do]();
  if (button?.dataset.language) {
    setLanguage(button.dataset.language, { store: true });
    updateWords();
  }
});

$("file").addEventListener("change", () => {
  const [file] = $("file").files;
  open(file, file?.name);
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
  const [file] = event.dataTransfer.files;
  open(file, file?.name);
});
document.addEventListener("paste", (event) => {
  const [file] = event.clipboardData.files;
  if (file) open(file, "pasted");
});

$("threshold").addEventListener("input", () => {
  $("threshold-value").textContent = Number($("threshold").value).toFixed(2);
  refresh();
});
$("min-score").addEventListener("input", () => {
  $("min-score-value").textContent = Number($("min-score").value).toFixed(2);
});
$("min-score").addEventListener("change", () => {
  if (state.boxes === null) estimateAgain();
});
$("keypoint").addEventListener("change", () => {
  showStrength();
  if (chosenKeypoint() !== null && !state.overlays.length) estimateAgain();
  else draw();
});
$("strength").addEventListener("input", () => {
  showStrength();
  draw();
});
$("flip-test").addEventListener("change", estimateAgain);
for (const id of ["show-skeletons", "show-names"]) $(id).addEventListener("change", draw);
$("show-boxes").addEventListener("change", () => {
  $("boxes").hidden = !$("show-boxes").checked;
});

$("view").addEventListener("pointermove", point);
$("view").addEventListener("pointerleave", () => {
  state.marked = null;
  $("tip").hidden = true;
  draw();
});

$("ask-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  useToken($("token").value);
  $("token").value = "";
  $("ask").close();
  if (state.file) estimateAgain();
  else await start();
});

new ResizeObserver(layout).observe($("stage"));
setLanguage(firstLanguage());
updateWords();
start();
