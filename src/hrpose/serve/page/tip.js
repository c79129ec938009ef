// The name and confidence of the keypoint under the pointer.

import { keypointName } from "./language.js";

const REACH = 16; // CSS pixels

/** The keypoint nearest to [x, y] in CSS pixels of the canvas: {person, keypoint, point}, or null. */
export function nearest(persons, threshold, scale, [x, y]) {
  let best = null;
  let least = REACH;
  persons.forEach(({ keypoints }, person) => keypoints.forEach((point, keypoint) => {
    const distance = Math.hypot((point.x + 0.5) * scale - x, (point.y + 0.5) * scale - y);
    if (point.score >= threshold && distance < least) {
      least = distance;
      best = { person, keypoint, point };
    }
  }));
  return best;
}

/** Show the tip beside a keypoint within `width` CSS pixels; null hides it. */
export function showTip(tip, found, scale, width) {
  tip.hidden = found === null;
  if (!found) return;
  const { name, score, x, y } = found.point;
  tip.textContent = `${keypointName(name)} ${score.toFixed(2)}`;
  const left = Math.min((x + 0.5) * scale + 14, width - tip.offsetWidth - 4);
  tip.style.left = `${Math.max(4, left)}px`;
  tip.style.top = `${Math.max(4, (y + 0.5) * scale - 34)}px`;
}
