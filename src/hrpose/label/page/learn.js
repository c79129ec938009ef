// Learning from the labels: a training that is started, stopped and resumed, and its models.

import { make } from "/page/dom.js";
import { t } from "/page/language.js";
import { fetchFile, fetchJson } from "/page/server.js";
import { post } from "/label/saving.js";

const ASK = 3000; // ms between two looks at a training
const percent = (value) => (100 * value).toFixed(1);

export class Learning {
  #timer = 0;

  /** `used()` is called after another model was chosen, `show(image)` shows one, `failed(error)`. */
  constructor(section, { used, show, failed }) {
    this.section = section;
    this.used = used;
    this.show = show;
    this.failed = failed;
    this.answer = { models: [], used: null };
  }

  /** Ask for the models; again and again while one is trained. */
  async update() {
    clearTimeout(this.#timer);
    try {
      this.answer = await fetchJson("/v1/label/models");
    } catch (error) {
      if (error.code !== "noServer") return this.failed(error);
    }
    this.draw();
    if (this.answer.models.some((model) => model.state === "training")) {
      this.#timer = setTimeout(() => this.update(), ASK);
    }
    return undefined;
  }

  async #do(path, body = {}) {
    try {
      const answer = await post(`/v1/label/models/${path}`, body);
      if (path === "use") this.used(answer);
    } catch (error) {
      this.failed(error);
    }
    await this.update();
  }

  draw() {
    const { models, used } = this.answer;
    const training = models.some((model) => model.state === "training");
    this.section.querySelector("[data-do=learn]").hidden = training;
    this.section.querySelector("ul").replaceChildren(...models.map((model) => this.#item(model, used)));
  }

  learn() {
    return this.#do("learn");
  }

  #item(model, used) {
    const { name, state, persons, held_out: heldOut } = model;
    const item = make("li", {}, make("strong", { textContent: t("modelName", { name }) }), " ");
    item.append(t(`state-${state}`));
    if (state === "training") {
      item.append(make("progress", { max: 1, value: model.progress, "aria-label": t("state-training") }));
      if (model.metric !== null) item.append(make("small", { textContent: t("metricNow", { value: percent(model.metric) }) }));
    }
    if (model.reason) item.append(make("small", { lang: "en", textContent: model.reason }));
    item.append(make("small", { textContent: t("modelData", { persons, heldOut, labels: model.labels }) }));
    if (model.score) item.append(make("small", { textContent: scoreText(model) }));
    for (const kind of ["better", "worse"]) {
      if (model[kind].length) item.append(this.#examples(kind, model[kind]));
    }
    const button = (key, action) => {
      const made = make("button", { type: "button", textContent: t(key) });
      made.addEventListener("click", action);
      return made;
    };
    const row = make("div", { className: "row" });
    if (state === "training") row.append(button("stopLearning", () => this.#do("stop")));
    if (state === "stopped") row.append(button("resumeLearning", () => this.#do("resume", { name })));
    if (state === "ready" && used !== name) row.append(button("useModel", () => this.#do("use", { name })));
    if (used === name) row.append(make("span", { className: "quiet", textContent: t("modelUsed") }));
    item.append(row);
    return item;
  }

  /** Images of held-out persons whose pose the model has changed most. */
  #examples(kind, examples) {
    const images = examples.map(([image, change]) => {
      const picture = make("img", { alt: t("exampleImage", { change: percent(change) }) });
      fetchFile(`/v1/label/images/${image}/thumbnail`).then((blob) => {
        picture.src = URL.createObjectURL(blob);
      }, () => {});
      const button = make("button", { type: "button", title: picture.alt }, picture);
      button.addEventListener("click", () => this.show(image));
      return button;
    });
    return make("div", { className: "examples" }, make("small", { textContent: t(kind) }), ...images);
  }
}

function scoreText({ score, before }) {
  const words = ({ mean, low, high }) => `${percent(mean)} (${percent(low)}–${percent(high)})`;
  return before === null
    ? t("score", { after: words(score) })
    : t("scoreBoth", { before: words(before), after: words(score) });
}
