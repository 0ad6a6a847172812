"""One video file: how long it is and how fast, its frames, and processes to decode in."""
