"""Record sets made in a test."""

from mvit_tf.data.lists.video_list import load_video_list
from mvit_tf.data.records.encoding import Encoding
from mvit_tf.data.records.plan import make_plan
from mvit_tf.data.records.prepare import prepare
from mvit_tf.data.records.shards import encode_member, write_shard
from tests.data.videos import write_numbered


def in_this_process(plan, numbers, finish, advance):
    """Makes files as `LocalShards` does, without processes."""
    for number in numbers:
        made = (encode_member(plan, index, call) for index in plan.members[number])
        finish(number, write_shard(plan, number, made))


def call(function, path, *args):
    """Runs a decoding function here, as `DecodeWorkers.run` does in a worker."""
    return function(path, *args)


def class_folders(root, *, count=6):
    """Numbered videos of 20 frames and more in two class folders."""
    for number in range(count):
        path = root / "ab"[number % 2] / f"{number}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_numbered(path, 20 + number)
    return root


def planned(source, output, *, name="set", num_shards=2, multi_label=False, **encoding):
    """The Plan of a set."""
    return make_plan(
        load_video_list(source, multi_label=multi_label),
        str(source),
        str(output),
        name=name,
        encoding=Encoding(**encoding),
        num_shards=num_shards,
    )


def make_set(source, output, *, max_failure_share=0.5, make_shards=in_this_process, **options):
    """The Manifest of a set made of class folders."""
    plan = planned(source, output, **options)
    return prepare(plan, make_shards, max_failure_share=max_failure_share)[0]


def contents(folder):
    """Name -> bytes of everything in a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
