"""A checksum at the end of a file."""

import h5py
import pytest

from mvit_tf.file_checksum import append_checksum, checksum_holds


@pytest.mark.parametrize("content", [b"", b"x", bytes(range(256)) * 300])
def test_one_flipped_bit_is_noticed(tmp_path, content):
    path = tmp_path / "file"
    path.write_bytes(content)
    with open(path, "rb") as file:
        assert checksum_holds(file) is None
    append_checksum(path)
    whole = path.read_bytes()
    with open(path, "rb") as file:
        assert checksum_holds(file)
    for place in (0, len(content) // 2, -1):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        with open(path, "rb") as file:
            assert not checksum_holds(file)


def test_hdf5_passes_over_it(tmp_path):
    path = tmp_path / "file.h5"
    with h5py.File(path, "w") as file:
        file["x"] = [1, 2, 3]
    append_checksum(path)
    with h5py.File(path) as file:
        assert file["x"][()].tolist() == [1, 2, 3]
