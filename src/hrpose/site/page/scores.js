// Scores, and which poses are returned, as hrpose.poses has it. A person is {box, score, keypoints},
// keypoints are {x, y, score}.

const COUNTED_SCORE = 0.2; // keypoints above it count in a pose's score
const MAX_OKS = 0.5; // of two poses more similar than this, one is left out

/** A keypoint's score in [0, 1] from the height of its peak; `calibration` may be missing. */
export function keypointScore(peak, calibration) {
  const score = Math.min(Math.max(peak, 0), 1);
  if (!calibration) return score;
  const clipped = Math.min(Math.max(score, 1e-3), 1 - 1e-3);
  const logit = Math.log(clipped / (1 - clipped)) / calibration.temperature + calibration.offset;
  return 1 / (1 + Math.exp(-logit));
}

/** The score of a pose: the box's, times the mean of the keypoints that count. */
export function poseScore(keypoints, boxScore) {
  const counted = keypoints.filter(({ score }) => score > COUNTED_SCORE);
  const sum = counted.reduce((total, { score }) => total + score, 0);
  return (sum / Math.max(counted.length, 1)) * boxScore;
}

/** The persons to return, in order: those that score enough, and where `distinct` each once. */
export function select(persons, { minScore, sigmas, distinct }) {
  const good = persons.filter(({ score }) => score >= minScore);
  if (!distinct) return good;
  const kept = [];
  // Of equal scores the later one counts as better.
  for (const one of good.toReversed().toSorted((a, b) => b.score - a.score)) {
    if (kept.every((better) => oks(better, one, sigmas) <= MAX_OKS)) kept.push(one);
  }
  return good.filter((person) => kept.includes(person));
}

/** The similarity of two poses, in which every keypoint counts. */
export function oks(one, other, sigmas) {
  const area = (one.box[2] * one.box[3] + other.box[2] * other.box[3]) / 2 + Number.EPSILON;
  const terms = one.keypoints.map(({ x, y }, index) => {
    const { x: otherX, y: otherY } = other.keypoints[index];
    const scale = Math.sqrt(8) * sigmas[index];
    return Math.exp(-((x - otherX) ** 2 + (y - otherY) ** 2) / scale ** 2 / area);
  });
  return terms.reduce((sum, term) => sum + term, 0) / terms.length;
}
