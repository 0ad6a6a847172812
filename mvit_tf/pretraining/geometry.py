"""What MaskFeat predicts of a model's tokens, in numbers; pure Python."""

import dataclasses

from mvit_tf.errors import UserError

# Of histograms of oriented gradients: directions without a sign, and pixels of a cell's side.
NUM_BINS = 9
CELL_SIZE = 8
# Side of the squares that are masked whole where no window is given: 7 x 7 of them at 224 pixels.
_MASK_PIXELS = 32


@dataclasses.dataclass(frozen=True)
class PredictionGrid:
    """The tokens of the last stage and the cells of gradients that each is to predict.

    Attributes:
        grid: (T, H, W) tokens.
        time_stride: every how many frames one is predicted.
        cells: (H, W) cells of a token.
    """

    grid: tuple[int, int, int]
    time_stride: int
    cells: tuple[int, int]

    @property
    def size(self):
        """Numbers that are predicted of a token: bins of the three colours of its cells."""
        return 3 * NUM_BINS * self.cells[0] * self.cells[1]


def prediction_grid(config):
    """The `PredictionGrid` of a model.

    Args:
        config: MViTConfig.

    Raises:
        UserError: an image model, or tokens that do not cover whole cells of a frame each.
    """
    if config.image:
        raise UserError(
            f"MaskFeat is for video models here, and input_shape={config.input_shape} is an "
            "image's; give (T, H, W, 3)"
        )
    frames, *pixels = config.input_size
    times, *tokens = config.blocks()[-1].query_grid
    time_stride = config.patch_stride[0]
    if times * time_stride != frames:
        raise UserError(
            f"MaskFeat predicts a frame for each time of the tokens: {times} times of stride "
            f"{time_stride} are not the {frames} frames of input_shape={config.input_shape}; "
            "leave time unpooled (query_stride[0]=1)"
        )
    cells = []
    for axis, size, number in zip("HW", pixels, tokens, strict=True):
        if size % (CELL_SIZE * number):
            raise UserError(
                f"MaskFeat predicts cells of {CELL_SIZE} pixels: {axis} = {size} of "
                f"input_shape={config.input_shape} is no multiple of {CELL_SIZE} x {number} "
                "tokens; take another input_shape"
            )
        cells.append(size // (CELL_SIZE * number))
    return PredictionGrid((times, *tokens), time_stride, tuple(cells))


def mask_window(config, window=None):
    """The grid (T, H, W) on which masks are drawn: each of its places is masked whole.

    Args:
        config: MViTConfig.
        window: three ints; None for places of 32 x 32 pixels, the paper's.

    Raises:
        UserError: a window that the tokens do not divide into.
    """
    grid = prediction_grid(config).grid
    given = window is not None
    if not given:
        window = (grid[0], *(size // _MASK_PIXELS for size in config.input_size[1:]))
    window = tuple(window)
    fits = (
        len(window) == 3
        and window[0] == grid[0]
        and all(
            size >= 2 and tokens % size == 0
            for size, tokens in zip(window[1:], grid[1:], strict=True)
        )
    )
    if not fits:
        asked = f"mask_window={window}" if given else f"places of {_MASK_PIXELS} pixels, {window},"
        raise UserError(
            f"{asked} must be (T, H, W) with T = {grid[0]}, the times of the tokens, and H and W "
            f"from 2 on that divide the {grid[1]} x {grid[2]} tokens of the last stage; set "
            "mask_window"
        )
    return window


def masked_places(window, ratio):
    """How many places of a window are masked.

    Args:
        window: three ints.
        ratio: float in (0, 1).

    Raises:
        UserError: so small or large a ratio that no place, or every one, would be.
    """
    places = window[0] * window[1] * window[2]
    number = round(places * ratio)
    if not 0 < number < places:
        raise UserError(
            f"mask_ratio={ratio} of {places} places masks {number}; give one of which at least "
            "one place is masked and one is seen"
        )
    return number
