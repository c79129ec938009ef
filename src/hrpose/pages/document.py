"""The frame of a page: its head with the policy, and what all pages look like."""

import base64
import hashlib
from html import escape
from importlib import resources


def document(title: str, room: str, header: str, main: str, footer: str, script: str = "") -> str:
    """The whole page, of ready HTML but for the `title`, which is escaped and its heading.

    To the style of all pages comes `page.css` of the package `room`. The policy in the head lets
    nothing in but pictures inside the page and `script`, by its hash.
    """
    style = "".join(
        (resources.files(package) / "page.css").read_text(encoding="utf-8")
        for package in ("hrpose.pages", room)
    )
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    if script:
        allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        policy += f"; script-src 'sha256-{allowed}'"
        script = f"<script>{script}</script>\n"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<link rel="icon" href="data:,">
<title>{escape(title)}</title>
<style>
{style}</style>
</head>
<body>
<header>
<h1>{escape(title)}</h1>
{header}
</header>
<main>
{main}
</main>
<footer><p>{footer}</p></footer>
{script}</body>
</html>
"""
