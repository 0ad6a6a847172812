"""Reads files of `torch.save` without PyTorch, running none of the code that they may name.

Since PyTorch 1.6 such a file is a zip archive: `data.pkl`, a pickle of the saved object, and one
entry for the bytes of every storage. The unpickler here knows tensors and plain containers, and
refuses every other name before anything is called.
"""

import collections
import dataclasses
import pickle
import zipfile

import numpy as np

from mvit_tf.conversion.dtypes import DTYPES, to_float32
from mvit_tf.errors import UserError

_STORAGE_DTYPES = {
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}
# Everything that a damaged pickle has been seen to raise in the unpickler.
_PICKLE_ERRORS = (
    pickle.UnpicklingError,
    EOFError,
    AttributeError,
    ImportError,
    IndexError,
    KeyError,
    MemoryError,
    OverflowError,
    TypeError,
    UnicodeDecodeError,
    ValueError,
)


class _Archive:
    """The storages of an open file; keeps the bytes of the last one, which tensors may share."""

    def __init__(self, path, root):
        self.path = path
        self.root = root
        self._last = (None, None)

    def storage(self, key):
        if self._last[0] != key:
            name = f"{self.root}data/{key}"
            try:
                with zipfile.ZipFile(self.path) as archive:
                    self._last = (key, archive.read(name))
            except (zipfile.BadZipFile, KeyError, EOFError, NotImplementedError) as error:
                raise UserError(
                    f"{self.path} is damaged at {name} ({error}); download it again"
                ) from error
        return self._last[1]


@dataclasses.dataclass(frozen=True)
class _Storage:
    """A storage of the archive; `dtype` is None where the tensor says it."""

    archive: _Archive
    key: str
    dtype: str | None


@dataclasses.dataclass(frozen=True)
class StoredTensor:
    """A tensor whose values are still in the file.

    Attributes:
        storage: where.
        dtype: name of its type in PyTorch.
        offset: of its first element.
        shape, strides: in elements.
    """

    storage: _Storage
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def read(self):
        """The values, C-ordered; floating types as float32.

        Raises:
            UserError: the storage is missing, damaged or shorter than the tensor says.
        """
        data = self.storage.archive.storage(self.storage.key)
        dtype = DTYPES[self.dtype]
        values = np.frombuffer(data, dtype, len(data) // dtype.itemsize)
        if 0 in self.shape:
            return np.zeros(self.shape, np.float32)
        last = self.offset + sum(
            (size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True)
        )
        if last >= len(values):
            raise UserError(
                f"{self.storage.archive.path} is damaged: a tensor of shape {self.shape} reaches "
                f"beyond its {len(values)} stored values; download it again"
            )
        strides = [stride * dtype.itemsize for stride in self.strides]
        view = np.lib.stride_tricks.as_strided(values[self.offset :], self.shape, strides)
        return to_float32(np.array(view, order="C"))


def read_torch_zip(path):
    """What was saved, with a StoredTensor for every tensor and parameter.

    Raises:
        UserError: a truncated or damaged file, one of a big-endian machine, a TorchScript
            archive, or one whose pickle names anything but tensors and plain containers.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            entry = next((name for name in names if name.split("/")[-1] == "data.pkl"), None)
            if entry is None:
                cure = "; of a Keras model, give what `save_weights('NAME.weights.h5')` writes"
                raise UserError(
                    f"{path} is a zip archive that torch.save did not write"
                    f"{cure if 'model.weights.h5' in names else ''}"
                )
            root = entry.removesuffix("data.pkl")
            if f"{root}constants.pkl" in names:
                raise UserError(
                    f"{path} is a TorchScript program; load it with torch.jit.load and save its "
                    "state_dict() with torch.save"
                )
            order = archive.read(f"{root}byteorder") if f"{root}byteorder" in names else b"little"
            if order.strip() != b"little":
                raise UserError(
                    f"{path} was written on a big-endian machine; load it with PyTorch and save it "
                    "again on another"
                )
            with archive.open(entry) as file:
                return _Unpickler(file, _Archive(path, root)).load()
    except zipfile.BadZipFile as error:
        raise UserError(f"{path} is cut off or damaged ({error}); download it again") from error
    except UserError:
        raise
    except _PICKLE_ERRORS as error:
        raise UserError(f"{path} is damaged ({error}); download it again") from error


class _Unpickler(pickle.Unpickler):
    def __init__(self, file, archive):
        super().__init__(file, encoding="utf-8")
        self._archive = archive

    def find_class(self, module, name):
        if module == "torch" and name in _STORAGE_DTYPES:
            return _StorageType(_STORAGE_DTYPES[name])
        if module == "torch" and name in DTYPES:
            return _TensorType(name)
        known = _KNOWN.get((module, name))
        if known is None:
            raise UserError(
                f"{self._archive.path} names {module}.{name}, which is refused: a weights file may "
                "hold tensors and plain containers only. If you trust it, load it with PyTorch and "
                "save model.state_dict() alone with torch.save"
            )
        return known

    def persistent_load(self, pid):
        kind, storage_type, key, _, _ = pid
        if kind != "storage" or not isinstance(storage_type, _StorageType):
            raise pickle.UnpicklingError(f"unknown persistent object {kind!r}")
        return _Storage(self._archive, str(key), storage_type.dtype)


@dataclasses.dataclass(frozen=True)
class _StorageType:
    dtype: str | None


@dataclasses.dataclass(frozen=True)
class _TensorType:
    name: str


def _tensor(storage, offset, size, stride, *_):
    """`torch._utils._rebuild_tensor_v2`, and its predecessor without the last arguments."""
    return _checked(storage, storage.dtype, offset, size, stride)


def _tensor_of_type(storage, offset, size, stride, requires_grad, hooks, dtype, *_):
    """`torch._utils._rebuild_tensor_v3`: an untyped storage, and the type beside it."""
    return _checked(storage, dtype.name, offset, size, stride)


def _checked(storage, dtype, offset, size, stride):
    numbers = (offset, *size, *stride)
    plain = isinstance(storage, _Storage) and dtype in DTYPES and len(size) == len(stride)
    if not plain or not all(type(number) is int and number >= 0 for number in numbers):
        raise pickle.UnpicklingError("a tensor of an impossible size or type")
    return StoredTensor(storage, dtype, offset, tuple(size), tuple(stride))


def _parameter(data, *_):
    return data


_KNOWN = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch", "Size"): tuple,
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_tensor_v3"): _tensor_of_type,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
    ("torch.storage", "UntypedStorage"): _StorageType(None),
    ("torch", "UntypedStorage"): _StorageType(None),
}
