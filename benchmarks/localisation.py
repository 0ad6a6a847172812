"""How much of an explanation lies on what moves, on the demo's held-out videos.

    mvit demo && python -m benchmarks.localisation demo_run

The videos are a function of their seed, so that it is known which pixels their shapes cover. A
clip's enrichment is the share of the heat that lies on these pixels over the share of all pixels
that they are: 1 for heat that knows nothing of them. Beside the trained model the same is printed
of random weights, and of the difference between frames, which knows no model.
"""

import argparse
import dataclasses
from pathlib import Path

import keras
import numpy as np

from mvit_tf.console import format_table
from mvit_tf.data.moving_shapes import DIRECTIONS, MovingShapes, render_with_masks, video_generator
from mvit_tf.data.transforms import evaluation_preprocess
from mvit_tf.explain.explanation import explain_preprocessed
from mvit_tf.explain.methods import METHODS
from mvit_tf.explain.video_clip import read_clip
from mvit_tf.export.metadata import model_metadata
from mvit_tf.export.predictor import open_predictor

# That of the demo's third split.
HELD_OUT_SEED = 2
# A clip passes whose heat is so much denser on the shapes than over all.
LEAST_ENRICHMENT = 1.5
FRAME_DIFFERENCE = "frame difference"


def measure(model, folder, *, per_class, seed=HELD_OUT_SEED, methods=tuple(METHODS)):
    """The enrichment of each video's clip.

    Args:
        model: MViT.
        folder: of `write_moving_shapes`.
        per_class: int, videos of each direction, the first ones.
        seed: int, that of the videos.
        methods: of `METHODS`.

    Returns:
        dict from method, and "frame difference", to float (8 * per_class,).
    """
    metadata = model_metadata(model)
    found = {method: [] for method in (*methods, FRAME_DIFFERENCE)}
    for number in range(per_class):
        for direction, name in enumerate(DIRECTIONS):
            clip, _ = read_clip(Path(folder, name, f"{name}_{number:04d}.mp4"), metadata)
            mask = clip_mask(direction, number, seed, metadata)
            for method in methods:
                heat = explain_preprocessed(model, clip, method=method).heat
                found[method].append(enrichment(heat, mask))
            found[FRAME_DIFFERENCE].append(enrichment(frame_difference(clip), mask))
    return {method: np.array(values) for method, values in found.items()}


def clip_mask(direction, number, seed, metadata):
    """Which pixels of a video's clip, as the model sees it, a shape covers by half: (T, h, w)."""
    shapes = MovingShapes()
    _, masks = render_with_masks(direction, shapes, video_generator(seed, direction, number))
    picks = metadata.sampling.evaluation_indices(shapes.num_frames, shapes.fps, 1)[0]
    pixels = np.repeat(masks[picks, ..., np.newaxis] * np.uint8(255), 3, axis=-1)
    plain = dataclasses.replace(metadata.preprocessing, mean=(0, 0, 0), std=(1, 1, 1))
    return evaluation_preprocess(pixels, plain).numpy()[..., 0] >= 0.5


def enrichment(heat, mask):
    """Share of the heat inside of a mask over the mask's share of the pixels."""
    return float(heat[mask].sum() / heat.sum() / mask.mean())


def frame_difference(clip):
    """The larger of the changes from the frame before and to the one after, (T, h, w)."""
    change = np.abs(np.diff(clip, axis=0)).sum(axis=-1)
    return np.maximum(np.concatenate([change[:1], change]), np.concatenate([change, change[-1:]]))


def with_random_weights(model, seed=0):
    """The same model before any training."""
    keras.utils.set_random_seed(seed)
    return type(model).from_config(model.get_config())


def table(results):
    """The figures of `measure`, as text.

    Args:
        results: dict from the name of a model to what `measure` returns.
    """
    rows = [
        (
            name,
            method,
            f"{np.median(values):.2f}",
            f"{np.quantile(values, 0.1):.2f}",
            f"{(values > LEAST_ENRICHMENT).mean():.1%}",
        )
        for name, methods in results.items()
        for method, values in methods.items()
    ]
    return format_table(("model", "heat", "median", "10th %", f"> {LEAST_ENRICHMENT}"), rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("demo", metavar="FOLDER", help="of `mvit demo`")
    parser.add_argument("--videos", type=int, default=16, help="of each class (default 16)")
    arguments = parser.parse_args()
    folder = Path(arguments.demo, "videos", "held_out")
    model = open_predictor(Path(arguments.demo, "model")).model
    random = with_random_weights(model)
    results = {
        name: measure(model, folder, per_class=arguments.videos)
        for name, model in {"trained": model, "random weights": random}.items()
    }
    print(f"{8 * arguments.videos} clips")
    print(table(results))


if __name__ == "__main__":
    main()
