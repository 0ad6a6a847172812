"""Trains an MViT by Keras' own compile and fit, with this package's data and model.

    python examples/keras_fit.py my_videos trained.keras --epochs=20

`my_videos` holds a folder for each class. Early stopping and the best checkpoint are Keras'
callbacks; `mvit predict trained.keras video.mp4` then takes the model, as it knows how its clips
are made.
"""

import argparse
from collections.abc import Sequence

import keras
import tensorflow as tf

import mvit_tf
from mvit_tf.data.lists.splits import split_validation
from mvit_tf.data.lists.video_list import VideoList, load_video_list
from mvit_tf.data.outcomes import OutcomeLedger
from mvit_tf.data.pipeline import evaluation_views, steps_per_epoch, train_dataset
from mvit_tf.data.preprocessing import Augmentation, Preprocessing
from mvit_tf.data.sampling import ClipSampling

SEED = 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("videos", help="folder of class folders")
    parser.add_argument("output", help="the .keras file to write")
    parser.add_argument("--model", default="mvit_b_16x4", help="see `mvit describe`")
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--size", type=int, default=112, help="height and width of the clips")
    parser.add_argument("--depths", type=int, nargs="+", help="blocks of each stage")
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--learning_rate", type=float, default=1e-3)
    return parser.parse_args(arguments)


def validation_clips(videos: VideoList, **options) -> tf.data.Dataset:
    """Batches of the middle clip of each video, and its label as zeros and ones."""
    targets = tf.constant(videos.label_matrix(), tf.float32)
    views = evaluation_views(videos, num_clips=1, num_crops=1, ledger=OutcomeLedger(), **options)
    return views.map(lambda clips, index: (clips, tf.gather(targets, index)))


def main(arguments: Sequence[str] | None = None) -> keras.callbacks.History:
    flags = parse(arguments)
    keras.utils.set_random_seed(SEED)
    training, validation = split_validation(load_video_list(flags.videos), 0.2, SEED)

    sampling = ClipSampling(num_frames=flags.frames)
    preprocessing = Preprocessing(size=(flags.size, flags.size), short_side=flags.size * 8 // 7)
    shared = {
        "sampling": sampling,
        "preprocessing": preprocessing,
        "batch_size": flags.batch_size,
    }
    ledger = OutcomeLedger()  # what became of each video; one that is broken is replaced
    clips = train_dataset(
        training,
        **shared,
        augmentation=Augmentation(flip=False),
        epochs=flags.epochs,
        seed=SEED,
        ledger=ledger,
    )
    steps = steps_per_epoch(training, flags.batch_size)

    config = mvit_tf.get_config(flags.model).replace(
        num_classes=training.num_classes,
        input_shape=(flags.frames, flags.size, flags.size, 3),
        **({"depths": tuple(flags.depths)} if flags.depths else {}),
    )
    model = mvit_tf.MViT(
        config,
        preprocessing=preprocessing,
        sampling=sampling,
        class_names=training.class_names,
    )
    schedule = keras.optimizers.schedules.CosineDecay(flags.learning_rate, flags.epochs * steps)
    model.compile(
        keras.optimizers.AdamW(schedule, weight_decay=0.05, global_clipnorm=1.0),
        loss=keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1),
        metrics=["accuracy"],
        jit_compile=False,
    )
    history = model.fit(
        clips,
        epochs=flags.epochs,
        steps_per_epoch=steps,  # the clips are those of all epochs
        shuffle=False,  # they are
        validation_data=validation_clips(validation, **shared),
        callbacks=[
            keras.callbacks.ModelCheckpoint(flags.output, "val_loss", save_best_only=True),
            keras.callbacks.EarlyStopping("val_loss", patience=5),
        ],
    )
    print(f"decoding: {ledger.summary()}")
    return history


if __name__ == "__main__":
    main()
