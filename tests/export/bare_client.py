"""Asks an export good and bad requests, in a process that has TensorFlow and NumPy alone.

    python bare_client.py VERSION ANSWERS.json

Each signature is asked through `tf.saved_model.load` and through the loader for sessions, which is
TensorFlow Serving's way. After every bad request a good one is asked.
"""

import functools
import json
import sys

# An import of these now raises ImportError.
sys.modules["mvit_tf"] = sys.modules["keras"] = None

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from tensorflow.core.protobuf import config_pb2  # noqa: E402


def requests():
    """(name, signature, inputs): the first of each signature is a good one."""
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (2, 5, 40, 50, 3), np.uint8)
    jpegs = [tf.io.encode_jpeg(frame).numpy() for frame in frames[0]]
    small = tf.io.encode_jpeg(frames[0, 0, :20, :20]).numpy()

    def pixels(array):
        return "serving_default", {"frames": array}

    def examples(*pictures):
        return "serve_examples", {"examples": np.array([example(*pictures)], object)}

    def rated(*rates):
        return "serve_video_examples", {
            "examples": np.array([example(*jpegs, rates=rates)], object)
        }

    def fps(*rates):
        return "serve_videos", {"frames": frames, "fps": np.array(rates, np.float64)}

    yield "good frames", *pixels(frames)
    yield "wrong rank", *pixels(frames[0])
    yield "zero frames", *pixels(frames[:, :0])
    yield "zero height", *pixels(frames[:, :, :0])
    yield "one pixel", *pixels(frames[:, :, :1, :1])
    yield "empty batch", *pixels(frames[:0])
    # Never written, so it takes no memory as long as nobody reads it.
    yield "4 GiB", *pixels(tf.raw_ops.Empty(shape=[1, 4, 16384, 21846, 3], dtype=tf.uint8))
    yield "a long side", *pixels(np.zeros((1, 1, 8, 65537, 3), np.uint8))
    yield "a ribbon", *pixels(np.zeros((12, 4, 8, 65536, 3), np.uint8))
    yield "good example", *examples(*jpegs)
    yield "no JPEG", *examples(jpegs[0], b"GIF89a", *jpegs[2:])
    yield "cut JPEG", *examples(*(jpeg[: len(jpeg) // 2] for jpeg in jpegs))
    yield "no frames", *examples()
    yield "different sizes", *examples(*jpegs[:4], small)
    yield "large JPEG", *examples(tf.io.encode_jpeg(np.zeros((4096, 8193, 3), np.uint8)).numpy())
    yield "no example", "serve_examples", {"examples": np.array([b"\xffnothing"], object)}
    yield "no examples", "serve_examples", {"examples": np.array([], object)}
    yield "good videos", *fps(30.0, 25.0)
    yield "no frame rate", *fps(30.0, 0.0)
    yield "one frame rate", *fps(30.0)
    yield "good video example", *rated(25.0)
    yield "video example without a rate", *rated()
    yield "a rate of zero", *rated(0.0)
    yield "a rate too high", *rated(2e5)
    yield "two rates", *rated(25.0, 30.0)


def example(*jpegs, rates=()):
    message = tf.train.SequenceExample()
    if rates:
        message.context.feature["image/frame_rate"].float_list.value.extend(rates)
    for jpeg in jpegs:
        feature = message.feature_lists.feature_list["image/encoded"].feature.add()
        feature.bytes_list.value.append(jpeg)
    return message.SerializeToString()


def by_load(version):
    """Asks through `tf.saved_model.load`."""
    loaded = tf.saved_model.load(version)

    def ask(signature, inputs):
        tensors = {name: tf.convert_to_tensor(value) for name, value in inputs.items()}
        return loaded.signatures[signature](**tensors)["probabilities"].numpy()

    return ask


def by_session(version):
    """Asks through a session, with the shapes of what is fed unchecked, as a server feeds it."""
    session = tf.compat.v1.Session(graph=tf.Graph())
    with session.graph.as_default():
        meta_graph = tf.compat.v1.saved_model.loader.load(session, ["serve"], version)

    @functools.cache  # Each is optimised anew.
    def call_of(signature):
        signature = meta_graph.signature_def[signature]
        names = sorted(signature.inputs)
        options = config_pb2.CallableOptions(
            feed=[signature.inputs[name].name for name in names],
            fetch=[signature.outputs["probabilities"].name],
        )
        return session._make_callable_from_options(options), names

    def ask(signature, inputs):
        call, names = call_of(signature)
        return call(*(inputs[name] for name in names))[0]

    return ask


def main(version, answers):
    found = {}
    for open_export in (by_load, by_session):
        ask = open_export(version)
        good, expected = {}, {}
        for name, signature, inputs in requests():
            if name == "4 GiB" and open_export is by_session:
                continue  # What is fed to a session is copied.
            try:
                answer = ["answered", ask(signature, inputs).tolist()]
            except Exception as error:  # Whatever it is, it is what is to be seen.
                answer = [type(error).__name__, str(error)]
            found.setdefault(name, []).append(answer)
            if signature not in good:
                good[signature], expected[signature] = inputs, answer[1]
            again = ask(signature, good[signature])
            if not np.allclose(again, expected[signature], atol=1e-6):
                raise SystemExit(f"after {name!r} a good request was answered otherwise")
    with open(answers, "w") as file:
        json.dump(found, file, indent=1)


if __name__ == "__main__":
    main(*sys.argv[1:])
