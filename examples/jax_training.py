"""Trains an MViT with Keras on JAX, on one device; the clips come from this package's tf.data.

    KERAS_BACKEND=jax python examples/jax_training.py my_videos trained.weights.h5 --epochs=20

`my_videos` holds a folder for each class. TensorFlow decodes, on the processor; the model and its
training are JAX's. The weights file is that of every backend:
`mvit_tf.MViT(config).load_weights(...)` takes it on TensorFlow.
"""

import argparse
import os
from collections.abc import Sequence

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras  # noqa: E402
import tensorflow as tf  # noqa: E402

import mvit_tf  # noqa: E402
from mvit_tf.data.lists.video_list import load_video_list  # noqa: E402
from mvit_tf.data.outcomes import OutcomeLedger  # noqa: E402
from mvit_tf.data.pipeline import steps_per_epoch, train_dataset  # noqa: E402
from mvit_tf.data.preprocessing import Augmentation, Preprocessing  # noqa: E402
from mvit_tf.data.sampling import ClipSampling  # noqa: E402

SEED = 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("videos", help="folder of class folders")
    parser.add_argument("output", help="the .weights.h5 file to write")
    parser.add_argument("--model", default="mvit_b_16x4", help="see `mvit describe`")
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--size", type=int, default=112, help="height and width of the clips")
    parser.add_argument("--depths", type=int, nargs="+", help="blocks of each stage")
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--learning_rate", type=float, default=1e-3)
    return parser.parse_args(arguments)


def main(
    arguments: Sequence[str] | None = None,
) -> tuple[mvit_tf.MViT, keras.callbacks.History]:
    flags = parse(arguments)
    tf.config.set_visible_devices([], "GPU")  # that memory is JAX's
    keras.utils.set_random_seed(SEED)
    videos = load_video_list(flags.videos)
    clips = train_dataset(
        videos,
        sampling=ClipSampling(num_frames=flags.frames),
        preprocessing=Preprocessing(size=(flags.size, flags.size), short_side=flags.size * 8 // 7),
        augmentation=Augmentation(flip=False),
        batch_size=flags.batch_size,
        epochs=flags.epochs,
        seed=SEED,
        ledger=OutcomeLedger(),
    )
    steps = steps_per_epoch(videos, flags.batch_size)
    config = mvit_tf.get_config(flags.model).replace(
        num_classes=videos.num_classes,
        input_shape=(flags.frames, flags.size, flags.size, 3),
        **({"depths": tuple(flags.depths)} if flags.depths else {}),
    )
    model = mvit_tf.MViT(config)
    schedule = keras.optimizers.schedules.CosineDecay(flags.learning_rate, flags.epochs * steps)
    model.compile(
        keras.optimizers.AdamW(schedule, weight_decay=0.05, global_clipnorm=1.0),
        loss=keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1),
        metrics=["accuracy"],
    )
    # The clips are those of all epochs, in random order.
    history = model.fit(clips, epochs=flags.epochs, steps_per_epoch=steps, shuffle=False)
    model.save_weights(flags.output)
    return model, history


if __name__ == "__main__":
    main()
