// The model card: what the weights say of themselves, and what runs them here.

import { make } from "./dom.js";
import { detectorName, keypointName, t } from "./language.js";

/** Fill the dialog's title and list from the answer of /v1/models. */
export function showCard(title, list, { models: [model], detector, version }) {
  title.textContent = t("cardTitle", { name: model.name });
  const size = { width: model.input_width, height: model.input_height };
  const scores = Object.entries(model.scores).map(([name, value]) => `${name} ${value}`).join(", ");
  const rows = [
    ["license", model.license || t("notStated")],
    ["trainingData", model.training_data || t("notStated")],
    ["scores", scores || t("notStated")],
    ["network", `HRNet ${model.network}`],
    ["input", t("inputSize", size)],
    ["keypoints", model.keypoints.map(keypointName).join(", ")],
    ["codec", model.codec],
    ["detector", detectorName(detector)],
    ["engine", model.engine],
    ["code", t("codeLicense", { version })],
  ];
  list.replaceChildren(...rows.flatMap(([key, text]) => [
    make("dt", { textContent: t(key) }), make("dd", { textContent: text }),
  ]));
}
