"""Fits converted tensors to a model's variables, resized or inflated where need be."""

import dataclasses

import numpy as np

from mvit_tf.conversion import resize
from mvit_tf.conversion.report import Placement
from mvit_tf.conversion.tensors import Tensor

_CLASS_TOKEN = "class_token/token"
_OF_CLASS_TOKEN = (_CLASS_TOKEN, "positions/class")


@dataclasses.dataclass(frozen=True)
class Fit:
    """What to assign, and what does not fit.

    Attributes:
        assignments: tuple of (Placement, Tensor or None for a fresh variable).
        missing: paths of variables that nothing in the source is for.
        mismatched: (path, source shape, variable shape) of those that cannot be made to fit.
        unplaced: paths of converted tensors that the model has no variable for.
    """

    assignments: tuple
    missing: tuple[str, ...]
    mismatched: tuple
    unplaced: tuple[str, ...]


def fit_tensors(tensors, shapes, grid, *, fresh, inflation, source_grid):
    """Finds a tensor for every variable of a model, reading none.

    Args:
        tensors: path -> Tensor, converted.
        shapes: path -> shape of the model's variables.
        grid: (T, H, W) of the first block's tokens.
        fresh: paths of variables to leave as they are.
        inflation: "center" or "mean", for kernels of image weights.
        source_grid: (T, H, W) tokens of the source's position tables, or None to infer it.
    """
    inflating = is_inflation(tensors, shapes)
    if inflating:
        tensors = _image_positions(tensors, shapes)
    source = _Source(_CLASS_TOKEN in tensors, source_grid, inflation if inflating else None)
    assignments, missing, mismatched = [], [], []
    for path, shape in shapes.items():
        tensor = tensors.get(path)
        if path in fresh:
            assignments.append((Placement(path, (), "fresh", "left out"), None))
        elif tensor is not None:
            placement, fitted = _fit(path, tensor, shape, grid, source)
            if fitted is None:
                mismatched.append((path, tensor.shape, shape))
            assignments.append((placement, fitted))
        elif inflating and path.endswith("/relative_positions/temporal"):
            detail = "images have no relative times"
            assignments.append((Placement(path, (), "zero", detail), _zeros((), shape)))
        elif inflating and path in _OF_CLASS_TOKEN and _CLASS_TOKEN not in tensors:
            detail = "the image model has no class token"
            assignments.append((Placement(path, (), "fresh", detail), None))
        else:
            missing.append(path)
    unplaced = tuple(path for path in tensors if path not in shapes)
    return Fit(tuple(assignments), tuple(missing), tuple(mismatched), unplaced)


@dataclasses.dataclass(frozen=True)
class _Source:
    """The class token and grid of the source, and how to inflate it (None: it is not to be)."""

    class_token: bool
    grid: tuple[int, int, int] | None
    inflation: str | None


def is_inflation(tensors, shapes):
    """Whether the tensors are of an image model and the variables of a video model."""
    source, target = tensors.get("patch_embed/kernel"), shapes["patch_embed/kernel"]
    return source is not None and source.shape[0] == 1 < target[0]


def _zeros(names, shape):
    return Tensor(names, shape, lambda: np.zeros(shape, np.float32))


def _image_positions(tensors, shapes):
    """An image's joint positions as those of space, where the video model has them apart."""
    joint = tensors.get("positions/joint")
    if joint is None or "positions/spatial" not in shapes:
        return tensors
    first = int(_CLASS_TOKEN in tensors)
    rows, channels = joint.shape
    tensors = {path: tensor for path, tensor in tensors.items() if path != "positions/joint"}
    tensors["positions/spatial"] = joint.map((rows - first, channels), lambda table: table[first:])
    tensors["positions/temporal"] = _zeros(joint.names, (1, channels))
    if first:
        tensors["positions/class"] = joint.map((1, channels), lambda table: table[:1])
    return tensors


def _fit(path, tensor, shape, grid, source):
    """(Placement, fitted Tensor); the tensor is None where the shapes cannot be reconciled."""
    if path.startswith("positions/"):
        resized = _fit_positions(path, tensor, shape, grid, source)
        if resized is not None:
            return resized
    detail = f"{tensor.shape} -> {shape}"
    if tensor.shape == shape:
        return Placement(path, tensor.names, "copied"), tensor
    if "/relative_positions/" in path and tensor.shape[1:] == shape[1:]:
        fitted = tensor.map(shape, lambda table: resize.resize_rows(table, shape[0]))
        return Placement(path, tensor.names, "resized", detail), fitted
    is_kernel = path.endswith("/kernel") and len(shape) == 5
    if source.inflation and is_kernel and tensor.shape == (1, *shape[1:]):
        fitted = tensor.map(
            shape, lambda kernel: resize.inflate_kernel(kernel, shape[0], source.inflation)
        )
        return Placement(path, tensor.names, "inflated", f"{detail}, {source.inflation}"), fitted
    return Placement(path, tensor.names, "mismatched", detail), None


def _fit_positions(path, tensor, shape, target, source):
    """As `_fit` for absolute positions; None where nothing needs to be resized."""
    rows = tensor.shape[0]
    if len(tensor.shape) != 2 or tensor.shape[1] != shape[1] or path == "positions/class":
        return None
    if path == "positions/temporal":
        if rows == shape[0]:
            return None
        fitted = tensor.map(shape, lambda table: resize.resize_rows(table, shape[0]))
        return Placement(path, tensor.names, "resized", f"{rows} -> {shape[0]} times"), fitted
    if source.grid is None and rows == shape[0]:
        return None
    joint = path == "positions/joint"
    first = int(source.class_token and joint)
    grid = resize.source_grid_of(path, rows - first, target, source.grid)
    if not joint:
        grid, target = grid[1:], target[1:]
    if grid == target:
        return None

    def fit(table):
        if joint:
            return resize.resize_joint(table, grid, target, first)
        return resize.resize_space(table, grid, target)

    axes = "(T, H, W)" if joint else "(H, W)"
    return Placement(path, tensor.names, "resized", f"{axes} {grid} -> {target}"), tensor.map(
        shape, fit
    )
