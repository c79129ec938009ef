"""The server: poses over HTTP, and a page to see them. Needs the `serve` extra."""
