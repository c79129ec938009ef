// The images of the project in a row: those around the current one, whatever their number.

import { make } from "/page/dom.js";
import { t } from "/page/language.js";
import { fetchFile } from "/page/server.js";

const AROUND = 24; // images on each side of the current one
const KEPT = 400; // thumbnails

const thumbnails = new Map(); // promises of addresses, by image

/** The address of an image's thumbnail. */
function thumbnail(image) {
  if (!thumbnails.has(image)) {
    const loaded = fetchFile(`/v1/label/images/${image}/thumbnail`).then((blob) => URL.createObjectURL(blob));
    thumbnails.set(image, loaded);
    loaded.catch(() => thumbnails.delete(image));
    if (thumbnails.size > KEPT) {
      const [first] = thumbnails.keys();
      thumbnails.get(first).then((address) => URL.revokeObjectURL(address), () => {});
      thumbnails.delete(first);
    }
  }
  return thumbnails.get(image);
}

/** Fill `element` with the images around the one with the id `shown`; `choose(id)` shows another. */
export function showStrip(element, images, shown, choose) {
  const at = Math.max(0, images.findIndex((image) => image.id === shown));
  const from = Math.max(0, at - AROUND);
  const part = images.slice(from, at + AROUND + 1);
  const focused = element.contains(document.activeElement);
  const kept = new Map([...element.children].map((item) => [item.dataset.image, item]));
  element.replaceChildren(...part.map((image) => {
    const item = kept.get(String(image.id)) ?? make("li");
    item.dataset.image = image.id;
    const label = t(image.done ? "stripDone" : "stripOpen", { name: image.name, persons: image.count });
    let button = item.firstElementChild;
    if (!button) {
      button = make("button", { type: "button", className: "thumbnail" });
      const picture = make("img", { alt: "" });
      thumbnail(image.id).then((address) => { picture.src = address; }, () => {});
      button.append(picture, make("span", { className: "count" }), make("span", { className: "mark", textContent: "✓" }));
      button.addEventListener("click", () => choose(image.id));
      button.addEventListener("keydown", (event) => {
        const step = { ArrowLeft: "previousElementSibling", ArrowRight: "nextElementSibling" }[event.key];
        const other = step && item[step];
        if (!other) return;
        event.preventDefault();
        event.stopPropagation();
        choose(Number(other.dataset.image));
      });
      item.append(button);
    }
    button.title = image.name;
    button.setAttribute("aria-label", label);
    button.toggleAttribute("aria-current", image.id === shown);
    if (image.id === shown) button.setAttribute("aria-current", "true");
    const [, count, mark] = button.children;
    count.textContent = String(image.count);
    count.hidden = image.count === 0;
    mark.hidden = !image.done;
    return item;
  }));
  const current = element.querySelector("[aria-current]");
  if (focused) current?.focus({ preventScroll: true });
  if (current) {
    const item = current.parentElement;
    element.scrollLeft = item.offsetLeft - element.offsetLeft - (element.clientWidth - item.offsetWidth) / 2;
  }
}
