// Changes on their way to the server: each is sent at once, and again until the server has it.

import { send } from "/page/server.js";

const AGAIN = 700; // ms until a server that cannot be reached is tried again

export const newId = () => crypto.randomUUID?.() ?? [...crypto.getRandomValues(new Uint8Array(16))]
  .map((byte) => byte.toString(16).padStart(2, "0")).join("");

/** Send JSON to the server. */
export const post = (path, body) => send(path, {
  method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" },
});

export class Saver {
  #known = new Map(); // {version, label} of each row that the server has, by its key
  #waiting = new Map(); // {image, person, label, done, id} by key; a later one takes the place
  #sending = null;

  /**
   * `changed(state)` is called with "saved", "saving" or "late", `conflict(theirs, mine, before)` with
   * a row that somebody else changed, what was not saved, and the label that both were made from;
   * `failed(error)` with what cannot be sent.
   */
  constructor({ changed, conflict, failed }) {
    this.changed = changed;
    this.conflict = conflict;
    this.failed = failed;
    this.by = "";
    this.revision = 0;
  }

  /** Whether a change of a person or image is not on the server yet. */
  waits(key) {
    return this.#waiting.has(key) || Boolean(this.#sending?.has(key));
  }

  get idle() {
    return this.#waiting.size === 0 && this.#sending === null;
  }

  /** The version of a row on the server; 0: it has none. */
  version(key) {
    return this.#known.get(key)?.version ?? 0;
  }

  /** Whether an image is done: what the server once said may be older than what was saved since. */
  isDone({ id, version, done }) {
    const key = `image ${id}`;
    const mine = this.#waiting.get(key) ?? this.#sending?.get(key);
    if (mine) return mine.done;
    const known = this.#known.get(key);
    return known && known.version > version ? known.label : done;
  }

  /** What the server has of a row: the `label` of a person, or whether an image is done. */
  know(key, version, label = null) {
    this.#known.set(key, { version, label });
  }

  /** Save the label of a person of an image; null deletes. */
  label(image, person, label) {
    this.#push(person, { image, person, label });
  }

  /** Save whether an image is done. */
  done(image, done) {
    this.#push(`image ${image}`, { image, person: null, done });
  }

  #push(key, change) {
    // What the server never had need not be deleted.
    const unknown = change.person !== null && change.label === null && this.version(key) === 0;
    if (unknown && !this.#sending?.has(key)) this.#waiting.delete(key);
    else this.#waiting.set(key, { ...change, id: newId() });
    this.#run();
  }

  async #run() {
    if (this.#sending || this.#waiting.size === 0) {
      if (this.idle) this.changed("saved");
      return;
    }
    this.#sending = this.#waiting;
    this.#waiting = new Map();
    this.changed("saving");
    const again = new Map(); // what was sent beside a change that was refused
    try {
      const answer = await this.#send([...this.#sending]);
      this.#take(answer);
    } catch (error) {
      if (error.code !== "conflict") this.failed(error);
      else {
        const stale = new Set();
        for (const row of error.answer.persons) {
          stale.add(row.id);
          const mine = this.#waiting.get(row.id) ?? this.#sending.get(row.id);
          const before = this.#known.get(row.id)?.label ?? null;
          this.know(row.id, row.version, row.label);
          this.#waiting.delete(row.id);
          this.conflict(row, mine, before);
        }
        for (const row of error.answer.images) {
          stale.add(`image ${row.id}`);
          this.know(`image ${row.id}`, row.version, row.done);
        }
        for (const [key, change] of this.#sending) if (!stale.has(key)) again.set(key, change);
      }
    }
    this.#sending = null;
    this.#waiting = new Map([...again, ...this.#waiting]);
    this.#run();
  }

  /** Until the server answers: a change that it made before it was stopped is made once. */
  async #send(entries) {
    const changes = entries.map(([key, change]) => ({
      id: change.id, image: change.image, version: this.version(key), person: change.person,
      ...(change.person === null ? { done: change.done } : { label: change.label }),
    }));
    for (;;) {
      try {
        return await post("/v1/label/changes", { by: this.by, changes });
      } catch (error) {
        if (!["noServer", "busy", "wrong_token"].includes(error.code)) throw error;
        if (error.code === "wrong_token") this.failed(error);
        this.changed("late");
        await new Promise((done) => setTimeout(done, AGAIN));
      }
    }
  }

  #take({ revision, persons, images }) {
    this.revision = Math.max(this.revision, revision);
    for (const row of persons) this.know(row.id, row.version, row.label);
    for (const row of images) this.know(`image ${row.id}`, row.version, row.done);
  }
}
