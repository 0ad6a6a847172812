"""Files that were joined byte by byte in a format of which players read the first one only."""

import os

_FLV_HEADER, _FLV_TAG = 9, 11


def second_file(path):
    """Where in an MP4, MOV, AVI or FLV file another one begins that was joined to it.

    Args:
        path: path of a readable file.

    Returns:
        int, its first byte, or None. Of other formats always None: MPEG streams are read on.
    """
    with open(path, "rb") as file:
        start = file.read(12)
        for is_kind, starts in (
            (start[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"), _mp4_files),
            (start[:4] == b"RIFF" and start[8:11] == b"AVI", _avi_files),
            (start[:3] == b"FLV", _flv_files),
        ):
            if is_kind:
                return next(starts(file), None)
    return None


def _mp4_files(file):
    """Yields where a second header or table of frames begins."""
    seen = set()
    for place, header in _steps(file, 0, 16, _mp4_box_size):
        kind = header[4:8]
        if kind in (b"ftyp", b"moov"):
            if kind in seen:
                yield place
            seen.add(kind)


def _mp4_box_size(header):
    size = int.from_bytes(header[:4], "big")
    # 1: it does not fit into four bytes and follows; 0: to the end of the file.
    return int.from_bytes(header[8:16], "big") if size == 1 else size


def _avi_files(file):
    """Yields where a further RIFF chunk is of another file; those of large files are "AVIX"."""
    for place, header in _steps(file, 0, 12, lambda h: 8 + _even(int.from_bytes(h[4:8], "little"))):
        if place and header[:4] == b"RIFF" and header[8:11] == b"AVI" and header[11:] != b"X":
            yield place


def _flv_files(file):
    """Yields where a header stands in the place of a tag."""
    first = _FLV_HEADER + 4

    def tag_size(header):
        return _FLV_TAG + int.from_bytes(header[1:4], "big") + 4

    for place, header in _steps(file, first, _FLV_TAG, tag_size):
        if header[:3] == b"FLV":
            yield place
            return


def _steps(file, place, header_size, size_of):
    """Yields (place, header) of a chain of parts, each as long as its header says."""
    end = file.seek(0, os.SEEK_END)
    while place < end:
        file.seek(place)
        header = file.read(header_size)
        yield place, header
        size = size_of(header)
        if size < 8:
            return
        place += size


def _even(size):
    return size + size % 2
