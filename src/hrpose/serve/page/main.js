// The page: what it knows, and what happens when somebody does something.

import { BoxLayer } from "./boxes.js";
import { Camera } from "./camera.js";
import { drawScene } from "./draw.js";
import { readHeatmaps } from "./heatmaps.js";
import { listPeople } from "./people.js";
import { Refused, askModels, askPoses, useToken } from "./server.js";
import { finderName, firstLanguage, jointName, knows, setLanguage, t } from "./words.js";

const $ = (id) => document.getElementById(id);
const canvas = $("canvas");
const boxLayer = new BoxLayer($("boxes"), {
  began: () => {
    state.interrupted = state.asking !== null;
    state.asking?.abort(); // its answer would move what is being dragged
  },
  changed: (boxes, pause) => {
    state.boxes = boxes;
    look({ pause });
  },
  left: () => state.interrupted && lookAgain(),
});

const state = {
  model: null, // of /v1/models
  detector: "",
  file: null, // what is sent to the server
  name: "picture",
  picture: null, // the same, as a bitmap
  boxes: null, // those that somebody drew; null: the detector's
  answer: null,
  overlays: [], // the heatmaps of each person, where they were asked for
  marked: null, // the joint that is pointed at
  scale: 1, // CSS pixels to a pixel of the picture
  opened: 0, // how many pictures somebody opened: the last one is shown
  camera: null, // from the moment it is asked for
  asking: null, // the AbortController of the request under way
  interrupted: false, // whether the edit under way ended a request
  problem: null,
};

// ---- asking -----------------------------------------------------------------------------------

async function start() {
  try {
    await learn();
  } catch (error) {
    tell(error);
  }
}

/** Ask what the server runs: without that no answer can be drawn. */
async function learn() {
  const { models, detector } = await askModels();
  [state.model] = models;
  state.detector = detector;
  tell(null);
  speak();
}

/** Show a picture, and look at it. */
async function open(file, name = "picture") {
  if (!file) return;
  stopCamera();
  state.opened += 1;
  const turn = state.opened;
  let picture = null;
  try {
    picture = await createImageBitmap(file);
  } catch { /* the server may say better what is wrong */ }
  if (turn !== state.opened) {
    picture?.close(); // a later one was faster
  } else if (picture) {
    take(file, name, picture);
    layout();
    refresh();
    await look();
  } else {
    await look({ file, boxes: null, otherwise: new Refused("unreadable", "") });
  }
}

/** Have another picture, of which nothing is known. */
function take(file, name, picture) {
  state.picture?.close();
  Object.assign(state, { file, name, picture, boxes: null, answer: null, overlays: [], marked: null });
  $("empty").hidden = true;
  for (const id of ["view", "panel"]) $(id).hidden = false;
}

/** Ask for the poses in the picture, in `boxes` or where the detector finds people. */
async function look({ file = state.file, boxes = state.boxes, otherwise = null, pause = 0 } = {}) {
  state.asking?.abort();
  const asking = new AbortController();
  state.asking = asking;
  $("stage").setAttribute("aria-busy", "true");
  const later = setTimeout(() => { $("working").hidden = false; }, pause + 150);
  try {
    if (pause) await new Promise((done) => setTimeout(done, pause));
    if (!state.model) await learn();
    asking.signal.throwIfAborted();
    const answer = await askPoses(file, {
      boxes,
      heatmaps: chosenJoint() !== null,
      flipTest: $("flip-test").checked,
      signal: asking.signal,
    });
    if (otherwise) throw otherwise;
    const overlays = await readHeatmaps(answer.people);
    asking.signal.throwIfAborted();
    Object.assign(state, { answer, overlays, marked: null });
    tell(null);
    refresh();
  } catch (error) {
    if (!asking.signal.aborted) tell(error);
  } finally {
    clearTimeout(later);
    if (state.asking === asking) {
      state.asking = null;
      $("stage").setAttribute("aria-busy", "false");
      $("working").hidden = true;
    }
  }
}

/** Look again, with other choices. */
function lookAgain() {
  if (state.file && !state.camera?.on) look();
}

/** Say what went wrong; null takes it back. */
function tell(error) {
  state.problem = error;
  const notice = $("notice");
  notice.hidden = error === null;
  if (error === null) return;
  const words = knows(error.code) ? t(error.code) : t("refused");
  notice.textContent = [words, error.message].filter(Boolean).join(" ");
  if (!(error instanceof Refused)) console.error(error);
  if (error.code === "wrong_token" && !$("ask").open) $("ask").showModal();
}

// ---- showing ----------------------------------------------------------------------------------

function chosenJoint() {
  const value = $("joint").value;
  return value === "" ? null : value === "all" ? "all" : Number(value);
}

function scene(threshold = Number($("threshold").value)) {
  return {
    picture: state.picture,
    people: state.answer?.people ?? [],
    model: state.model,
    threshold,
    joint: state.overlays.length ? chosenJoint() : null,
    strength: Number($("strength").value),
    overlays: state.overlays,
    marked: state.marked,
    skeletons: $("show-skeletons").checked,
    names: $("show-names").checked,
    nameOf: jointName,
  };
}

/** Fit the picture into its place. */
function layout() {
  if (!state.picture) return;
  const { width, height } = state.picture;
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
  if (state.picture) {
    drawScene(canvas.getContext("2d"), scene(), canvas.width / state.picture.width);
  }
}

/** Everything that depends on the answer, the boxes, the threshold or the language. */
function refresh() {
  draw();
  const { answer, picture } = state;
  const people = answer?.people ?? [];
  const boxes = state.boxes ?? people.map((person) => person.box);
  if (picture) boxLayer.show(boxes, [picture.width, picture.height], state.scale);
  const threshold = Number($("threshold").value);
  listPeople($("people"), people, threshold, (person, joint) => {
    state.marked = person === null ? null : { person, joint };
    draw();
  });
  $("summary").replaceChildren(...(answer ? summary(answer, threshold) : []));
  canvas.setAttribute("aria-label", answer ? $("summary").textContent : t("stage"));
}

