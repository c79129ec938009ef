// The images of the page in a row: chosen by pointer or arrow keys, and removed.

import { make } from "./dom.js";
import { t } from "./language.js";

/** Fill `element` with `items`; `choose(item)` and `remove(item)` are called by its buttons. */
export function showStrip(element, items, shown, { choose, remove }) {
  const focused = [...element.querySelectorAll("button")].indexOf(document.activeElement);
  element.hidden = items.length === 0;
  element.replaceChildren(...items.map((item, index) => {
    const count = item.answer?.persons.length;
    const label = count === undefined
      ? t("itemWaiting", { name: item.name })
      : t("itemPersons", { name: item.name, persons: count });
    const button = make("button", { type: "button", className: "thumbnail", title: item.name, "aria-label": label });
    if (item === shown) button.setAttribute("aria-current", "true");
    if (item.thumbnail) button.append(item.thumbnail);
    if (count !== undefined) button.append(make("span", { className: "count", textContent: String(count) }));
    button.addEventListener("click", () => choose(item));
    button.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      const other = items[index + step];
      if (!other) return;
      event.preventDefault();
      element.children[index + step].firstElementChild.focus();
      choose(other);
    });
    const cross = make("button", {
      type: "button", className: "remove", textContent: "×", "aria-label": t("removeItem", { name: item.name }),
    });
    cross.addEventListener("click", () => remove(item));
    return make("li", {}, button, cross);
  }));
  const buttons = element.querySelectorAll("button");
  if (focused >= 0) buttons[Math.min(focused, buttons.length - 1)]?.focus({ preventScroll: true });
}
