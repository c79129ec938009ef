// The image that is labeled: drawn with its labels, zoomed and panned, and what pointers do on it.

import { keypointName } from "/page/language.js";
import { placeLabels } from "/page/labels.js";
import { HIDDEN } from "/label/editor.js";

const MOST = 40; // CSS pixels per image pixel
const CLICK = 4; // CSS pixels that a click may move
const REACH = { mouse: 12, pen: 14, touch: 24 }; // CSS pixels around a keypoint
const RIM = "rgb(15 18 22 / 85%)";
const css = (rgb) => `rgb(${rgb.join(" ")})`;

export class View {
  #image = document.getElementById("image");
  #overlay = document.getElementById("overlay");
  #pointers = new Map(); // positions of those that are down
  #gesture = null; // {move, end} of the pointer that went down first
  #pinch = null;

  /** `events`: `place(x, y, hidden)`, `grab(person, keypoint)`, `drag(...)`, `zoomed()`. */
  constructor(element, events) {
    this.element = element;
    this.events = events;
    this.bitmap = null;
    this.editor = null;
    this.scale = 1; // CSS pixels per image pixel
    this.offset = [0, 0]; // of the image's corner, in CSS pixels
    this.showLabels = true;
    this.showNames = false;
    this.showCursor = false; // the crosshair, once keys move it
    element.addEventListener("pointerdown", (event) => this.#down(event));
    element.addEventListener("pointermove", (event) => this.#move(event));
    for (const kind of ["pointerup", "pointercancel"]) {
      element.addEventListener(kind, (event) => this.#up(event));
    }
    element.addEventListener("contextmenu", (event) => event.preventDefault());
    element.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoom(Math.exp(-event.deltaY / 300), this.#position(event));
    }, { passive: false });
    new ResizeObserver(() => this.fit()).observe(element);
  }

  show(bitmap, editor) {
    this.bitmap?.close();
    this.bitmap = bitmap;
    this.editor = editor;
    this.showCursor = false;
    this.fit();
  }

  /** Show the image brighter, as its slider says; its pixels stay. */
  brighten(value) {
    const slider = document.getElementById("brightness");
    slider.value = value;
    document.getElementById("brightness-value").textContent = Number(slider.value).toFixed(1);
    this.#image.style.filter = `brightness(${slider.value})`;
  }

  // ---- zoom and pan -----------------------------------------------------------------------------

  get size() {
    return [this.element.clientWidth, this.element.clientHeight];
  }

  /** The least scale: the whole image is seen. */
  get least() {
    const [width, height] = this.size;
    return Math.min(width / this.bitmap.width, height / this.bitmap.height, 8);
  }

  fit() {
    if (!this.bitmap) return;
    this.#to(this.least, [(this.bitmap.width - 1) / 2, (this.bitmap.height - 1) / 2]);
  }

  /** Show a box [x, y, w, h] of the image, with a margin. */
  fitBox([x, y, w, h]) {
    const [width, height] = this.size;
    const scale = Math.min(width / (w * 1.3), height / (h * 1.3), MOST / 2);
    this.#to(Math.max(scale, this.least), [x + w / 2, y + h / 2]);
  }

  /** Zoom by a factor around a place in CSS pixels, by default the cursor of the keys. */
  zoom(factor, at = this.toScreen(this.editor.cursor)) {
    const { x, y } = this.toImage(at);
    const scale = Math.min(Math.max(this.scale * factor, this.least), MOST);
    this.offset = [at[0] - (x + 0.5) * scale, at[1] - (y + 0.5) * scale];
    this.scale = scale;
    this.#bound();
  }

  #to(scale, [x, y]) {
    this.scale = scale;
    this.offset = this.size.map((length, axis) => length / 2 - ([x, y][axis] + 0.5) * scale);
    this.#bound();
  }

  /** No wider margin than the image needs. */
  #bound() {
    const image = [this.bitmap.width, this.bitmap.height];
    this.offset = this.offset.map((offset, axis) => {
      const room = this.size[axis] - image[axis] * this.scale;
      return room >= 0 ? room / 2 : Math.min(0, Math.max(room, offset));
    });
    this.events.zoomed();
    this.draw();
  }

  /** Pan so that a point of the image is seen. */
  reveal(point) {
    const margin = 40;
    const place = this.toScreen(point);
    const by = place.map((value, axis) => (
      value < margin ? margin - value : Math.min(0, this.size[axis] - margin - value)
    ));
    if (by[0] || by[1]) this.#pan(by);
  }

