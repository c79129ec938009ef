// The boxes of the persons over the image: thin lines, of which the focused one has handles. They
// are moved, resized, added and removed by pointer or keys.

import { t } from "./language.js";

const CORNERS = { nw: [0, 0], ne: [1, 0], sw: [0, 1], se: [1, 1] };
const LEAST = 8; // image pixels

export class BoxLayer {
  #tracking = null; // the AbortController of the listeners of the pointer that drags

  /**
   * `began()` is called when a pointer goes down, then `changed(boxes)`, or `left()` if nothing was
   * changed. Keys and buttons call only `changed(boxes, { pause, tag })`: within `pause` ms more may
   * follow, and changes in a row with one tag are one step. `removed` is the index of a box that was.
   */
  constructor(element, { began, changed, left }) {
    this.element = element;
    this.began = began;
    this.changed = changed;
    this.left = left;
    this.boxes = [];
    this.size = [1, 1];
    this.scale = 1;
    element.addEventListener("pointerdown", (event) => this.#drawNew(event));
  }

  /** Show boxes [x, y, w, h] of an image of `size` [w, h], at `scale` CSS pixels per image pixel. */
  show(boxes, size, scale) {
    if (this.#tracking) {
      this.#release(); // the dragged box is made anew
      this.left();
    }
    this.boxes = boxes.map((box) => [...box]);
    this.size = size;
    const focused = [...this.element.children].indexOf(document.activeElement);
    this.element.replaceChildren(...this.boxes.map((_, index) => this.#make(index)));
    this.rescale(scale);
    // A box inside another can still be reached.
    const areas = this.boxes.map(([, , w, h]) => w * h);
    areas.forEach((area, index) => {
      this.element.children[index].style.zIndex = String(areas.filter((other) => other > area).length);
    });
    if (focused >= 0) this.element.children[Math.min(focused, this.boxes.length - 1)]?.focus();
  }

  rescale(scale) {
    this.scale = scale;
    this.boxes.forEach((_, index) => this.#place(index));
  }

  /** The index of the selected box; -1: none. */
  get selected() {
    return [...this.element.children].findIndex((box) => box.contains(document.activeElement));
  }

  /** Make one box stand out, by its index; null: none. */
  highlight(chosen) {
    [...this.element.children].forEach((box, index) => box.classList.toggle("hot", index === chosen));
  }

  /** A new box in the middle, focused. */
  add() {
    const [width, height] = this.size;
    const box = [width / 4, height / 8, width / 2, (height * 3) / 4];
    this.show([...this.boxes, box], this.size, this.scale);
    this.element.lastElementChild.focus();
    this.changed(this.boxes);
  }

  remove(index) {
    this.show(this.boxes.filter((_, other) => other !== index), this.size, this.scale);
    this.element.children[Math.min(index, this.boxes.length - 1)]?.focus();
    this.changed(this.boxes, { removed: index });
  }

  #make(index) {
    const box = document.createElement("div");
    box.className = "box";
    box.tabIndex = 0;
    box.role = "group";
    box.setAttribute("aria-describedby", "box-keys");
    const number = document.createElement("span");
    number.className = "number";
    number.textContent = String(index + 1);
    const remove = document.createElement("button");
    remove.type = "button";
    remove.className = "remove";
    remove.textContent = "×";
    remove.setAttribute("aria-label", t("remove", { n: index + 1 }));
    remove.addEventListener("pointerdown", (event) => event.stopPropagation());
    remove.addEventListener("click", () => this.remove(index));
    box.append(number, remove);
    for (const corner of Object.keys(CORNERS)) {
      const handle = document.createElement("span");
      handle.className = `handle ${corner}`;
      handle.addEventListener("pointerdown", (event) => this.#drag(event, index, CORNERS[corner]));
      box.append(handle);
    }
    box.addEventListener("pointerdown", (event) => this.#drag(event, index, null));
    box.addEventListener("keydown", (event) => this.#key(event, index));
    return box;
  }

  #place(index) {
    const [x, y, w, h] = this.boxes[index];
    const element = this.element.children[index];
    const place = { left: x, top: y, width: w, height: h };
    for (const [side, value] of Object.entries(place)) element.style[side] = `${value * this.scale}px`;
    const [rx, ry, rw, rh] = [x, y, w, h].map(Math.round);
    element.setAttribute("aria-label", t("boxOf", { n: index + 1, x: rx, y: ry, w: rw, h: rh }));
  }

  /** Drag with a pointer: a corner [0 or 1, 0 or 1] resizes the box, null moves it. */
  #drag(event, index, corner) {
    if (event.button !== 0) return;
    const box = this.element.children[index];
    // A finger on a box that is not selected scrolls the page, and selects the box by a tap.
    if (event.pointerType === "touch" && !box.contains(document.activeElement)) return;
    event.preventDefault();
    event.stopPropagation();
    if (this.#tracking) return;
    this.began();
    box.focus({ preventScroll: true });
    const start = [...this.boxes[index]];
    const from = [event.clientX, event.clientY];
    let moved = false;
    const move = (now) => {
      const by = [now.clientX - from[0], now.clientY - from[1]].map((v) => v / this.scale);
      if (Math.hypot(...by) * this.scale > 2) moved = true;
      if (moved) this.#set(index, corner ? resized(start, by, corner) : shifted(start, by));
    };
    this.#track(event, move, (canceled) => {
      if (canceled) this.#set(index, start);
      if (moved && !canceled) this.changed(this.boxes);
      else this.left();
    });
  }

  /** Dragging beside the boxes draws a new box; a finger scrolls the page instead. */
  #drawNew(event) {
    if (event.target !== this.element || event.button !== 0 || event.pointerType === "touch") return;
    event.preventDefault();
    if (this.#tracking) return;
    this.#deselect();
    this.began();
    const frame = this.element.getBoundingClientRect();
    const start = [(event.clientX - frame.left) / this.scale, (event.clientY - frame.top) / this.scale];
    const ghost = document.createElement("div");
    ghost.className = "ghost";
    this.element.append(ghost);
    let box = null;
    const move = (now) => {
      const to = [(now.clientX - frame.left) / this.scale, (now.clientY - frame.top) / this.scale];
      const corner = [Math.min(start[0], to[0]), Math.min(start[1], to[1])];
      box = [...corner, Math.abs(to[0] - start[0]), Math.abs(to[1] - start[1])];
      ["left", "top", "width", "height"].forEach((side, i) => {
        ghost.style[side] = `${box[i] * this.scale}px`;
      });
    };
    this.#track(event, move, (canceled) => {
      ghost.remove();
      if (canceled || !box || box[2] < LEAST || box[3] < LEAST) {
        this.left();
        return;
      }
      this.show([...this.boxes, this.#inside(box)], this.size, this.scale);
      this.changed(this.boxes);
    });
  }

  /** Call `move` for this pointer only, then `end(canceled)`; neither after `show` replaced the boxes. */
  #track(event, move, end) {
    const { currentTarget: target, pointerId } = event;
    this.#tracking = new AbortController();
    const listen = (kind, handle) =>
      target.addEventListener(kind, (now) => now.pointerId === pointerId && handle(now), {
        signal: this.#tracking.signal,
      });
    const ended = (now) => {
      this.#release();
      end(now.type === "pointercancel");
    };
    target.setPointerCapture(pointerId);
    listen("pointermove", move);
    listen("pointerup", ended);
    listen("pointercancel", ended);
  }

  #deselect() {
    if (this.element.contains(document.activeElement)) document.activeElement.blur();
  }

  #release() {
    this.#tracking?.abort();
    this.#tracking = null;
  }

