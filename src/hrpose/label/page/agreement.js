// How far annotators of the same images agree: the OKS constant of each keypoint, measured and used.
// It is on the page where the command was given labels of others.

import { make, makeTable } from "/page/dom.js";
import { keypointName, t } from "/page/language.js";
import { fetchJson } from "/page/server.js";
import { post } from "/label/saving.js";

const AGAIN = 4000; // ms until it is computed again: labels may have changed

const section = document.getElementById("agreement");
let shown = null; // the answer of the server

/** Fill the section with the last answer. */
function draw() {
  section.hidden = !shown?.others.length;
  if (section.hidden) return;
  const { others, keypoints, used } = shown;
  const known = keypoints.filter(({ sigma }) => sigma !== null);
  const same = known.length > 0 && keypoints.every(({ sigma }, index) =>
    sigma === null || Math.abs(sigma - used?.[index]) < 1e-4);
  const text = known.length
    ? t("agreementOf", { others: others.join(", "), n: Math.max(...known.map(({ persons }) => persons)) })
    : t("agreementNone", { others: others.join(", ") });
  const rows = keypoints.map(({ name, sigma, low, high }, index) => [
    keypointName(name),
    sigma === null ? "–" : make("span", {}, digits(sigma), make("small", {
      textContent: t("sigmaRange", { low: digits(low), high: digits(high) }),
    })),
    used ? digits(same ? sigma ?? used[index] : used[index]) : "–",
  ]);
  const table = makeTable([t("keypoint"), t("sigmaMeasured"), t("sigmaUsed")], rows);
  const button = make("button", { type: "button", textContent: t("sigmaTake"), disabled: same });
  button.addEventListener("click", () => act(() => post("/v1/label/agreement", {})));
  section.lastElementChild.replaceChildren(
    make("p", { className: "quiet", textContent: text }),
    ...(known.length ? [table, make("div", { className: "row" }, button)] : []),
    ...(same ? [make("p", { className: "quiet", role: "status", textContent: t("sigmaTaken") })] : []),
  );
}

const digits = (value) => value.toFixed(3);

/** Do what answers with the agreement, and show it. */
async function act(ask) {
  try {
    const answer = await ask();
    if (JSON.stringify(answer) === JSON.stringify(shown)) return;
    shown = answer;
    draw();
  } catch { /* the page says where the server cannot be reached, or wants a token */ }
}

/** Without labels of others there is nothing to come. */
async function follow() {
  while (shown === null || shown.others.length) {
    if (!document.hidden) await act(() => fetchJson("/v1/label/agreement"));
    await new Promise((done) => setTimeout(done, AGAIN));
  }
}

document.addEventListener("click", (event) => {
  if (event.target.closest("[data-language]")) setTimeout(draw); // once the language is set
});
follow();
