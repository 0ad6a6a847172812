"""Scoring videos by several views of each, and what is reported of the scores."""
