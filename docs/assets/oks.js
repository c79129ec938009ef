/* The sliders of "How HRNet works": one keypoint's term of the object keypoint similarity.
   The constants are COCO's; checks/ holds them equal to hrpose.skeletons.COCO_17. */
"use strict";
(() => {
  const SIGMAS = {
    nose: 0.026, left_eye: 0.025, right_eye: 0.025, left_ear: 0.035, right_ear: 0.035,
    left_shoulder: 0.079, right_shoulder: 0.079, left_elbow: 0.072, right_elbow: 0.072,
    left_wrist: 0.062, right_wrist: 0.062, left_hip: 0.107, right_hip: 0.107,
    left_knee: 0.087, right_knee: 0.087, left_ankle: 0.089, right_ankle: 0.089,
  };
  const WORDS = {
    en: { keypoint: "keypoint", distance: "distance d to the label", size: "size s of the person",
          passes: (n) => `as the whole pose, right at ${n} of COCO's 10 thresholds` },
    zh: { keypoint: "关键点", distance: "与标注的距离 d", size: "人的尺度 s",
          passes: (n) => `若整个姿态都如此，在 COCO 的 10 个阈值中通过 ${n} 个` },
  };
  const root = document.getElementById("oks");
  if (!root) return;
  const words = document.documentElement.lang.startsWith("zh") ? WORDS.zh : WORDS.en;
  const similarity = (d, s, sigma) => Math.exp(-(d * d) / (2 * s * s * (2 * sigma) ** 2));
  const names = Object.keys(SIGMAS).filter((name) => !name.startsWith("right_"));

  root.innerHTML = `
    <label>${words.keypoint}
      <select>${names.map((n) => `<option value="${n}">${n.replace("left_", "")}</option>`).join("")}
      </select></label>
    <label>${words.distance}: <output data-of="d"></output>
      <input type="range" data-name="d" min="0" max="60" step="0.5" value="8"></label>
    <label>${words.size}: <output data-of="s"></output>
      <input type="range" data-name="s" min="20" max="400" step="2" value="120"></label>
    <p><strong data-value></strong> <span data-passes></span></p>
    <svg viewBox="0 0 330 150" role="img" aria-hidden="true"></svg>`;
  const select = root.querySelector("select");
  const range = (name) => root.querySelector(`input[data-name=${name}]`);
  const svg = root.querySelector("svg");
  const x = (d) => 34 + d * 4.8;
  const y = (v) => 126 - v * 116;

  const show = () => {
    const d = Number(range("d").value), s = Number(range("s").value), sigma = SIGMAS[select.value];
    const value = similarity(d, s, sigma);
    root.querySelector("[data-of=d]").textContent = `${d} px`;
    root.querySelector("[data-of=s]").textContent = `${s} px`;
    root.querySelector("[data-value]").textContent = value.toFixed(3);
    const passed = Array.from({ length: 10 }, (_, i) => 0.5 + 0.05 * i).filter((t) => value >= t);
    root.querySelector("[data-passes]").textContent = words.passes(passed.length);
    const curve = Array.from({ length: 121 }, (_, i) => `${x(i / 2)},${y(similarity(i / 2, s, sigma))}`);
    const rule = (v) => `<line class="rule" x1="34" x2="322" y1="${y(v)}" y2="${y(v)}"/>` +
      `<text x="28" y="${y(v) + 4}" text-anchor="end">${v}</text>`;
    svg.innerHTML = [0, 0.5, 0.75, 1].map(rule).join("") +
      [0, 20, 40, 60].map((v) => `<text x="${x(v)}" y="143" text-anchor="middle">${v}</text>`).join("") +
      `<polyline points="${curve.join(" ")}"/><circle cx="${x(d)}" cy="${y(value)}" r="5"/>`;
  };
  root.addEventListener("input", show);
  show();
})();
