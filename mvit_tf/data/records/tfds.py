"""Video sets of TensorFlow Datasets, such as ucf101, read from the files that their builders wrote.

Their records hold the features `video`, whose frames are PNG or JPEG, and `label`.
"""

import glob
import json
import os
import re

from mvit_tf.data.lists.class_names import load_class_names, read_text
from mvit_tf.data.lists.entries import Entry, Listing
from mvit_tf.data.records import examples, storage
from mvit_tf.data.records.index import read_heads
from mvit_tf.errors import UserError

_INFO = "dataset_info.json"


def is_tfds_folder(source):
    """Whether a folder holds a version of a set of TensorFlow Datasets."""
    return not storage.is_remote(source) and os.path.isfile(os.path.join(source, _INFO))


def find_tfds_folder(name, data_dir=None):
    """The folder of the newest version of a set that was built here.

    Args:
        name: str, such as "ucf101", "ucf101/ucf101_1_256" or "ucf101:2.0.0".
        data_dir: folder of all sets; None is that of TensorFlow Datasets.

    Raises:
        UserError: there is none, or there are several of its configurations.
    """
    if data_dir is None:
        data_dir = os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")
    name, _, wanted = name.partition(":")
    root = os.path.join(os.path.expanduser(data_dir), name)
    found = [
        os.path.dirname(path)
        for path in glob.glob(f"{glob.escape(root)}/**/{_INFO}", recursive=True)
    ]
    versions = {path: os.path.basename(path) for path in found}
    if wanted:
        versions = {path: version for path, version in versions.items() if version == wanted}
    if not versions:
        which = f" of the version {wanted}" if wanted else ""
        raise UserError(
            f"data.tfds_name={name}: nothing{which} is built in {root}; build it with "
            f"`tfds build {name}`, or set data.tfds_data_dir"
        )
    configs = sorted({os.path.dirname(path) for path in versions})
    if len(configs) > 1:
        named = ", ".join(os.path.relpath(path, os.path.dirname(root)) for path in configs)
        raise UserError(f"data.tfds_name={name} has several configurations, give one: {named}")
    return max(
        versions, key=lambda path: [int(part) for part in re.findall("[0-9]+", versions[path])]
    )


def read_tfds(folder):
    """All splits of a set, with the column `split`.

    Args:
        folder: str, for which `is_tfds_folder`.

    Returns:
        Listing.

    Raises:
        UserError: not of videos with a label, or not in TFRecord files.
    """
    path = os.path.join(folder, _INFO)
    info = json.loads(read_text(path))
    if info.get("fileFormat", "tfrecord") != "tfrecord":
        raise UserError(f"{path}: files of the format {info['fileFormat']}; only tfrecord is read")
    names_file = os.path.join(folder, f"{examples.TFDS_LABEL}.labels.txt")
    if not os.path.isfile(names_file):
        raise UserError(f"{folder}: its feature {examples.TFDS_LABEL} has no class names")
    class_names = load_class_names(names_file)
    entries, passed_over = [], []
    for split in info["splits"]:
        marker = f"-{split['name']}.tfrecord"
        files = [path for path in storage.listed(folder) if marker in os.path.basename(path)]
        for file in files:
            for path, head in read_heads(file, passed_over):
                label = head.labels[0]
                label = class_names[label] if 0 <= label < len(class_names) else str(label)
                entries.append(Entry(path, label, path, fields={"split": split["name"]}))
    return Listing(
        entries, columns=("split",), class_names=class_names, passed_over=tuple(passed_over)
    )
