"""Files that torch wrote, read without torch; and files that must be refused."""

import os
import pickle
import sys
import zipfile

import numpy as np
import pytest

from mvit_tf.conversion.checkpoint_files import find_state_dict, read_checkpoint
from mvit_tf.errors import UserError
from tests.conversion import references

FOLDER = references.FOLDER


def assert_holds_the_reader_s_tensors(tensors, but=()):
    with np.load(FOLDER / "reader.npz") as expected:
        assert set(tensors) == set(expected)
        for name, tensor in tensors.items():
            values = tensor.read()
            assert tensor.shape == expected[name].shape == values.shape, name
            assert values.dtype == expected[name].dtype, name
            np.testing.assert_array_equal(values, expected[name], err_msg=name)


@pytest.mark.parametrize("name", ["reader.pyth", "reader.safetensors"])
def test_every_type_stride_and_nesting(name, monkeypatch):
    """Views of shared storage, halves, bfloat16, parameters, an optimizer and a cfg beside them."""
    monkeypatch.setitem(sys.modules, "torch", None)
    assert_holds_the_reader_s_tensors(read_checkpoint(FOLDER / name))


def test_legacy_files_need_torch(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="before version 1.6, which only PyTorch reads: install"):
        read_checkpoint(FOLDER / "reader_legacy.pth")


@pytest.mark.compare
def test_legacy_files_through_torch():
    assert_holds_the_reader_s_tensors(read_checkpoint(FOLDER / "reader_legacy.pth"))


def test_tensors_are_read_one_by_one(monkeypatch):
    """Reading a checkpoint's names opens no storage; reading a tensor opens its own alone."""
    opened = []
    original = zipfile.ZipFile.read

    def read(self, name, pwd=None):
        opened.append(name)
        return original(self, name, pwd)

    monkeypatch.setattr(zipfile.ZipFile, "read", read)
    tensors = read_checkpoint(references.weights_path("torchvision_v1"))
    assert not [name for name in opened if "/data/" in name]
    tensors["norm.weight"].read()
    tensors["norm.weight"].read()
    assert len([name for name in opened if "/data/" in name]) == 1


class Payload:
    """What runs a command when an ordinary unpickler meets it."""

    def __reduce__(self):
        return os.system, ("echo harm > harm.txt",)


def write_zip(path, content, **entries):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", content)
        for name, data in entries.items():
            archive.writestr(f"archive/{name}", data)
    return path


def test_code_is_refused_by_name_and_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = write_zip(tmp_path / "evil.pth", pickle.dumps({"model": Payload()}, protocol=2))
    with pytest.raises(UserError, match=r"names (posix|os)\.system, which is refused"):
        read_checkpoint(path)
    assert not (tmp_path / "harm.txt").exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("builtins", "eval"),
        ("builtins", "getattr"),
        ("torch", "load"),
        ("torch._utils", "_rebuild_tensor_v2.__globals__"),
        ("numpy", "load"),
        ("mvit_tf.conversion.torch_zip", "zipfile"),
    ],
)
@pytest.mark.parametrize("protocol", [2, 4])
def test_other_names_are_refused(tmp_path, module, name, protocol):
    if protocol == 2:
        content = b"\x80\x02c" + f"{module}\n{name}\n.".encode()
    else:
        text = b"".join(b"\x8c" + bytes([len(part)]) + part.encode() for part in (module, name))
        content = b"\x80\x04" + text + b"\x93."
    path = write_zip(tmp_path / "other.pth", content)
    with pytest.raises(UserError, match="which is refused") as caught:
        read_checkpoint(path)
    assert f"{module}.{name}" in str(caught.value)


def copy_with(source, destination, replace=(), cut=None):
    """A copy of a zip archive with entries replaced (name end -> bytes), or cut to a length."""
    replace = dict(replace)
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(destination, "w") as new:
        for info in old.infolist():
            end = next((end for end in replace if info.filename.endswith(end)), None)
            new.writestr(info.filename, replace[end] if end else old.read(info))
    if cut:
        destination.write_bytes(destination.read_bytes()[:cut])
    return destination


