"""SVG drawings whose shapes have classes, so that the style sheet of a page sets their colors.

The site embeds these drawings in its pages, where `docs/assets/hrpose.css` has the same classes; as
separate files they carry this style, for light and dark.
"""

from html import escape

STYLE = """
.hr { --ink: #20242e; --line: #7a8296; --quiet: #666e80; }
@media (prefers-color-scheme: dark) {
  .hr { --ink: #e8ebf2; --line: #8e97ab; --quiet: #a2a9b8; }
}
.hr text { font: 14px system-ui, sans-serif; fill: var(--ink); text-anchor: middle; }
.hr .left { text-anchor: start; }
.hr .small { font-size: 12px; fill: var(--quiet); }
.hr .on { fill: #fff; }
.hr path { fill: none; stroke: var(--line); }
.hr .b0 { fill: #0b6fc2; } .hr .b1 { fill: #2a6ca8; } .hr .b2 { fill: #43648f; }
.hr .b3 { fill: #565f78; } .hr .stem { fill: #6b5a2e; } .hr .head { fill: #1f7a43; }
"""


class Drawing:
    """Shapes on a canvas of `size` (w, h), drawn in order."""

    def __init__(self, size: tuple[float, float], title: str) -> None:
        self.size = size
        self.parts = [f"<title>{escape(title)}</title>"]

    def box(self, x: float, y: float, w: float, h: float, kind: str) -> None:
        self.parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{w:g}" height="{h:g}" rx="3" class="{kind}"/>'
        )

    def words(self, x: float, y: float, text: str, kind: str = "") -> None:
        """Text at x, vertically centered at y."""
        attribute = f' class="{kind}"' if kind else ""
        self.parts.append(f'<text x="{x:g}" y="{y + 4.5:g}"{attribute}>{escape(text)}</text>')

    def line(
        self, start: tuple[float, float], end: tuple[float, float], width: float = 1.0,
        dashed: bool = False,
    ) -> None:  # fmt: skip
        dash = ' stroke-dasharray="4 3"' if dashed else ""
        self.parts.append(
            f'<path d="M{start[0]:g} {start[1]:g}L{end[0]:g} {end[1]:g}" '
            f'stroke-width="{width:g}"{dash}/>'
        )

    def render(self) -> str:
        w, h = self.size
        body = "\n".join(self.parts)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="hr" viewBox="0 0 {w:g} {h:g}" '
            f'role="img">\n<style>{STYLE}</style>\n{body}\n</svg>\n'
        )
