// Boxes: what the layer of boxes does to the persons of the image that is labeled.

import { BoxLayer } from "/page/boxes.js";
import { post } from "/label/saving.js";
import { around } from "/label/view.js";

const $ = (id) => document.getElementById(id);
const equal = (one, other) => JSON.stringify(one) === JSON.stringify(other);

/** The box of a person, drawn or around the keypoints; a single keypoint has a small one. */
export function boxOf({ label }) {
  if (label.box) return label.box;
  const [point] = label.keypoints.filter((each) => each?.[2]);
  return around(label.keypoints) ?? (point ? [point[0] - 16, point[1] - 16, 32, 32] : null);
}

export class BoxMode {
  /** `editor()` is that of the image shown, `model()` whether one suggests; `failed(error)`. */
  constructor(view, { editor, model, failed }) {
    this.view = view;
    this.editor = editor;
    this.model = model;
    this.failed = failed;
    this.on = false;
    this.layer = new BoxLayer($("boxes"), {
      began: () => {}, left: () => {}, changed: (boxes, how) => this.#changed(boxes, how),
    });
  }

  /** Edit boxes, or keypoints. */
  set(on) {
    this.on = on;
    $("boxes").hidden = $("box-keys").hidden = !on;
    for (const button of document.querySelectorAll("[data-mode]")) {
      button.setAttribute("aria-pressed", String((button.dataset.mode === "boxes") === on));
    }
    if (!on) $("view").focus({ preventScroll: true });
    else {
      const editor = this.editor();
      // Nobody without a box, which could not be drawn.
      for (const person of editor.persons.filter((each) => !boxOf(each))) {
        editor.remove(editor.persons.indexOf(person));
      }
      this.show({ always: true });
    }
  }

  /** A new box in the middle, for the keys. */
  add() {
    this.layer.add();
  }

  show({ always = false } = {}) {
    if (!this.on) return;
    const { persons, image } = this.editor();
    const boxes = persons.map(boxOf).filter(Boolean);
    if (!always && equal(boxes, this.layer.boxes)) return;
    this.layer.show(boxes, [image.width, image.height], this.view.scale);
    this.place();
  }

  /** Over the image, as it is zoomed. */
  place() {
    const { bitmap, offset: [left, top], scale } = this.view;
    if (!bitmap) return;
    const size = { left, top, width: bitmap.width * scale, height: bitmap.height * scale };
    for (const [side, value] of Object.entries(size)) $("boxes").style[side] = `${value}px`;
    this.layer.rescale(scale);
  }

  #changed(boxes, { tag = null, removed = null } = {}) {
    const editor = this.editor();
    if (removed !== null) editor.remove(removed);
    else if (boxes.length > editor.persons.length) this.#add(boxes.at(-1));
    else {
      const changes = boxes.flatMap((box, at) => {
        const person = editor.persons[at];
        return equal(box, boxOf(person)) ? [] : [[at, { ...person.label, box }]];
      });
      if (changes.length) editor.relabel(changes, tag);
    }
  }

  /** A new person in a box, with the keypoints that the model sees in it. */
  async #add(box) {
    const editor = this.editor();
    const { id } = editor.add(box.map((value) => Math.round(value * 100) / 100));
    if (!this.model()) return;
    try {
      const { label } = await post(`/v1/label/images/${editor.image.id}/pose`, { box });
      const at = editor.persons.findIndex((person) => person.id === id);
      if (!label || at < 0 || editor.persons[at].label.keypoints.some(Boolean)) return;
      editor.relabel([[at, { ...label, box: editor.persons[at].label.box }]]);
    } catch (error) {
      this.failed(error);
    }
  }
}