  #pan(by) {
    this.offset = this.offset.map((value, axis) => value + by[axis]);
    this.#bound();
  }

  // Pixel centers are at integers.
  toScreen({ x, y }) {
    return [(x + 0.5) * this.scale + this.offset[0], (y + 0.5) * this.scale + this.offset[1]];
  }

  toImage([left, top]) {
    return { x: (left - this.offset[0]) / this.scale - 0.5, y: (top - this.offset[1]) / this.scale - 0.5 };
  }

  // ---- pointers ---------------------------------------------------------------------------------

  #position(event) {
    const { left, top } = this.element.getBoundingClientRect();
    return [event.clientX - left, event.clientY - top];
  }

  #down(event) {
    if (!this.editor || event.target.closest("#boxes")) return;
    this.element.focus({ preventScroll: true });
    event.preventDefault();
    const at = this.#position(event);
    this.#pointers.set(event.pointerId, at);
    this.element.setPointerCapture(event.pointerId);
    if (this.#pointers.size > 1) {
      this.#gesture?.cancel();
      this.#gesture = null;
      this.#pinch = this.#spread();
    } else if (event.button === 0 || event.button === 2) this.#gesture = this.#begin(event, at);
    else this.#gesture = this.#panning(at);
  }

  /** What a pointer does from here: a click places, a drag moves a keypoint or pans. */
  #begin(event, from) {
    const hidden = event.button === 2;
    const found = this.#nearest(from, REACH[event.pointerType] ?? REACH.mouse);
    let moved = false;
    let last = from;
    const tag = `drag ${event.timeStamp}`;
    return {
      move: (at) => {
        if (!moved && Math.hypot(at[0] - from[0], at[1] - from[1]) < CLICK) return;
        moved = true;
        if (found && !hidden) this.events.drag(found, this.toImage([at[0] + found.by[0], at[1] + found.by[1]]), tag);
        else this.#pan([at[0] - last[0], at[1] - last[1]]);
        last = at;
      },
      end: () => {
        if (!moved) this.events.click(this.toImage(from), found, hidden);
      },
      cancel: () => {},
    };
  }

  #panning(from) {
    let last = from;
    return {
      move: (at) => {
        this.#pan([at[0] - last[0], at[1] - last[1]]);
        last = at;
      },
      end: () => {},
      cancel: () => {},
    };
  }

  #move(event) {
    const at = this.#position(event);
    if (this.#pointers.has(event.pointerId)) {
      this.#pointers.set(event.pointerId, at);
      if (this.#pinch && this.#pointers.size > 1) {
        const spread = this.#spread();
        this.#pan(spread.middle.map((value, axis) => value - this.#pinch.middle[axis]));
        this.zoom(spread.length / this.#pinch.length, spread.middle);
        this.#pinch = spread;
      } else this.#gesture?.move(at);
    } else if (this.editor && event.pointerType === "mouse") {
      this.events.hover(this.toImage(at));
    }
  }

  #up(event) {
    if (!this.#pointers.delete(event.pointerId)) return;
    if (event.type === "pointerup") this.#gesture?.end();
    this.#gesture = null;
    if (this.#pointers.size < 2) this.#pinch = null;
  }

  #spread() {
    const [one, other] = [...this.#pointers.values()];
    return {
      length: Math.max(1, Math.hypot(one[0] - other[0], one[1] - other[1])),
      middle: [(one[0] + other[0]) / 2, (one[1] + other[1]) / 2],
    };
  }

  /** The keypoint nearest to a place within `reach`: {person, keypoint, by}; null: none. */
  #nearest(at, reach) {
    let best = null;
    let least = reach;
    this.editor.persons.forEach(({ label }, person) => label.keypoints.forEach((point, keypoint) => {
      if (!point?.[2] || !this.showLabels) return;
      const place = this.toScreen({ x: point[0], y: point[1] });
      // Of the current person first.
      const distance = Math.hypot(place[0] - at[0], place[1] - at[1]) * (person === this.editor.at ? 0.7 : 1);
      if (distance < least) {
        least = distance;
        best = { person, keypoint, by: [place[0] - at[0], place[1] - at[1]] };
      }
    }));
    return best;
  }

  // ---- drawing ----------------------------------------------------------------------------------

  draw() {
    if (!this.bitmap) return;
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = this.size;
    for (const canvas of [this.#image, this.#overlay]) {
      const size = [Math.round(width * ratio), Math.round(height * ratio)];
      if (canvas.width !== size[0] || canvas.height !== size[1]) [canvas.width, canvas.height] = size;
    }
    const context = this.#image.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.#image.width, this.#image.height);
    context.setTransform(this.scale * ratio, 0, 0, this.scale * ratio, this.offset[0] * ratio, this.offset[1] * ratio);
    context.imageSmoothingEnabled = this.scale < 4; // then pixels are what one wants to see
    context.imageSmoothingQuality = "high";
    context.drawImage(this.bitmap, 0, 0);
    const over = this.#overlay.getContext("2d");
    over.setTransform(ratio, 0, 0, ratio, 0, 0);
    over.clearRect(0, 0, width, height);
    if (this.showLabels) {
      const { persons, at } = this.editor;
      persons.forEach((person, index) => index !== at && this.#drawPerson(over, person, false));
      if (persons[at]) this.#drawPerson(over, persons[at], true);
      if (this.showNames && persons[at]) this.#drawNames(over, persons[at]);
    }
    this.#drawCursor(over);
  }

  #drawPerson(context, { label, suggested }, current) {
    const { limbs, limb_colors: limbColors, keypoint_colors: colors } = this.editor.skeleton;
    const places = label.keypoints.map((point) => point?.[2] && this.toScreen({ x: point[0], y: point[1] }));
    context.globalAlpha = current ? 1 : 0.55;
    context.setLineDash(suggested ? [7, 5] : []);
    context.lineCap = "round";
    const box = label.box ?? around(label.keypoints);
    if (box) {
      const [left, top] = this.toScreen({ x: box[0] - 0.5, y: box[1] - 0.5 });
      context.strokeStyle = "rgb(255 255 255 / 55%)";
      context.lineWidth = 1;
      context.strokeRect(left, top, box[2] * this.scale, box[3] * this.scale);
    }
    for (const rim of [true, false]) {
      limbs.forEach(([i, j], limb) => {
        if (!places[i] || !places[j]) return;
        context.strokeStyle = rim ? RIM : css(limbColors[limb]);
        context.lineWidth = (current ? 2.5 : 2) + (rim ? 1.5 : 0);
        context.beginPath();
        context.moveTo(...places[i]);
        context.lineTo(...places[j]);
        context.stroke();
      });
    }
    context.setLineDash([]);
    // Points of a small person would cover each other.
    const size = box ? Math.max(box[2], box[3]) * this.scale : 300;
    const plain = Math.min(5, Math.max(2.5, size / 70));
    places.forEach((place, index) => {
      if (!place) return;
      const chosen = current && index === this.editor.keypoint;
      const radius = chosen ? plain + 2 : plain;
      context.beginPath();
      context.arc(...place, radius, 0, 2 * Math.PI);
      context.lineWidth = 2;
      // A hidden keypoint is a ring; the current one lets its place be seen.
      context.fillStyle = label.keypoints[index][2] === HIDDEN || chosen ? "rgb(15 18 22 / 25%)" : css(colors[index]);
      context.fill();
      context.strokeStyle = label.keypoints[index][2] === HIDDEN ? css(colors[index]) : chosen ? css(colors[index]) : RIM;
      context.stroke();
      if (!chosen) return;
      context.beginPath();
      context.arc(...place, radius + 3.5, 0, 2 * Math.PI);
      context.strokeStyle = "white";
      context.lineWidth = 1.5;
      context.stroke();
      context.fillStyle = "white";
      context.fillRect(place[0] - 1, place[1] - 1, 2, 2);
    });
    context.globalAlpha = 1;
  }

  #drawNames(context, { label }) {
    const size = 12;
    context.font = `600 ${size}px system-ui, sans-serif`;
    context.textBaseline = "middle";
    context.lineJoin = "round";
    const labels = label.keypoints.flatMap((point, index) => {
      if (!point?.[2]) return [];
      const [x, y] = this.toScreen({ x: point[0], y: point[1] });
      const text = keypointName(this.editor.skeleton.keypoints[index]);
      return [{ x, y, text, score: 1, width: context.measureText(text).width + 4 }];
    });
    placeLabels(labels, size * 1.3, this.size).forEach((place, index) => {
      if (place) write(context, labels[index].text, [place[0] + 2, place[1] + size * 0.65], size);
    });
  }

  /** The crosshair, and the name of the keypoint that is placed next, where the cursor is. */
  #drawCursor(context) {
    const { cursor, point } = this.editor;
    if (!cursor || point?.[2] || !(this.showCursor || this.hovered)) return;
    const [x, y] = this.toScreen(cursor);
    if (this.showCursor) {
      for (const rim of [true, false]) {
        context.strokeStyle = rim ? RIM : "white";
        context.lineWidth = rim ? 3 : 1;
        context.beginPath();
        for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
          context.moveTo(x + 4 * dx, y + 4 * dy);
          context.lineTo(x + 4000 * dx, y + 4000 * dy);
        }
        context.stroke();
      }
    }
    context.font = "600 13px system-ui, sans-serif";
    context.textBaseline = "middle";
    const name = keypointName(this.editor.skeleton.keypoints[this.editor.keypoint]);
    const width = context.measureText(name).width;
    write(context, name, [x + 16 + width > this.size[0] ? x - 16 - width : x + 16, Math.max(10, y - 16)], 13);
  }
}

function write(context, text, place, size) {
  context.lineJoin = "round";
  context.strokeStyle = RIM;
  context.lineWidth = size / 4;
  context.strokeText(text, ...place);
  context.fillStyle = "white";
  context.fillText(text, ...place);
}

/** The box around the keypoints that have a place; null: there is none. */
export function around(keypoints) {
  const seen = keypoints.filter((point) => point?.[2]);
  if (seen.length < 2) return null;
  const [xs, ys] = [0, 1].map((axis) => seen.map((point) => point[axis]));
  const [x, y] = [Math.min(...xs), Math.min(...ys)];
  return [x, y, Math.max(1, Math.max(...xs) - x), Math.max(1, Math.max(...ys) - y)];
}