  #key(event, index) {
    const step = Math.max(1, Math.round(Math.max(...this.size) / 100));
    const by = {
      ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step],
    }[event.key];
    if (event.target !== event.currentTarget) return;
    if (event.key === "Delete" || event.key === "Backspace") {
      event.preventDefault();
      this.remove(index);
    } else if (event.key === "Escape") {
      this.#deselect();
    } else if (by) {
      event.preventDefault();
      const box = this.boxes[index];
      this.#set(index, event.shiftKey ? resized(box, by, CORNERS.se) : shifted(box, by));
      this.changed(this.boxes, { pause: 350, tag: `keys ${index}` });
    }
  }

  #set(index, box) {
    this.boxes = this.boxes.with(index, this.#inside(box)); // earlier callers keep their array
    this.#place(index);
  }

  /** A box must overlap the image, or the server refuses it; a part may be outside. */
  #inside([x, y, w, h]) {
    const [width, height] = this.size;
    const clamp = (value, least, most) => Math.min(Math.max(value, least), most);
    return [clamp(x, LEAST - w, width - LEAST), clamp(y, LEAST - h, height - LEAST), w, h];
  }
}

function shifted([x, y, w, h], [dx, dy]) {
  return [x + dx, y + dy, w, h];
}

function resized([x, y, w, h], [dx, dy], [right, bottom]) {
  const width = Math.max(LEAST, right ? w + dx : w - dx);
  const height = Math.max(LEAST, bottom ? h + dy : h - dy);
  return [right ? x : x + w - width, bottom ? y : y + h - height, width, height];
}
