// What went wrong, above the image: the file, the reason in the chosen language, and the server's
// own line.

import { make } from "./dom.js";
import { hasText, t } from "./language.js";
import { Refused } from "./refused.js";

export class Notice {
  #problems = new Map(); // {name, error} by what they are about

  /** `element` has a list and a button that closes it. */
  constructor(element) {
    this.element = element;
    element.querySelector("button").addEventListener("click", () => this.clear());
  }

  /** Show an error about something: an item, or what the page does. `name` is that of a file. */
  show(about, error, name = "") {
    if (!(error instanceof Refused)) console.error(error);
    this.#problems.set(about, { error, name });
    this.update();
  }

  drop(about) {
    if (this.#problems.delete(about)) this.update();
  }

  clear() {
    this.#problems.clear();
    this.update();
  }

  /** Show all of them again, in the chosen language. */
  update() {
    this.element.hidden = this.#problems.size === 0;
    const lines = [...this.#problems.values()].map(({ error, name }) => {
      const key = [error.causeCode, error.code].find((code) => code && hasText(code)) ?? "refused";
      const line = make("li");
      if (name) line.append(make("strong", { textContent: name }), " ");
      line.append(t(key));
      if (error.message) line.append(" ", make("small", { lang: "en", textContent: error.message }));
      return line;
    });
    this.element.querySelector("ul").replaceChildren(...lines);
  }
}
