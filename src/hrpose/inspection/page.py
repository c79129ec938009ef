"""The preview as one HTML page that needs nothing else: no file, no network.

Its few lines of script turn the people's pages by buttons and keys; the policy in its head lets
only this script run, by its hash. Without it all people are there, one below the other.
"""

from html import escape
from importlib import resources

from hrpose.inspection.preview import Person, Preview
from hrpose.inspection.spread import histograms, shares, visibility
from hrpose.pages import document, source
from hrpose.pages.histogram import histogram_chart


def render(preview: Preview) -> str:
    """The whole page. Every word of the set is escaped."""
    script = (resources.files("hrpose.inspection") / "page.js").read_text(encoding="utf-8")
    labels, look = preview.labels, preview.look
    width, height = look.input_wh
    unread = "".join(f"<li>{escape(line)}</li>" for line in preview.unread)
    people = "".join(_person(person) for person in preview.people)
    charts = "".join(histogram_chart(histogram) for histogram in histograms(labels))
    posed = int(labels.labelled.any(axis=1).sum())
    header = (
        f"<p>{len(labels.file_names)} pictures, {len(labels)} people, {posed} of them with joints; "
        f"{len(labels.names)} joints in the skeleton.</p>"
    )
    main = f"""<section>
<h2>People</h2>
<p>{len(preview.people)} people chosen by the seed {look.seed}, as the network sees them in
{width} x {height} pixels. Left limbs are blue and right ones orange, or in the skeleton's colours.
<span class="keys">Keys: <kbd>&larr;</kbd> <kbd>&rarr;</kbd> one page back or on,
<kbd>Home</kbd> <kbd>End</kbd> first and last.</span></p>
<nav hidden aria-label="pages of people"><button id="back">&larr; back</button>
<output id="place"></output><button id="on">on &rarr;</button></nav>
<div id="people">{people}</div>
{f"<p>Not shown:</p><ul>{unread}</ul>" if unread else ""}
</section>
<section>
<h2>Distributions</h2>
<p>Of all {len(labels)} people, not only those above.</p>
<div class="charts">{charts}</div>
</section>
<section>
<h2>Visibility</h2>
<p><span class="key seen">seen</span><span class="key hidden">hidden, place labelled</span>
<span class="key none">no label</span></p>
{shares(visibility(labels))}
</section>"""
    return document(preview.name, "hrpose.inspection", header, main, "Made by hrpose.", script)


def _person(person: Person) -> str:
    figures = "".join(
        f'<figure><img src="{source(tile)}" width="{tile.shape[1]}" height="{tile.shape[0]}" '
        f'alt="{escape(caption)}"><figcaption>{escape(caption)}</figcaption>'
        "</figure>"
        for caption, tile in person.tiles.items()
    )
    width, height = person.box_wh
    return (
        f"<article><p><b>{escape(person.picture)}</b>, annotation {person.annotation}: "
        f"{person.joints} joints, box {width} x {height}</p>{figures}</article>"
    )
