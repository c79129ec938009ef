"""The story as one HTML page."""

from html import escape

from hrpose.explain.story import Figure, Section, Story
from hrpose.pages import document, source


def render(story: Story) -> str:
    """The whole page. Every word of the story is escaped."""
    return document(
        story.title,
        "hrpose.explain",
        header=f"<p>{escape(story.lead)}</p>",
        main="\n".join(_section(section) for section in story.sections),
        footer="Method: Sun, Xiao, Liu, Wang: Deep High-Resolution Representation Learning for "
        "Human Pose Estimation, CVPR 2019. Made by hrpose.",
    )


def _section(section: Section) -> str:
    text = "\n".join(f"<p>{escape(paragraph)}</p>" for paragraph in section.text)
    working = "\n".join(escape(line) for line in section.working)
    code = f"\n<pre>{working}</pre>" if working else ""
    figures = "\n".join(_figure(figure) for figure in section.figures)
    return f"""<section>
<h2>{escape(section.title)}</h2>
{text}{code}
<div class="figures" style="--columns: {section.columns}">
{figures}
</div>
</section>"""


def _figure(figure: Figure) -> str:
    data = source(figure.image, ".jpg" if figure.photo else ".png")
    height, width = figure.image.shape[:2]
    caption = escape(figure.caption)
    return (
        f'<figure><img src="{data}" width="{width}" height="{height}" '
        f'alt="{caption}"><figcaption>{caption}</figcaption></figure>'
    )
