"""Moving shapes: small videos whose class is the direction in which everything moves.

Bright shapes drift over a still, textured background in one of eight directions. Each lives
for a few frames only and is then reborn elsewhere with another look. Positions wrap around the
frame and lives begin at random, so a single frame looks the same whatever the class. Few
frames of a life meet again once a clip's frames are shuffled, and as often backwards as
forwards, so shuffling takes the direction away and leaves at most a hint of its axis.

Harder on demand: two ranges of speed, each a class of its own; shapes that stand still or
wander, and tell nothing; a camera that drifts. None of it shows the class in a single frame.
"""

import concurrent.futures
import dataclasses
import math
import os
import pathlib

import av
import numpy as np

from mvit_tf.errors import UserError
from mvit_tf.files import write_atomically

# Counterclockwise from the right; class k moves at an angle of 45 k degrees.
DIRECTIONS = ("right", "up_right", "up", "up_left", "left", "down_left", "down", "down_right")

# Measures of distance from the centre, (x, y, radius) -> up to the radius inside the shape.
_KINDS = {
    "disc": lambda x, y, radius: np.hypot(x, y),
    "square": lambda x, y, radius: 1.15 * np.maximum(np.abs(x), np.abs(y)),
    "diamond": lambda x, y, radius: 0.85 * (np.abs(x) + np.abs(y)),
    "ring": lambda x, y, radius: np.abs(np.hypot(x, y) - 0.7 * radius) + 0.7 * radius,
    "cross": lambda x, y, radius: np.maximum(
        np.minimum(np.abs(x), np.abs(y)) + 0.65 * radius, np.maximum(np.abs(x), np.abs(y))
    ),
}


