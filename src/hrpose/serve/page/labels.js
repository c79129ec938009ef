// Places for texts beside points, so that none covers another.

// Directions from the point to the text's center, the best first; and distances in text heights.
const DIRECTIONS = [[1, 0], [-1, 0], [0, -1], [0, 1], [1, -1], [-1, -1], [1, 1], [-1, 1]];
const DISTANCES = [0.6, 1.5, 2.6];

/**
 * Places [left, top] for texts of `height` at points: `labels` are {x, y, width, score} in pixels of
 * a canvas [w, h]. Sure keypoints choose first. Texts cover other points only where they must, and
 * where none of the places beside a point is free the text is left out: null.
 */
export function placeLabels(labels, height, [canvasWidth, canvasHeight]) {
  const places = labels.map(() => null);
  const taken = [];
  const order = labels.map((_, index) => index).sort((i, j) => labels[j].score - labels[i].score);
  for (const index of order) {
    const { x, y, width } = labels[index];
    let least = Infinity;
    DISTANCES.forEach((distance, ring) => DIRECTIONS.forEach(([dx, dy], preference) => {
      const left = x + dx * (distance * height + width / 2) - width / 2;
      const top = y + dy * (distance + 0.5) * height - height / 2;
      const place = { left, top, right: left + width, bottom: top + height };
      const outside = left < 0 || top < 0 || place.right > canvasWidth || place.bottom > canvasHeight;
      if (outside || taken.some((other) => overlap(place, other))) return;
      const covered = labels.filter((point) => contains(place, point, height / 4)).length;
      const cost = covered * 4 + ring * 2 + preference / 10;
      if (cost < least) [least, places[index]] = [cost, place];
    }));
    if (places[index]) taken.push(places[index]);
  }
  return places.map((place) => place && [place.left, place.top]);
}

const overlap = (a, b) =>
  a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;

const contains = ({ left, top, right, bottom }, { x, y }, margin) =>
  x > left - margin && x < right + margin && y > top - margin && y < bottom + margin;