/** How many people and joints there are, and where the boxes are from. */
function summary({ people, boxes_from: from }, threshold) {
  const joints = people.flatMap((person) => person.keypoints).filter((p) => p.score >= threshold);
  const words = people.length === 0 ? "nobody" : people.length === 1 ? "one" : "many";
  const by = document.createElement("small");
  by.textContent = t("foundBy", { by: from === "request" ? t("byYou") : finderName(from) });
  return [t(words, { people: people.length, joints: joints.length }), by];
}

/** Give every word anew, where they are not in the page's source. */
function speak() {
  $("working").textContent = t("working");
  if (state.model) $("model").textContent = `${state.model.name} · ${finderName(state.detector)}`;
  const joints = [["", t("noHeatmap")], ["all", t("allJoints")]];
  state.model?.keypoints.forEach((name, index) => joints.push([String(index), jointName(name)]));
  const chosen = $("joint").value;
  $("joint").replaceChildren(...joints.map(([value, words]) => new Option(words, value)));
  $("joint").value = chosen;
  if (state.problem) tell(state.problem);
  refresh();
}

function showStrength() {
  $("strength-value").textContent = Number($("strength").value).toFixed(2);
  $("strength-field").hidden = chosenJoint() === null;
}

/** The joint under the pointer, with its name and score. */
function point(event) {
  const frame = canvas.getBoundingClientRect();
  const threshold = Number($("threshold").value);
  let best = null;
  let nearest = 16;
  state.answer?.people.forEach((person, index) => {
    person.keypoints.forEach((keypoint, joint) => {
      if (keypoint.score < threshold) return;
      const x = (keypoint.x + 0.5) * state.scale - (event.clientX - frame.left);
      const y = (keypoint.y + 0.5) * state.scale - (event.clientY - frame.top);
      if (Math.hypot(x, y) < nearest) {
        nearest = Math.hypot(x, y);
        best = { person: index, joint, keypoint };
      }
    });
  });
  const tip = $("tip");
  const before = JSON.stringify(state.marked);
  state.marked = best && { person: best.person, joint: best.joint };
  tip.hidden = best === null;
  if (best) {
    tip.textContent = `${jointName(best.keypoint.name)} ${best.keypoint.score.toFixed(2)}`;
    const x = (best.keypoint.x + 0.5) * state.scale;
    const room = frame.width - tip.offsetWidth - 4;
    tip.style.left = `${Math.max(4, Math.min(x + 14, room))}px`;
    tip.style.top = `${Math.max(4, (best.keypoint.y + 0.5) * state.scale - 34)}px`;
  }
  if (JSON.stringify(state.marked) !== before) draw();
}

// ---- the camera -------------------------------------------------------------------------------

async function film() {
  if (state.camera) return; // perhaps permission is still being asked for
  const camera = new Camera();
  state.camera = camera;
  try {
    await camera.start();
    if (!camera.on) return;
    showCamera();
    state.asking?.abort();
    state.opened += 1;
    if (!state.model) await learn();
    while (camera.on) {
      const file = await camera.frame();
      if (!camera.on) return;
      const answer = await askPoses(file, { heatmaps: chosenJoint() !== null });
      const overlays = await readHeatmaps(answer.people);
      const picture = await createImageBitmap(file);
      if (!camera.on) {
        picture.close();
        return;
      }
      // The picture is shown with its answer, so that the skeleton lies on the person.
      const same = state.picture?.width === picture.width && state.picture?.height === picture.height;
      take(file, "camera", picture);
      Object.assign(state, { answer, overlays });
      tell(null);
      if (!same) layout();
      refresh();
    }
  } catch (error) {
    if (state.camera === camera) tell(error);
  } finally {
    if (state.camera === camera) {
      stopCamera();
      if (camera.gone) tell(new Refused("cameraGone", ""));
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
  const people = state.answer.people.map(({ heatmaps, keypoints, ...person }) => ({
    ...person,
    keypoints: keypoints.map((point) => ({ ...point, present: point.score >= threshold })),
  }));
  const text = JSON.stringify({ ...state.answer, threshold, people }, null, 1);
  save(new Blob([text], { type: "application/json" }), `${state.name}.poses.json`);
}

/** The picture in its own size, with what is drawn on it. */
async function savePng() {
  const { width, height } = state.picture;
  const large = new OffscreenCanvas(width, height);
  drawScene(large.getContext("2d"), { ...scene(), marked: null }, 1);
  save(await large.convertToBlob({ type: "image/png" }), `${state.name}.poses.png`);
}

// ---- what people do ---------------------------------------------------------------------------

const deeds = {
  choose: () => $("file").click(),
  camera: film,
  stop: stopCamera,
  add: () => state.camera?.on || boxLayer.add(),
  json: () => state.answer && saveJson(),
  png: () => state.picture && savePng(),
  cancel: () => $("ask").close(),
};

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button?.dataset.do) deeds[button.dataset.do]();
  if (button?.dataset.language) {
    setLanguage(button.dataset.language, { store: true });
    speak();
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
$("joint").addEventListener("change", () => {
  showStrength();
  if (chosenJoint() !== null && !state.overlays.length) lookAgain();
  else draw();
});
$("strength").addEventListener("input", () => {
  showStrength();
  draw();
});
$("flip-test").addEventListener("change", lookAgain);
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
  if (state.file) lookAgain();
  else await start();
});

new ResizeObserver(layout).observe($("stage"));
setLanguage(firstLanguage());
speak();
start();
