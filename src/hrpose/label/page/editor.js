// One image that is labeled: its persons, the current one and its current keypoint, every edit, and
// how it is undone. Nothing here draws.

import { newId } from "./saving.js";

export const OUTSIDE = 0;
export const HIDDEN = 1;
export const VISIBLE = 2;

const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);
const rounded = (value) => Math.round(value * 100) / 100;

export class Editor {
  #steps = []; // lists of {id, before, after}: persons, null where there is none
  #at = 0; // steps that are done; those after it can be redone
  #tag = null;

  /** `image` as the server sent it; `saver` gets every change, `changed()` is called after each. */
  constructor(image, skeleton, saver, changed) {
    this.image = image;
    this.skeleton = skeleton;
    this.saver = saver;
    this.changed = changed;
    this.persons = image.persons.map(({ id, label }) => ({ id, label, suggested: false }));
    this.at = 0;
    this.keypoint = 0;
    this.cursor = { x: image.width / 2, y: image.height / 2 };
    for (const { id, version, label } of image.persons) saver.know(id, version, label);
    saver.know(`image ${image.id}`, image.version, image.done);
    this.suggest(image.suggestions);
    this.#toUnlabeled(-1);
  }

  /** Show what the model sees, where nothing is labeled yet; once it is edited it is a label. */
  suggest(labels) {
    this.waiting = labels === null;
    if (!labels || this.persons.length || this.image.done) return;
    this.persons = labels.map(({ box, keypoints, score }) => (
      { id: newId(), label: { box, keypoints }, suggested: true, score }
    ));
    this.#toUnlabeled(-1);
  }

  get person() {
    return this.persons[this.at] ?? null;
  }

  /** [x, y, state] of the current keypoint; null: not labeled. */
  get point() {
    return this.person?.label.keypoints[this.keypoint] ?? null;
  }

  get canUndo() {
    return this.#at > 0;
  }

  get canRedo() {
    return this.#at < this.#steps.length;
  }

  /** The number of keypoints of all persons that have no label yet. */
  get unlabeled() {
    return this.persons.reduce((sum, { label }) => sum + label.keypoints.filter((point) => !point).length, 0);
  }

  // ---- edits ----------------------------------------------------------------------------------

  /** Put the current keypoint there, and go to the next that has no label. */
  place(x, y, state = VISIBLE) {
    this.cursor = this.#inside(x, y);
    if (!this.person) this.add();
    this.#set(this.keypoint, [rounded(this.cursor.x), rounded(this.cursor.y), state]);
    this.next();
  }

  /** Move a keypoint of a person; calls with one `tag` are one step. */
  move(at, keypoint, x, y, tag) {
    const { label } = this.persons[at];
    const point = this.#inside(x, y);
    const state = label.keypoints[keypoint]?.[2] || VISIBLE;
    this.#change([[at, withKeypoint(label, keypoint, [rounded(point.x), rounded(point.y), state])]], tag);
    this.cursor = point;
  }

  /** Move the current keypoint, or the cursor where it has no place yet. */
  nudge(dx, dy) {
    const { point } = this;
    if (point?.[2]) this.move(this.at, this.keypoint, point[0] + dx, point[1] + dy, `nudge ${this.at} ${this.keypoint}`);
    else this.cursor = this.#inside(this.cursor.x + dx, this.cursor.y + dy);
    this.changed();
  }

  /** Give the current keypoint a state; one without a place gets that of the cursor. */
  mark(state) {
    const { point } = this;
    if (!this.person) this.add();
    if (state === OUTSIDE) this.#set(this.keypoint, [0, 0, OUTSIDE]);
    else if (point?.[2]) this.#set(this.keypoint, [point[0], point[1], state]);
    else return this.place(this.cursor.x, this.cursor.y, state);
    if (!point) this.next();
    return undefined;
  }

  /** Take the label of the current keypoint away. */
  clear() {
    if (this.point) this.#set(this.keypoint, null);
  }

  /** Exchange left and right of the current person; with `pair`, of the current keypoint only. */
  swap(pair = false) {
    if (!this.person) return;
    const keypoints = [...this.person.label.keypoints];
    for (const [left, right] of this.skeleton.flip_pairs) {
      if (pair && ![left, right].includes(this.keypoint)) continue;
      [keypoints[left], keypoints[right]] = [keypoints[right], keypoints[left]];
    }
    this.#change([[this.at, { ...this.person.label, keypoints }]]);
  }

  /** A new person, who becomes the current one; without a box and keypoints until one is placed. */
  add(box = null) {
    const keypoints = this.skeleton.keypoints.map(() => null);
    const person = { id: newId(), label: { box, keypoints }, suggested: false };
    this.persons = [...this.persons, person];
    this.at = this.persons.length - 1;
    this.keypoint = 0;
    if (box) {
      this.cursor = { x: box[0] + box[2] / 2, y: box[1] + box[3] / 2 };
      this.#record([{ id: person.id, before: null, after: person }]);
    }
    this.changed();
    return person;
  }

