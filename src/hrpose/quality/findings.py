"""What `hrpose data check` finds, as values, and how it is said."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

# Kind to what it means for a training. The order is that of the report.
KINDS = {
    "missing-file": "images that are not there",
    "unreadable": "images that cannot be decoded",
    "wrong-size": "images of another size than the annotations say",
    "exif-turn": "images that EXIF turns, while the labels may lie on them unturned",
    "malformed": "entries that hrpose would refuse",
    "no-joints": "boxes without a labeled keypoint, which teach nothing",
    "joint-outside-picture": "people with keypoints outside the image",
    "joint-outside-box": "people with keypoints that their crop may not show",
    "swapped-sides": "people whose left and right seem to have changed places",
    "duplicate-person": "people who are labeled twice",
    "near-duplicate": "images that are in both sets",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault: its kind, where it is, what is wrong in words.

    `badness` orders the findings of one kind, the worst first; its unit is the kind's own.
    `annotation` is None for faults of images, `keypoints` names those concerned.
    """

    kind: str
    file: str
    detail: str
    badness: float = 0.0
    image: int | None = None
    annotation: int | None = None
    keypoints: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """For JSON: what does not apply is left out."""
        entry: dict[str, Any] = {"kind": self.kind, "file": self.file}
        if self.image is not None:
            entry["image_id"] = self.image
        if self.annotation is not None:
            entry["annotation_id"] = self.annotation
        if self.keypoints:
            entry["keypoints"] = list(self.keypoints)
        return {**entry, "detail": self.detail, "badness": round(self.badness, 4)}


@dataclass(frozen=True, slots=True)
class Report:
    """All findings in a set of `images` and `persons`; `notes` say what could not be judged."""

    images: int
    persons: int
    findings: Sequence[Finding]
    notes: Sequence[str] = field(default=())

    @property
    def counts(self) -> dict[str, int]:
        """Findings by kind, for every kind that was found, in the order of `KINDS`."""
        found = Counter(finding.kind for finding in self.findings)
        return {kind: found[kind] for kind in KINDS if found[kind]}

    def of(self, kind: str) -> list[Finding]:
        """The findings of one kind, the worst first."""
        own = (finding for finding in self.findings if finding.kind == kind)
        return sorted(own, key=lambda finding: -finding.badness)

    def as_dict(self) -> dict[str, Any]:
        """For JSON, kind by kind."""
        return {
            "images": self.images,
            "persons": self.persons,
            "counts": self.counts,
            "notes": list(self.notes),
            "findings": [f.as_dict() for kind in self.counts for f in self.of(kind)],
        }

    def lines(self, worst: int = 3) -> Iterator[str]:
        """One line for each kind, and below it the worst few."""
        yield f"{self.images} images, {self.persons} people"
        for kind, count in self.counts.items():
            yield f"{kind}: {count} {KINDS[kind]}"
            for finding in self.of(kind)[:worst]:
                whose = "" if finding.annotation is None else f", annotation {finding.annotation}"
                yield f"    {finding.file}{whose}: {finding.detail}"
        for note in self.notes:
            yield f"note: {note}"
        if not self.findings:
            yield "no faults found"
