// One image of the page: its file, the boxes with their history, and the answer of the server.

import { readHeatmaps } from "./heatmaps.js";
import { History } from "./history.js";
import { decode, prepare, toOriginal, toSent } from "./images.js";
import { fetchPoses } from "./server.js";

const THUMBNAIL = 120; // pixels of the shorter side

export class Item {
  #opening = null;
  #prepared = null; // what is sent, and its size

  constructor(file, name) {
    this.file = file;
    this.name = name;
    this.image = null; // the bitmap, while it is open
    this.thumbnail = null; // a canvas, once it was opened
    this.history = new History(null);
    this.answer = null;
    this.overlays = []; // the heatmaps of each person, if requested
    this.options = null; // those of the answer
    this.failed = false;
  }

  /** The boxes drawn by hand; null: those of the detector. */
  get boxes() {
    return this.history.value;
  }

  /** [w, h] of what is sent, where it is smaller than the image. */
  get shrunkTo() {
    return this.#prepared && this.#prepared.sent !== this.#prepared.size ? this.#prepared.sent : null;
  }

  /** Decode the image. Throws Refused where the browser cannot read it. */
  async open() {
    this.#opening ??= this.#open();
    try {
      await this.#opening;
    } catch (error) {
      this.#opening = null;
      throw error;
    }
  }

  async #open() {
    this.image = await decode(this.file);
    this.thumbnail ??= thumbnailOf(this.image);
    this.#prepared ??= await prepare(this.file, this.image);
  }

  /** Free the bitmap; `open` decodes it again. */
  close() {
    this.image?.close();
    this.image = null;
    this.#opening = null;
  }

  /** Whether the answer is one for these options. */
  answers({ heatmaps, flipTest, minScore }) {
    const had = this.options;
    return had !== null && had.boxes === this.boxes && had.flipTest === flipTest
      && (had.heatmaps || !heatmaps) && (this.boxes !== null || had.minScore === minScore);
  }

  /** Request the poses in the boxes, in the original's pixels. Throws Refused, or where aborted. */
  async estimate({ heatmaps, flipTest, minScore }, signal) {
    const { boxes } = this;
    const how = this.#prepared ?? { upload: this.file, size: null, sent: null };
    const sent = await fetchPoses(how.upload, {
      boxes: boxes && toSent(boxes, how), heatmaps, flipTest, minScore, signal,
    });
    const answer = toOriginal(sent, how);
    // The surest person is the first; boxes drawn by hand keep their order.
    if (boxes === null) answer.persons.sort((one, other) => other.score - one.score);
    const overlays = await readHeatmaps(answer.persons);
    signal?.throwIfAborted();
    Object.assign(this, { answer, overlays, options: { boxes, heatmaps, flipTest, minScore } });
  }
}

function thumbnailOf(image) {
  const scale = Math.min(1, THUMBNAIL / Math.min(image.width, image.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.min(2 * THUMBNAIL, Math.round(image.width * scale)));
  canvas.height = Math.max(1, Math.min(2 * THUMBNAIL, Math.round(image.height * scale)));
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  return canvas;
}
