// Drawing on a canvas: the image, heatmaps, skeletons and names. Pixel centers are at integers, as
// on the server; a canvas has pixel corners there, hence the halves.

import { placeLabels } from "./labels.js";

const RIM = "rgb(20 20 20 / 85%)";

/** Draw a view at `scale` canvas pixels per image pixel. */
export function render(context, view, scale) {
  const { image, persons, model, threshold, keypoint, strength, overlays, marked } = view;
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.imageSmoothingQuality = "high";
  context.drawImage(image, 0, 0, image.width * scale, image.height * scale);
  if (keypoint !== null) {
    for (const overlay of overlays) drawHeatmap(context, overlay, keypoint, strength, scale);
  }
  // The surest person is drawn last, above the others.
  for (const person of persons.toSorted((one, other) => one.score - other.score)) {
    if (view.skeletons) drawPerson(context, person, model, threshold, scale);
  }
  // Those of the selected person alone, which a crowd would hide.
  const named = persons[view.selected] ? [persons[view.selected]] : persons;
  if (view.names) drawNames(context, named, view, scale);
  const point = persons[marked?.person]?.keypoints[marked.keypoint];
  if (point) drawMark(context, point, scale);
}

function drawHeatmap(context, overlay, keypoint, strength, scale) {
  const [[a, c, e], [b, d, f]] = overlay.toImage;
  // From the corner of a heatmap pixel to its center, to the image, and back to a corner.
  context.setTransform(
    a * scale, b * scale, c * scale, d * scale,
    (e - (a + c) / 2 + 0.5) * scale, (f - (b + d) / 2 + 0.5) * scale,
  );
  context.globalAlpha = strength;
  context.drawImage(overlay.layer(keypoint), 0, 0);
  context.globalAlpha = 1;
  context.setTransform(1, 0, 0, 1, 0, 0);
}

/** The size of points in image pixels: that of the longer side of a box around them. */
function extent(points) {
  const spread = (axis) => Math.max(...points.map((p) => p[axis])) - Math.min(...points.map((p) => p[axis]));
  return Math.max(spread("x"), spread("y"));
}

/** The line width in image pixels: it grows with the person. */
function widthFor(person, threshold) {
  const shown = person.keypoints.filter((point) => point.score >= threshold);
  const size = shown.length > 1 ? extent(shown) : Math.max(person.box[2], person.box[3]) / 2;
  return Math.min(12, Math.max(1, size / 80));
}

/** What is finer than the body by a fixed part. */
const OF_BODY = { foot: 0.65, head: 0.5 };

/**
 * The line width at each keypoint, and the radius and rim of its disc, in canvas pixels: faces and hands have widths by
 * their own size. As in hrpose.draw.
 */
function sizesFor(person, { details }, threshold, scale) {
  const ratio = window.devicePixelRatio || 1;
  // Thinner lines could not be seen on a small screen, whatever the size of the image.
  const width = Math.max(widthFor(person, threshold) * scale, 2 * ratio);
  const sizes = new Map();
  for (const part of new Set(details)) {
    if (part === null || part in OF_BODY) {
      const line = width * (OF_BODY[part] ?? 1);
      sizes.set(part, { line, disc: line, rim: line * 0.25 });
      continue;
    }
    const shown = person.keypoints.filter((point, index) => details[index] === part && point.score >= threshold);
    const size = shown.length ? extent(shown) * scale : 0;
    const line = Math.min(width, Math.max(size / (part === "face" ? 100 : 45), ratio));
    // In a small hand or face, discs and rims would cover the lines.
    const disc = Math.min(line * 0.7 + 0.6 * ratio, size / 40);
    sizes.set(part, { line, disc, rim: Math.min(line * 0.14 + 0.3 * ratio, size / 100) });
  }
  return details.map((part) => sizes.get(part));
}