@dataclasses.dataclass(frozen=True)
class MovingShapes:
    """How the videos look.

    Args:
        height, width: int, pixels, even.
        num_frames: int.
        fps: int, frames a second.
        num_shapes: int. Shapes seen at the same time.
        lifetime: int. Frames for which a shape moves before it is reborn elsewhere.
        speed: (least, most) pixels a frame; drawn for each life.
        radius: (least, most) pixels; drawn for each life.
        texture_contrast: float, standard deviation of the background in grey levels.
        fast_speed: as `speed`, all of it faster: then each direction is two classes, "up_slow" of
            `speed` and "up_fast" of this; None for one class of a direction, "up".
        still_shapes, wandering_shapes: int. Further shapes behind the others, of the same looks
            and lives, that stand still, or move at any of the speeds, each life in a direction
            of its own.
        camera_drift: float, pixels a frame. Background and all shapes drift by a velocity that is
            drawn for each video, in any direction and at most so fast.

    Raises:
        UserError: a value out of range.
    """

    height: int = 64
    width: int = 64
    num_frames: int = 40
    fps: int = 30
    num_shapes: int = 4
    lifetime: int = 6
    speed: tuple[float, float] = (2.5, 3.5)
    radius: tuple[float, float] = (4.0, 7.0)
    texture_contrast: float = 14.0
    fast_speed: tuple[float, float] | None = None
    still_shapes: int = 0
    wandering_shapes: int = 0
    camera_drift: float = 0.0

    def __post_init__(self):
        if self.height < 16 or self.width < 16 or self.height % 2 or self.width % 2:
            raise UserError(
                f"height and width must be even and at least 16, not {self.height}, {self.width}"
            )
        for name in ("num_frames", "fps", "num_shapes", "lifetime"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("still_shapes", "wandering_shapes"):
            if getattr(self, name) < 0:
                raise UserError(f"{name} must be at least 0, not {getattr(self, name)}")
        if not 0 <= self.camera_drift < math.inf:
            raise UserError(f"camera_drift must be finite and >= 0, not {self.camera_drift}")
        for name in ("speed", "radius", "fast_speed"):
            if name == "fast_speed" and self.fast_speed is None:
                continue
            least, most = getattr(self, name)
            if not 0 < least <= most:
                raise UserError(
                    f"{name} must be (least, most) with 0 < least <= most, not {(least, most)}"
                )
        if self.fast_speed is not None and self.fast_speed[0] <= self.speed[1]:
            raise UserError(
                f"fast_speed={tuple(self.fast_speed)} must begin above the end of "
                f"speed={tuple(self.speed)}"
            )
        if self.window > min(self.height, self.width):
            raise UserError(
                f"shapes of radius {self.radius[1]} do not fit into {self.height} x {self.width}"
            )

    @property
    def class_names(self):
        """Names of the classes, in the order of their numbers: the slow ones before the fast."""
        if self.fast_speed is None:
            return DIRECTIONS
        return tuple(f"{name}_{pace}" for pace in ("slow", "fast") for name in DIRECTIONS)

    @property
    def window(self):
        """Side of the square of pixels that holds the largest shape (int)."""
        return 2 * math.ceil(self.radius[1]) + 5


# 16 classes of direction and speed, among shapes and a camera whose motion tells nothing; clips of
# 8 frames, 2 apart, see about two lives of each shape.
HARD_SHAPES = MovingShapes(
    height=48,
    width=48,
    num_frames=24,
    num_shapes=8,
    lifetime=8,
    speed=(0.8, 1.2),
    radius=(3.0, 5.0),
    fast_speed=(2.2, 3.0),
    still_shapes=2,
    wandering_shapes=4,
    camera_drift=0.8,
)


def write_moving_shapes(
    root, *, videos_per_class, seed, shapes=MovingShapes(), num_workers=None, progress=None
):
    """Writes H.264 files ``root/<class>/<class>_<number>.mp4``, a folder for each class.

    Every video is a pure function of (seed, class, number, shapes). A file takes its name only
    when it is complete.

    Args:
        root: path of the folder, made if need be.
        videos_per_class: int.
        seed: int >= 0. Give training and test videos different seeds.
        shapes: MovingShapes.
        num_workers: int. Videos made at the same time; by default one for each processor.
        progress: optional function of (videos done, videos in all), called after each video.

    Returns:
        pathlib.Path of `root`.

    Raises:
        UserError: `videos_per_class` below 1, or a negative seed.
    """
    if videos_per_class < 1:
        raise UserError(f"videos_per_class must be at least 1, not {videos_per_class}")
    if seed < 0:
        raise UserError(f"the seed must be 0 or more, not {seed}")
    root = pathlib.Path(root)
    names = shapes.class_names
    for name in names:
        (root / name).mkdir(parents=True, exist_ok=True)

    def write(label, number):
        path = root / names[label] / f"{names[label]}_{number:04d}.mp4"
        frames = render(label, shapes, video_generator(seed, label, number))
        write_atomically(path, lambda temporary: _encode(temporary, frames, shapes.fps))

    with concurrent.futures.ThreadPoolExecutor(num_workers or os.cpu_count()) as pool:
        jobs = [
            pool.submit(write, label, number)
            for number in range(videos_per_class)
            for label in range(len(names))
        ]
        for done, job in enumerate(concurrent.futures.as_completed(jobs), start=1):
            job.result()
            if progress:
                progress(done, len(jobs))
    return root


def video_generator(seed, label, number):
    """The numpy.random.Generator of a file of `write_moving_shapes`, for `render`."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(label, number)))


def render(label, shapes, rng):
    """The frames of one video.

    Args:
        label: int, index into `MovingShapes.class_names`.
        shapes: MovingShapes.
        rng: numpy.random.Generator.

    Returns:
        uint8 array (num_frames, height, width, 3), RGB.
    """
    return render_with_masks(label, shapes, rng)[0]


def render_with_masks(label, shapes, rng):
    """The frames of one video, and where the shapes are that show its class.

    Args:
        label, shapes, rng: as those of `render`.

    Returns:
        (frames as `render` returns them, bool (num_frames, height, width), true at pixels that a
        shape of the class's motion covers by half or more).
    """
    fast, direction = divmod(label, len(DIRECTIONS))
    speed = shapes.fast_speed if fast else shapes.speed
    any_speed = (shapes.speed[0], (shapes.fast_speed or shapes.speed)[1])
    frames = np.repeat(_background(shapes, rng)[None], shapes.num_frames, axis=0)
    camera = np.zeros([shapes.num_frames, 2])
    if shapes.camera_drift:
        drift = rng.uniform(0, shapes.camera_drift) * _heading(rng.uniform(0, 2 * np.pi))
        camera += np.arange(shapes.num_frames)[:, None] * drift
        frames = np.stack([_shifted(*pair) for pair in zip(frames, camera, strict=True)])
    masks = np.zeros(frames.shape[:3], bool)
    for _ in range(shapes.still_shapes):
        _draw_shape(frames, masks.copy(), shapes, rng, speed=(0, 0), angle=0, camera=camera)
    for _ in range(shapes.wandering_shapes):
        _draw_shape(frames, masks.copy(), shapes, rng, speed=any_speed, angle=None, camera=camera)
    for _ in range(shapes.num_shapes):
        angle = direction * np.pi / 4
        _draw_shape(frames, masks, shapes, rng, speed=speed, angle=angle, camera=camera)
    return np.rint(frames).astype(np.uint8), masks


def _heading(angle):
    """Unit vectors (..., 2) of angles (...) that count counterclockwise; rows count downwards."""
    return np.stack([np.cos(angle), -np.sin(angle)], axis=-1)


def _background(shapes, rng):
    """A still texture: noise at several scales over a random dark colour; float32 (H, W, 3)."""
    image = np.zeros([shapes.height, shapes.width, 3], np.float32)
    for cell in (2, 4, 8, 16):
        rows, columns = -(-shapes.height // cell), -(-shapes.width // cell)
        noise = rng.standard_normal([rows, columns, 3]).astype(np.float32)
        image += noise.repeat(cell, 0).repeat(cell, 1)[: shapes.height, : shapes.width]
    image *= shapes.texture_contrast / image.std()
    return np.clip(image + rng.uniform(30, 110, 3).astype(np.float32), 0, 255)


def _shifted(image, offset):
    """An image (H, W, 3) moved by (x, y) pixels, around its edges; between pixels bilinear."""
    whole = np.floor(offset)
    for axis, (steps, part) in enumerate(zip(whole[::-1], (offset - whole)[::-1], strict=True)):
        near = np.roll(image, int(steps), axis)
        image = (near + np.float32(part) * (np.roll(near, 1, axis) - near)).astype(np.float32)
    return image


def _draw_shape(frames, masks, shapes, rng, *, speed, angle, camera):
    """Draws one shape, life after life, into all frames and masks (T, H, W), in place.

    Args:
        speed: (least, most) pixels a frame.
        angle: of its motion; None draws one for each life.
        camera: float (T, 2), (x, y) that everything is moved by.
    """
    num_frames, height, width, _ = frames.shape
    # The first life is already under way for a random time.
    ages = np.arange(num_frames) + rng.integers(shapes.lifetime)
    life, age = np.divmod(ages, shapes.lifetime)
    lives = life[-1] + 1
    kind = rng.integers(len(_KINDS), size=lives)[life]
    radius = rng.uniform(*shapes.radius, lives).astype(np.float32)[life, None, None]
    # Always brighter than the background: where either sign of contrast may occur, a model
    # sees no motion at all until it has learnt to ignore the sign, which takes most of an hour.
    colour = rng.uniform(150, 255, [lives, 3]).astype(np.float32)[life, None, None, :]
    birth = rng.uniform(0, [width, height], [lives, 2])
    speed = rng.uniform(*speed, [lives, 1])
    angle = np.full(lives, angle) if angle is not None else rng.uniform(0, 2 * np.pi, lives)
    centre = birth[life] + (speed[life] * age[:, None]) * _heading(angle)[life] + camera

    # Only a window around the centre changes; it wraps around the frame's edges.
    reach = shapes.window // 2
    corner = np.floor(centre).astype(np.int64) - reach
    columns, rows = (corner[:, :, None] + np.arange(shapes.window)).transpose(1, 0, 2)
    x = (columns - centre[:, :1]).astype(np.float32)[:, None, :]
    y = (rows - centre[:, 1:]).astype(np.float32)[:, :, None]
    extent = np.empty([num_frames, shapes.window, shapes.window], np.float32)
    for number, measure in enumerate(_KINDS.values()):
        chosen = kind == number
        extent[chosen] = measure(x[chosen], y[chosen], radius[chosen])
    cover = np.clip(radius + 0.5 - extent, 0, 1)[..., None]
    rows, columns = rows[:, :, None] % height, columns[:, None, :] % width
    where = np.arange(num_frames)[:, None, None], rows, columns
    under = frames[where]
    frames[where] = under + cover * (colour - under)
    masks[where] |= cover[..., 0] >= 0.5


def _encode(path, frames, fps):
    """Writes RGB frames as H.264 in an mp4 file."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        # The same frames must give the same file: x264's macroblock tree does not see to that
        # on frames this small, nor do several threads.
        stream.options = {"preset": "veryfast", "crf": "18", "mbtree": "0", "threads": "1"}
        for pixels in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
