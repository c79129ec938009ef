// The example images of the package, to be tried with one click.

import { make } from "./dom.js";
import { inLanguage, t } from "./language.js";
import { fetchFile, fetchJson } from "./server.js";

const FOLDER = new URL("examples/", import.meta.url).href;
let examples = [];

/** Fetch the list, once. */
export async function loadExamples() {
  examples = await fetchJson(`${FOLDER}examples.json`);
}

/** Fill `element` with a button for each; `open(file)` is called with the one that was clicked, or
 * `fail(error, name)`. */
export function showExamples(element, { open, fail }) {
  element.replaceChildren(...examples.map(({ file, title, source, license }) => {
    const words = { title: inLanguage(title), source, license: inLanguage(license) };
    const button = make("button", { type: "button", title: t("exampleOf", words) },
      make("img", { src: FOLDER + file, alt: "" }),
      make("span", { textContent: words.title }),
      make("small", { textContent: `${words.license} · ${source}` }));
    button.addEventListener("click", async () => {
      try {
        const blob = await fetchFile(FOLDER + file);
        await open(new File([blob], file, { type: blob.type }));
      } catch (error) {
        fail(error, file);
      }
    });
    return make("li", {}, button);
  }));
}