/** How opaque a keypoint is drawn: unsure ones, and those of unsure poses, are faint. As in hrpose.draw. */
function opacity(score, person) {
  const ramp = (value, [low, faint], high) => Math.min(1, Math.max(faint, faint + (1 - faint) * (value - low) / (high - low)));
  return ramp(score, [0.3, 0.4], 0.6) * ramp(person.score, [0.25, 0.65], 0.45);
}

const css = (rgb) => `rgb(${rgb.join(" ")})`;

function drawPerson(context, person, model, threshold, scale) {
  const points = person.keypoints;
  const sizes = sizesFor(person, model, threshold, scale);
  context.lineCap = "round";
  for (const rim of [true, false]) {
    model.limbs.forEach(([i, j], limb) => {
      if (Math.min(points[i].score, points[j].score) < threshold) return;
      const alpha = opacity(Math.min(points[i].score, points[j].score), person);
      context.globalAlpha = rim ? alpha * alpha : alpha;
      context.strokeStyle = rim ? RIM : css(model.limb_colors[limb]);
      context.lineWidth = sizes[j].line + (rim ? 2 * sizes[j].rim : 0);
      context.beginPath();
      context.moveTo((points[i].x + 0.5) * scale, (points[i].y + 0.5) * scale);
      context.lineTo((points[j].x + 0.5) * scale, (points[j].y + 0.5) * scale);
      context.stroke();
    });
  }
  points.forEach((point, index) => {
    if (point.score < threshold) return;
    const alpha = opacity(point.score, person);
    const color = css(model.keypoint_colors[index]);
    const { disc, rim } = sizes[index];
    for (const [radius, fill, opaque] of [[disc + rim, RIM, alpha * alpha], [disc, color, alpha]]) {
      context.globalAlpha = opaque;
      context.fillStyle = fill;
      context.beginPath();
      context.arc((point.x + 0.5) * scale, (point.y + 0.5) * scale, radius, 0, 2 * Math.PI);
      context.fill();
    }
  });
  context.globalAlpha = 1;
}

/**
 * The names of the persons' keypoints, those of the body first; a line leads from a name to its keypoint where it is not
 * beside it.
 */
function drawNames(context, persons, { model, threshold, nameOf }, scale) {
  const size = 12 * (window.devicePixelRatio || 1);
  context.font = `600 ${size}px system-ui, sans-serif`;
  context.textBaseline = "middle";
  context.lineJoin = "round";
  const labels = persons.flatMap((person) => person.keypoints.map((point, index) => [point, model.details[index]]))
    .filter(([point]) => point.score >= threshold)
    .map(([point, part]) => ({
      x: (point.x + 0.5) * scale,
      y: (point.y + 0.5) * scale,
      score: point.score - (part === null || part in OF_BODY ? 0 : 1),
      text: nameOf(point.name),
      width: context.measureText(nameOf(point.name)).width + size / 3,
    }));
  const height = size * 1.3;
  placeLabels(labels, height, [context.canvas.width, context.canvas.height]).forEach((place, index) => {
    if (place === null) return;
    const { x, y, text, width } = labels[index];
    const [left, top] = place;
    const near = [Math.min(Math.max(x, left), left + width), Math.min(Math.max(y, top), top + height)];
    const far = Math.hypot(near[0] - x, near[1] - y) > height;
    for (const rim of [true, false]) {
      context.strokeStyle = context.fillStyle = rim ? RIM : "white";
      context.lineWidth = rim ? size / 4 : size / 12;
      if (far) {
        context.beginPath();
        context.moveTo(x, y);
        context.lineTo(...near);
        context.stroke();
      }
      const middle = [left + size / 6, top + height / 2];
      if (rim) context.strokeText(text, ...middle);
      else context.fillText(text, ...middle);
    }
  });
}

function drawMark(context, point, scale) {
  const ratio = window.devicePixelRatio || 1;
  context.strokeStyle = "white";
  context.lineWidth = 2.5 * ratio;
  context.beginPath();
  context.arc((point.x + 0.5) * scale, (point.y + 0.5) * scale, 11 * ratio, 0, 2 * Math.PI);
  context.stroke();
}
