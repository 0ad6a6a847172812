"""The TFRecord format: records one after the other, each with its length and two checksums.

A record is its length (8 bytes, little endian), the masked CRC-32C of these, the data, and the
masked CRC-32C of the data.
"""

import struct

import google_crc32c

_LENGTH, _CRC = struct.Struct("<Q"), struct.Struct("<I")
HEADER_SIZE = _LENGTH.size + _CRC.size
_FRAME_SIZE = HEADER_SIZE + _CRC.size
# More than a protocol buffer can hold; a length beyond it is not one.
LARGEST_RECORD = 2**31 - 1


class CorruptRecord(ValueError):
    """A record whose checksum is wrong, or that is cut off; the message says which."""


def framed(data):
    """bytes of a record that holds `data`, as the file has them."""
    length = _LENGTH.pack(len(data))
    return b"".join((length, _CRC.pack(_masked_crc(length)), data, _CRC.pack(_masked_crc(data))))


def framed_size(length):
    """Bytes that a record of so much data takes in the file."""
    return length + _FRAME_SIZE


def read_record(file, offset):
    """The data of the record that begins at `offset` of an open binary file.

    Raises:
        CorruptRecord: it is damaged, cut off, or none begins there.
    """
    length = _read_length(file, offset)
    data = _read(file, length)
    (crc,) = _CRC.unpack(_read(file, _CRC.size))
    if crc != _masked_crc(data):
        raise CorruptRecord("its data does not have the checksum that it was written with")
    return data


def stored_crc(file, offset):
    """(length, masked CRC-32C of the data as the file says it) of a record; the data is not read.

    Raises:
        CorruptRecord: its length is damaged, or it is cut off.
    """
    length = _read_length(file, offset)
    file.seek(offset + HEADER_SIZE + length)
    return length, _CRC.unpack(_read(file, _CRC.size))[0]


def walk(file, size, head_bytes):
    """Yields (offset, length, first `head_bytes` of the data) of every record of a file.

    Args:
        file: an open binary file of `size` bytes.

    Raises:
        CorruptRecord: the length of a record is damaged, or it is cut off: there is no way to find
            the next one. Its attribute `offset` says where.
    """
    offset = 0
    while offset < size:
        try:
            length = _read_length(file, offset)
            if offset + framed_size(length) > size:
                raise CorruptRecord("it is cut off at the end of the file")
            head = _read(file, min(length, head_bytes))
        except CorruptRecord as error:
            error.offset = offset
            raise
        yield offset, length, head
        offset += framed_size(length)


def _read_length(file, offset):
    file.seek(offset)
    header = _read(file, HEADER_SIZE)
    if _CRC.unpack_from(header, _LENGTH.size)[0] != _masked_crc(header[: _LENGTH.size]):
        raise CorruptRecord("its length does not have the checksum that it was written with")
    (length,) = _LENGTH.unpack_from(header)
    if length > LARGEST_RECORD:
        raise CorruptRecord(f"its length of {length} bytes is more than a record can hold")
    return length


def _read(file, size):
    data = file.read(size)
    if len(data) < size:
        raise CorruptRecord("it is cut off at the end of the file")
    return data


def _masked_crc(data):
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
