// The stage: the image that is shown, with its skeletons, boxes and tools.

import { BoxLayer } from "./boxes.js";
import { render } from "./draw.js";
import { keypointName, t } from "./language.js";
import { appearance, showResults, threshold } from "./panel.js";
import { nearest, showTip } from "./tip.js";

const $ = (id) => document.getElementById(id);
const LARGEST = 4; // CSS pixels per image pixel

export class Stage {
  #canvas = $("canvas");
  #marked = null; // a keypoint, by the indices of its person and itself
  #scale = 1; // CSS pixels per image pixel

  /** `boxEvents` are those of a BoxLayer. */
  constructor(boxEvents) {
    this.item = null; // what is shown
    this.model = null; // whose keypoints it has
    this.boxLayer = new BoxLayer($("boxes"), boxEvents);
    $("view").addEventListener("pointermove", (event) => this.#point(event));
    $("view").addEventListener("pointerleave", () => this.#mark(null));
    $("show-boxes").addEventListener("change", () => {
      $("boxes").hidden = !$("show-boxes").checked;
    });
    for (const kind of ["focusin", "focusout"]) {
      $("boxes").addEventListener(kind, () => requestAnimationFrame(() => this.draw()));
    }
    new ResizeObserver(() => this.layout()).observe($("stage"));
    window.addEventListener("resize", () => this.layout());
  }

  /** Show an item that is open; null: the start view. */
  show(item) {
    const before = this.item?.image;
    const same = before?.width === item?.image.width && before?.height === item?.image.height;
    if (this.item !== item) this.item?.close();
    this.item = item;
    $("empty").hidden = item !== null;
    for (const id of ["view", "panel", "tools", "help"]) $(id).hidden = item === null;
    this.#mark(null);
    if (!same) this.layout(); // those of a camera are all of one size
    this.refresh();
  }

  /** Fit the image into the window, with the tools and the strip. */
  layout() {
    if (!this.item?.image) return;
    const { width, height } = this.item.image;
    const above = $("view").getBoundingClientRect().top - $("stage").getBoundingClientRect().top;
    const most = Math.max(300, window.innerHeight - above - 120 - $("strip").offsetHeight);
    this.#scale = Math.min($("stage").clientWidth / width, most / height, LARGEST);
    const ratio = window.devicePixelRatio || 1;
    for (const [side, length] of [["width", width], ["height", height]]) {
      this.#canvas.style[side] = `${Math.round(length * this.#scale)}px`;
      this.#canvas[side] = Math.max(1, Math.round(length * this.#scale * ratio));
    }
    this.boxLayer.rescale(this.#scale);
    this.draw();
  }

  /** What `render` draws. */
  view() {
    const { answer, image, overlays } = this.item;
    const view = appearance();
    return {
      ...view,
      image,
      overlays,
      persons: answer?.persons ?? [],
      model: this.model,
      keypoint: overlays.length ? view.keypoint : null,
      marked: this.#marked,
      selected: this.boxLayer.selected,
      nameOf: keypointName,
    };
  }

  draw() {
    if (!this.item?.image) return;
    render(this.#canvas.getContext("2d"), this.view(), this.#canvas.width / this.item.image.width);
  }

  /** Everything that depends on the answer, the boxes, the threshold or the language. */
  refresh() {
    if (!this.item?.image) return;
    const { answer, boxes, image } = this.item;
    this.draw();
    const shown = boxes ?? answer?.persons.map((person) => person.box) ?? [];
    this.boxLayer.show(shown, [image.width, image.height], this.#scale);
    showResults(this.item, (person, keypoint) => {
      this.boxLayer.highlight(person);
      this.#mark(person === null || keypoint === undefined ? null : { person, keypoint });
    });
    this.#canvas.setAttribute("aria-label", answer ? $("summary").textContent : t("stage"));
    this.showTools();
  }

  /** Enable the tools that have something to do. */
  showTools() {
    const { history, boxes } = this.item;
    const disabled = { undo: !history.canUndo, redo: !history.canRedo, detect: boxes === null };
    for (const [name, off] of Object.entries(disabled)) {
      document.querySelector(`#tools [data-do=${name}]`).disabled = off;
    }
  }

  /** Mark a keypoint, and tell its name where it was pointed at; null: none. */
  #mark(found) {
    const before = this.#marked;
    this.#marked = found && { person: found.person, keypoint: found.keypoint };
    showTip($("tip"), found?.point ? found : null, this.#scale, this.#canvas.clientWidth);
    if (before?.person !== found?.person || before?.keypoint !== found?.keypoint) this.draw();
  }

  #point({ clientX, clientY }) {
    const { left, top } = this.#canvas.getBoundingClientRect();
    const persons = this.item?.answer?.persons ?? [];
    this.#mark(nearest(persons, threshold(), this.#scale, [clientX - left, clientY - top]));
  }
}
