"""The story as one HTML page that needs nothing else: no script, no file, no network."""

import base64
from html import escape
from importlib import resources

from hrpose.explain.pictures import encode
from hrpose.explain.story import Figure, Section, Story


def render(story: Story) -> str:
    """The whole page. Every word of the story is escaped."""
    style = (resources.files("hrpose.explain") / "page.css").read_text(encoding="utf-8")
    sections = "\n".join(_section(section) for section in story.sections)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<link rel="icon" href="data:,">
<title>{escape(story.title)}</title>
<style>
{style}</style>
</head>
<body>
<header>
<h1>{escape(story.title)}</h1>
<p>{escape(story.lead)}</p>
</header>
<main>
{sections}
</main>
<footer><p>Method: Sun, Xiao, Liu, Wang: Deep High-Resolution Representation Learning for Human Pose
Estimation, CVPR 2019. Made by hrpose.</p></footer>
</body>
</html>
"""


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
    suffix = ".jpg" if figure.photo else ".png"
    data = base64.b64encode(encode(figure.image, suffix)).decode()
    kind = "jpeg" if figure.photo else "png"
    height, width = figure.image.shape[:2]
    caption = escape(figure.caption)
    return (
        f'<figure><img src="data:image/{kind};base64,{data}" width="{width}" height="{height}" '
        f'alt="{caption}"><figcaption>{caption}</figcaption></figure>'
    )
