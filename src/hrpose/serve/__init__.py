"""The server: poses over HTTP, and a page to try them. Needs the `serve` extra."""