  /** Add labels of other persons, as of the frame before. */
  addAll(labels) {
    const added = labels.map((label) => ({ id: newId(), label: structuredClone(label), suggested: false }));
    const gone = this.persons.filter((person) => person.suggested);
    const kept = this.persons.filter((person) => !person.suggested);
    this.persons = [...kept, ...added];
    this.at = kept.length;
    this.keypoint = 0;
    this.#record([
      ...gone.map((person) => ({ id: person.id, before: person, after: null })),
      ...added.map((person) => ({ id: person.id, before: null, after: person })),
    ]);
    this.changed();
  }

  /** Delete a person, by default the current one. */
  remove(at = this.at) {
    const person = this.persons[at];
    if (!person) return;
    this.persons = this.persons.filter((other) => other !== person);
    this.at = Math.max(0, Math.min(this.at, this.persons.length - 1));
    this.#record([{ id: person.id, before: person, after: null }]);
    this.changed();
  }

  /** Give persons other labels: [index, label] of each. */
  relabel(changes, tag = null) {
    this.#change(changes, tag);
  }

  /** Give a person, by id, the label that a check proposes; null deletes, a new id adds. */
  repair(id, label) {
    const at = this.persons.findIndex((person) => person.id === id);
    if (at >= 0 && label === null) this.remove(at);
    else if (at >= 0) this.#change([[at, label]]);
    else if (label) this.addAll([label]);
  }

  /** All suggestions become labels: they are what is right. */
  accept() {
    const suggested = this.persons.flatMap((person, at) => (person.suggested ? [[at, person.label]] : []));
    if (suggested.length) this.#change(suggested);
  }

  // ---- going from one to the next ---------------------------------------------------------------

  /** The next keypoint without a label, of this person and then of the others. */
  next() {
    this.#toUnlabeled(this.keypoint);
    this.changed();
  }

  /** The keypoint before, labeled or not. */
  previous() {
    const count = this.skeleton.keypoints.length;
    this.choose(this.at, (this.keypoint + count - 1) % count);
  }

  choose(at, keypoint = null) {
    if (at !== this.at && keypoint === null) this.#toUnlabeled(-1, at);
    this.at = at;
    if (keypoint !== null) this.keypoint = keypoint;
    const { point } = this;
    if (point?.[2]) this.cursor = { x: point[0], y: point[1] };
    this.changed();
  }

  #toUnlabeled(after, from = this.at) {
    const count = this.skeleton.keypoints.length;
    for (let i = 0; i < this.persons.length; i += 1) {
      const at = (from + i) % this.persons.length;
      const { keypoints } = this.persons[at].label;
      const order = keypoints.map((_, k) => (i ? k : (after + 1 + k) % count));
      const free = order.find((k) => keypoints[k] === null);
      if (free !== undefined) {
        this.at = at;
        this.keypoint = free;
        return;
      }
    }
  }

  // ---- history ----------------------------------------------------------------------------------

  undo() {
    if (this.canUndo) this.#take(this.#steps[--this.#at], "before");
  }

  redo() {
    if (this.canRedo) this.#take(this.#steps[this.#at++], "after");
  }

  /** Somebody else's label of a person (null: deleted) takes the place, with what undoes ours. */
  replace(id, label) {
    this.#steps = this.#steps.filter((step, index) => {
      const other = step.some((change) => change.id === id);
      if (other && index < this.#at) this.#at -= 1;
      return !other;
    });
    this.#put(id, label && { id, label, suggested: false });
    this.#tag = null;
    this.changed();
  }

  #take(step, side) {
    this.#tag = null;
    for (const change of step) {
      this.#put(change.id, change[side]);
      this.#save(change.id, change[side]);
    }
    this.changed();
  }

  #put(id, person) {
    const at = this.persons.findIndex((other) => other.id === id);
    if (at < 0 && person) this.persons = [...this.persons, person];
    else if (at >= 0) this.persons = person ? this.persons.with(at, person) : this.persons.toSpliced(at, 1);
    this.at = Math.max(0, Math.min(this.at, this.persons.length - 1));
  }

  #set(keypoint, point) {
    this.#change([[this.at, withKeypoint(this.person.label, keypoint, point)]]);
  }

  #change(changes, tag = null) {
    const step = [];
    for (const [at, label] of changes) {
      const before = this.persons[at];
      if (!before.suggested && same(before.label, label)) continue;
      const after = { ...before, label, suggested: false };
      this.persons = this.persons.with(at, after);
      step.push({ id: before.id, before, after });
    }
    if (step.length) this.#record(step, tag);
    this.changed();
  }

  #record(step, tag = null) {
    this.#steps.length = this.#at;
    if (tag !== null && tag === this.#tag) {
      const last = this.#steps.at(-1);
      last[0].after = step[0].after;
    } else {
      // A person without anything in it is not on the server.
      this.#steps.push(step);
      this.#at += 1;
    }
    this.#tag = tag;
    for (const { id, after } of step) this.#save(id, after);
  }

  #save(id, person) {
    const empty = !person || person.suggested
      || (person.label.box === null && person.label.keypoints.every((point) => point === null));
    this.saver.label(this.image.id, id, empty ? null : person.label);
  }

  #inside(x, y) {
    const { width, height } = this.image;
    return { x: Math.min(Math.max(x, 0), width - 1), y: Math.min(Math.max(y, 0), height - 1) };
  }
}

function withKeypoint(label, keypoint, point) {
  return { ...label, keypoints: label.keypoints.with(keypoint, point) };
}
