// Values that can be undone and redone.

export class History {
  #values;
  #at = 0;
  #tag = null;

  constructor(first) {
    this.#values = [first];
  }

  get value() {
    return this.#values[this.#at];
  }

  get canUndo() {
    return this.#at > 0;
  }

  get canRedo() {
    return this.#at < this.#values.length - 1;
  }

  /** Add a value. Values in a row with the same `tag` are one step, such as presses of one key. */
  push(value, tag = null) {
    const joins = tag !== null && tag === this.#tag;
    this.#values.length = joins ? this.#at : this.#at + 1;
    this.#values.push(value);
    this.#at = this.#values.length - 1;
    this.#tag = tag;
  }

  undo() {
    if (this.canUndo) this.#at -= 1;
    this.#tag = null;
  }

  redo() {
    if (this.canRedo) this.#at += 1;
    this.#tag = null;
  }
}
