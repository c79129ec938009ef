// Drawing on a canvas: the image, heatmaps and skeletons. Pixel centers are at integers, as on the
// server; a canvas has pixel corners there, hence the halves.

const RIM = "rgb(20 20 20 / 85%)";

/** Draw a view at `scale` canvas pixels per image pixel. */
export function render(context, view, scale) {
  const { image, persons, model, threshold, keypoint, strength, overlays, marked } = view;
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.imageSmoothingQuality = "high";
  context.drawImage(image, 0, 0, image.width * scale, image.height * scale);
  if (keypoint !== null) {
    context.fillStyle = "rgb(0 0 0 / 35%)";
    context.fillRect(0, 0, context.canvas.width, context.canvas.height);
    for (const overlay of overlays) drawHeatmap(context, overlay, keypoint, strength, scale);
  }
  persons.forEach((person, index) => {
    if (view.skeletons) drawPerson(context, person, model, threshold, scale);
    if (view.names) drawNames(context, person, threshold, scale, view.nameOf);
    if (marked?.person === index) drawMark(context, person.keypoints[marked.keypoint], scale);
  });
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

/** The line width in image pixels: it grows with the person. */
function widthFor(person, threshold) {
  const shown = person.keypoints.filter((point) => point.score >= threshold);
  const spread = (axis) => Math.max(...shown.map((p) => p[axis])) - Math.min(...shown.map((p) => p[axis]));
  const size = shown.length > 1 ? Math.max(spread("x"), spread("y")) : Math.max(person.box[2], person.box[3]) / 2;
  return Math.min(12, Math.max(1, size / 80));
}

/** How opaque a keypoint is drawn: unsure ones, and those of unsure poses, are faint. As in hrpose.draw. */
function opacity(score, person) {
  const ramp = (value, [low, faint], high) => Math.min(1, Math.max(faint, faint + (1 - faint) * (value - low) / (high - low)));
  return ramp(score, [0.3, 0.4], 0.6) * ramp(person.score, [0.2, 0.65], 0.45);
}

const css = (rgb) => `rgb(${rgb.join(" ")})`;

function drawPerson(context, person, model, threshold, scale) {
  const points = person.keypoints;
  // Thinner lines could not be seen on a small screen, whatever the size of the image.
  const width = Math.max(widthFor(person, threshold) * scale, 2 * (window.devicePixelRatio || 1));
  context.lineCap = "round";
  for (const rim of [true, false]) {
    model.limbs.forEach(([i, j], limb) => {
      if (Math.min(points[i].score, points[j].score) < threshold) return;
      const alpha = opacity(Math.min(points[i].score, points[j].score), person);
      context.globalAlpha = rim ? alpha * alpha : alpha;
      context.strokeStyle = rim ? RIM : css(model.limb_colors[limb]);
      context.lineWidth = rim ? width * 1.5 : width;
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
    for (const [radius, fill, opaque] of [[width * 1.25, RIM, alpha * alpha], [width, color, alpha]]) {
      context.globalAlpha = opaque;
      context.fillStyle = fill;
      context.beginPath();
      context.arc((point.x + 0.5) * scale, (point.y + 0.5) * scale, radius, 0, 2 * Math.PI);
      context.fill();
    }
  });
  context.globalAlpha = 1;
}

function drawNames(context, person, threshold, scale, nameOf) {
  const size = 12 * (window.devicePixelRatio || 1);
  context.font = `600 ${size}px system-ui, sans-serif`;
  context.lineWidth = size / 4;
  context.lineJoin = "round";
  for (const point of person.keypoints) {
    if (point.score < threshold) continue;
    const place = [(point.x + 0.5) * scale + size * 0.7, (point.y + 0.5) * scale + size * 0.3];
    context.strokeStyle = RIM;
    context.strokeText(nameOf(point.name), ...place);
    context.fillStyle = "white";
    context.fillText(nameOf(point.name), ...place);
  }
}

function drawMark(context, point, scale) {
  const ratio = window.devicePixelRatio || 1;
  context.strokeStyle = "white";
  context.lineWidth = 2.5 * ratio;
  context.beginPath();
  context.arc((point.x + 0.5) * scale, (point.y + 0.5) * scale, 11 * ratio, 0, 2 * Math.PI);
  context.stroke();
}