def test_damaged_zip_files(tmp_path):
    source = references.weights_path("torchvision_v1")
    path = tmp_path / "weights.pth"
    with pytest.raises(UserError, match="cut off or damaged"):
        read_checkpoint(copy_with(source, path, cut=50_000))
    with pytest.raises(UserError, match="big-endian machine"):
        read_checkpoint(copy_with(source, path, {"byteorder": b"big"}))
    with pytest.raises(UserError, match="TorchScript program"):
        copy_with(source, path)
        with zipfile.ZipFile(path, "a") as archive, zipfile.ZipFile(source) as old:
            root = old.namelist()[0].split("/")[0]
            archive.writestr(f"{root}/constants.pkl", b"")
        read_checkpoint(path)
    with pytest.raises(UserError, match=r"weights.pth is damaged \("):
        read_checkpoint(copy_with(source, path, {"data.pkl": b"\x80\x02}q\x00X\x05"}))
    tensors = read_checkpoint(copy_with(source, path, {"data/0": b"\0" * 6}))
    with pytest.raises(UserError, match="reaches beyond its 3 stored values"):
        for tensor in tensors.values():
            tensor.read()
    with zipfile.ZipFile(copy_with(source, path)) as archive:
        info = next(info for info in archive.infolist() if "/data/" in info.filename)
    content = bytearray(path.read_bytes())
    content[info.header_offset + 30 + len(info.filename)] ^= 1
    path.write_bytes(content)
    tensors = read_checkpoint(path)
    with pytest.raises(UserError, match="is damaged at .*/data/.* CRC"):
        for tensor in tensors.values():
            tensor.read()
    with pytest.raises(UserError, match="zip archive that torch.save did not write"):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("readme.txt", "hello")
        read_checkpoint(path)


def test_damaged_safetensors_files(tmp_path):
    content = (FOLDER / "reader.safetensors").read_bytes()
    path = tmp_path / "weights.safetensors"
    path.write_bytes(content[:-10])
    with pytest.raises(UserError, match="cut off"):
        read_checkpoint(path)
    path.write_bytes(content[:40])
    with pytest.raises(UserError, match="cut off or damaged"):
        read_checkpoint(path)
    path.write_bytes(content.replace(b'"dtype":"F16"', b'"dtype":"F8X"'))
    with pytest.raises(UserError, match="half has the type F8X"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html><title>Sign in</title>", "is a web page"),
        (b"\n<html>", "is a web page"),
        (b"\x80\x02}q\x00.", "is a plain pickle"),
        (b"\x89HDF\r\n\x1a\n", "is a Keras weights file; load it with model.load_weights"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
        (b"hello", "is no file that torch.save or safetensors wrote"),
    ],
)
def test_other_files_are_told_apart(tmp_path, content, message):
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"weights.pth {message}"):
        read_checkpoint(path)


def test_paths_and_contents_without_weights(tmp_path):
    with pytest.raises(UserError, match="nowhere.pth does not exist"):
        read_checkpoint(tmp_path / "nowhere.pth")
    with pytest.raises(UserError, match="is a directory"):
        read_checkpoint(tmp_path)
    path = write_zip(tmp_path / "args.pth", pickle.dumps({"epoch": 3, "cfg": "x"}, protocol=2))
    with pytest.raises(UserError, match="a dict with the keys epoch, cfg, no state dict"):
        read_checkpoint(path)
    path = write_zip(tmp_path / "list.pth", pickle.dumps([1, 2], protocol=2))
    with pytest.raises(UserError, match="holds a list, no state dict"):
        read_checkpoint(path)


def test_dicts_beside_each_other_keep_their_keys():
    """Student and teacher; a usual name still wins."""

    class Weight:
        shape = (2,)

        def detach(self):
            return self

    content = {"student": {"a.weight": Weight()}, "teacher": {"a.weight": Weight()}, "epoch": 3}
    tensors = find_state_dict("file", content)
    assert list(tensors) == ["student.a.weight", "teacher.a.weight"]
    assert [tensor.names for tensor in tensors.values()] == [(name,) for name in tensors]
    assert list(find_state_dict("file", {**content, "model": content["teacher"]})) == ["a.weight"]
