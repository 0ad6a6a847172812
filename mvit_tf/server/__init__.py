"""Predictions over HTTP, and a page in the browser; needs the extras `serve` and `web`."""
