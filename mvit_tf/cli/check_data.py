"""Reads a folder or list of videos as training would, and decodes each to its end.

Prints what training would stumble over: videos that cannot be decoded and how much of them can,
mistakes in the list, what was passed over, classes with too few videos, and what is on both sides
of the split; then what the videos are. The exit status is 2 where a video cannot be decoded, the
list has a mistake, or a file or group is on both sides, else 0; 130 after Ctrl-C.
"""

import argparse
import collections
import dataclasses
import os
import statistics
from concurrent.futures import ThreadPoolExecutor, as_completed

from mvit_tf.cli.arguments import positive_int
from mvit_tf.console import format_table, progress
from mvit_tf.errors import UserError
from mvit_tf.files import one_line, write_json_lines
from mvit_tf.remote_path import as_path
from mvit_tf.urls import is_url, without_secrets

NAME = "check-data"
SUMMARY = "decode every video of a folder or list, and name what is wrong with them"

# Values of a property that are named, and pairs of videos that look alike.
_MOST_COMMON = 4
_NAMED = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="a folder with one folder of videos per class, a list (CSV, JSON, `path label`), or a "
        "record set",
    )
    parser.add_argument("--validation", metavar="SOURCE", help="the videos for validation, if any")
    parser.add_argument(
        "--train_split", metavar="NAME", help="take the lines of SOURCE with this split"
    )
    parser.add_argument(
        "--validation_split", metavar="NAME", help="take the lines of --validation with this split"
    )
    parser.add_argument(
        "--group_by",
        metavar="WHAT",
        help="what tells the sources of videos apart: a column of the list, `folder`, or a "
        "regular expression on the file's name",
    )
    parser.add_argument(
        "--nested", action="store_true", help="take the videos of folders within class folders too"
    )
    parser.add_argument(
        "--root", metavar="FOLDER", help="where relative paths of a list start from"
    )
    parser.add_argument(
        "--separator", metavar="TEXT", help="what stands between path and label (white space)"
    )
    parser.add_argument(
        "--label_map", metavar="FILE", help="the class names in index order, as data.label_map"
    )
    parser.add_argument(
        "--multi_label",
        action="store_true",
        help="a video may have any number of labels, as data.multi_label",
    )
    parser.add_argument(
        "--images",
        action="store_true",
        help="images in place of videos, as an image model is trained on",
    )
    parser.add_argument(
        "--unlabelled",
        action="store_true",
        help="videos for a pre-training: a folder with videos at any depth, a list of paths, or a "
        "labelled set whose labels are left",
    )
    parser.add_argument(
        "--clip_seconds",
        type=_seconds,
        metavar="S",
        help="how long a clip of the training is: name the videos and segments that are shorter",
    )
    parser.add_argument(
        "--workers",
        "--threads",  # its former name
        type=positive_int,
        default=os.cpu_count(),
        metavar="N",
        help="videos decoded at once (default: the number of processors)",
    )
    parser.add_argument(
        "--output", metavar="FILE", help="write what is known of every file, one JSON object a line"
    )


def run(arguments: argparse.Namespace) -> None:
    from mvit_tf.data.lists.class_names import shortened
    from mvit_tf.data.lists.data_checks import about_lengths

    if arguments.output and as_path(arguments.output).is_dir():
        raise UserError(f"--output={arguments.output} is a folder; name a file in it")
    mistakes = []
    lists = _load(arguments, mistakes)
    paths = list(dict.fromkeys(path for videos in lists.values() for path in videos.paths))
    decoded = _decode_all(paths, arguments.workers, arguments.images)
    files = [file for file, _ in decoded]
    passed_over = list(dict.fromkeys(e for videos in lists.values() for e in videos.passed_over))
    alike = _look_alikes(decoded, lists)
    if arguments.output:
        _write(arguments.output, lists, files, passed_over, alike)

    more_mistakes, warnings = _findings(arguments.source, lists, alike)
    lengths = {file.path: file.duration for file in files if file.outcome == "ok" and file.duration}
    for side, videos in lists.items():
        outside, doubtful = about_lengths(videos, lengths, arguments.clip_seconds)
        more_mistakes += [f"{side}: {line}" for line in outside]
        warnings += [f"{side}: {line}" for line in doubtful]
    joined = [file.path for file in files if file.outcome == "ok" and file.detail]
    if joined:
        warnings.append(
            f"{len(joined)} files hold another video after the first, which is not read, as files "
            f"joined byte by byte do: {shortened(joined, _NAMED)}; join them by a video tool"
        )
    # Both sides may be of one list.
    mistakes = list(dict.fromkeys(mistakes + more_mistakes))
    warnings = list(dict.fromkeys(warnings))
    said = [f"mistake  {one_line(line)}" for line in mistakes]
    said += [f"warning  {one_line(line)}" for line in warnings]
    tables = _tables(lists, files, passed_over)
    print(without_secrets("\n\n".join(["\n".join(said), *tables] if said else tables)))
    failed = sum(file.outcome != "ok" for file in files)
    wrong = []
    if failed:
        wrong.append(f"{len(files)} videos, {failed} left out ({failed / len(files):.1%})")
    damaged = sum(reason.startswith("corrupt_record") for _, reason in passed_over)
    if damaged:
        wrong.append(f"{damaged} damaged records")
    if mistakes:
        wrong.append(f"{len(mistakes)} mistakes in the list")
    if wrong:
        raise UserError(f"{arguments.source}: {' and '.join(wrong)}, named above")


@dataclasses.dataclass(frozen=True)
class CheckedFile:
    """What became of a video, and what it is as far as it can be opened.

    Args:
        path, outcome, detail: as in `OutcomeLedger`; the detail of one that is "ok" says what
            is not read of it.
        readable: float, share of the frames that are not damaged or lost.
        duration: float, seconds.
        fps: float.
        width, height: int, pixels as shown.
        codec: str, FFmpeg's name of it.
    """

    path: str
    outcome: str = "ok"
    detail: str = ""
    readable: float = 0.0
    duration: float | None = None
    fps: float | None = None
    width: int | None = None
    height: int | None = None
    codec: str | None = None


def check_file(path: str, images: bool = False):
    """Decodes every frame of a video; keeps none. To be run by `DecodeWorkers`.

    Args:
        path: of the video.
        images: whether it is an image, if its name says so.

    Yields:
        None now and then, so that a long video is not taken for one that hangs; at last
        (CheckedFile, mean of the `look_alikes.thumbnail`s of some frames or None where it failed).
    """
    from mvit_tf.data.image_file import open_image
    from mvit_tf.data.lists.entries import is_image
    from mvit_tf.data.lists.look_alikes import moments, thumbnail
    from mvit_tf.data.records.reading import open_source, parse_record_name
    from mvit_tf.data.records.scan import scan_source_steps
    from mvit_tf.data.video.joined import second_file

    names = ("duration", "fps", "width", "height", "codec")  # an image has no time
    if images and is_image(path):
        with open_image(path) as image:
            (pixels,) = image.frames_at_indices([0])
        known = {name: getattr(image.info, name) for name in names[2:]}
        yield CheckedFile(path, readable=1.0, **known), thumbnail(pixels)
        return
    for scan in scan_source_steps(path):
        if scan is None:
            yield None
    known = {name: getattr(scan.info, name) for name in names}
    if scan.num_damaged:
        yield CheckedFile(path, "decode_error", scan.detail, 1 - scan.damaged_share, **known), None
        return
    with open_source(path) as video:
        frames = video.frames_at_indices(moments(scan.info.num_frames))
    is_local_file = parse_record_name(path) is None and not is_url(path)
    joint = second_file(path) if is_local_file else None
    detail = "" if joint is None else f"another video begins at byte {joint:,} and is not read"
    mean = sum(map(thumbnail, frames)) / len(frames)
    yield CheckedFile(path, detail=detail, readable=1.0, **known), mean


def _load(arguments, mistakes):
    """Side of the split -> VideoList."""
    if arguments.unlabelled:
        return {"train": _load_unlabelled(arguments)}
    from mvit_tf.data.lists.class_names import load_label_map
    from mvit_tf.data.lists.video_list import load_video_list

    def load(source, split, class_names):
        return load_video_list(
            source,
            root=arguments.root,
            separator=arguments.separator,
            class_names=class_names,
            split=split,
            group_by=arguments.group_by,
            nested=arguments.nested,
            multi_label=arguments.multi_label,
            images=arguments.images,
            problems=mistakes,
        )

    names = None if arguments.label_map is None else load_label_map(arguments.label_map)
    lists = {"train": load(arguments.source, arguments.train_split, names)}
    if arguments.validation is not None:
        names = lists["train"].class_names
        lists["validation"] = load(arguments.validation, arguments.validation_split, names)
    elif arguments.validation_split is not None:
        raise UserError("--validation_split needs --validation, the list that it is of")
    return lists


def _load_unlabelled(arguments):
    from mvit_tf.data.lists.unlabelled import load_unlabelled_videos

    for flag in ("validation", "validation_split", "label_map", "multi_label", "images"):
        if getattr(arguments, flag):
            raise UserError(f"--{flag} goes with labels, and --unlabelled leaves them; take one")
    return load_unlabelled_videos(
        arguments.source,
        root=arguments.root,
        separator=arguments.separator,
        split=arguments.train_split,
        group_by=arguments.group_by,
        nested=arguments.nested,
    )


def _decode_all(paths, count, images):
    """What `check_file` yields, in the order of the paths."""
    from mvit_tf.data.video.decode_workers import DecodeWorkers
    from mvit_tf.data.video.decoding import DecodeError

    def check(path):
        try:
            *_, checked = workers.run(check_file, path, images)
        except DecodeError as error:
            return CheckedFile(path, error.outcome, error.detail), None
        return checked

    with (
        DecodeWorkers(count) as workers,
        ThreadPoolExecutor(count) as pool,
        progress("decoding") as show,
    ):
        futures = [pool.submit(check, path) for path in paths]
        try:
            for done, _ in enumerate(as_completed(futures), start=1):
                show(done, len(futures))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            workers.close()
            raise
    return [future.result() for future in futures]


def _look_alikes(decoded, lists):
    """Path for validation -> path in training that looks the same and is not the same file."""
    from mvit_tf.data.lists.content import copies_between
    from mvit_tf.data.lists.look_alikes import look_alikes

    if "validation" not in lists:
        return {}
    train, validation = (set(lists[side].paths) for side in ("train", "validation"))
    thumbnails = {file.path: mean for file, mean in decoded if mean is not None}
    same = {path for pair in copies_between(train, validation) for path in pair}
    same |= train & validation
    sides = [sorted(side & thumbnails.keys() - same) for side in (train, validation)]
    found = look_alikes(*([thumbnails[path] for path in side] for side in sides))
    return {sides[1][other]: sides[0][one] for other, one in found.items()}


def _findings(source, lists, alike):
    """(mistakes, warnings) about the videos together, a line each."""
    from mvit_tf.data.lists import data_checks
    from mvit_tf.data.lists.content import copies

    train, validation = lists["train"], lists.get("validation")
    mistakes = []
    warnings = [note for videos in lists.values() for note in videos.notes]
    if train.num_classes:
        warnings += data_checks.class_warnings(train)
        try:
            data_checks.refuse_one_class(train, source)
        except UserError as error:
            mistakes.append(str(error))
    warnings += [f"the same: {' = '.join(same)}" for same in copies(train.paths)]
    if validation is not None:
        mistakes += data_checks.on_both_sides(train, validation)
        warnings += data_checks.not_validated(train, validation)
    if alike:
        named = [f"{one} and {other}" for other, one in list(alike.items())[:_NAMED]]
        warnings.append(
            f"{len(alike)} videos for validation look like one in training, as clips of one camera "
            f"do: {', '.join(named)}{', ...' if len(alike) > _NAMED else ''}; data.group_by keeps "
            "those of one source on one side"
        )
    return mistakes, warnings


def _seconds(text):
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"must be seconds greater than 0, got {text!r}")
    return seconds


def _tables(lists, files, passed_over):
    """The tables of the report that have any rows."""
    from mvit_tf.data.lists.data_checks import balance

    failures = sorted(
        (file.outcome, file.path, f"{file.readable:.0%}", file.detail)
        for file in files
        if file.outcome != "ok"
    )
    balances = [(side, balance(videos)) for side, videos in lists.items() if videos.num_classes]
    outcomes = collections.Counter(file.outcome for file in files).most_common()
    tables = (
        (("outcome", "video", "readable", "reason"), failures),
        (("passed over", "reason"), passed_over),
        (("property", "values"), _properties(files)),
        (("side", "classes"), balances),
        (("outcome", "videos"), [(outcome, f"{count:,}") for outcome, count in outcomes]),
    )
    numbers = ("readable", "videos")
    return [
        format_table(header, [list(map(one_line, row)) for row in rows], numbers=numbers)
        for header, rows in tables
        if rows
    ]


def _properties(files):
    """Rows: what the videos have in common, and what few of them have."""
    opened = [file for file in files if file.codec is not None]
    if not opened:
        return []
    rows = [
        ("codec", _counted(file.codec for file in opened)),
        ("size", _counted(f"{file.width}x{file.height}" for file in opened)),
    ]
    timed = [file for file in opened if file.duration is not None]
    if not timed:
        return rows
    lengths = [file.duration for file in timed]
    return [
        *rows,
        ("frames a second", _counted(f"{file.fps:.4g}" for file in timed)),
        (
            "seconds",
            f"{min(lengths):.2f} to {max(lengths):.2f}, median {statistics.median(lengths):.2f}",
        ),
    ]


def _counted(values):
    counts = collections.Counter(values).most_common()
    named = ", ".join(f"{value} ({count:,})" for value, count in counts[:_MOST_COMMON])
    more = len(counts) - _MOST_COMMON
    return named + (f", and {more} others" if more > 0 else "")


def _write(path, lists, files, passed_over, alike):
    sides = {path: side for side, videos in lists.items() for path in videos.paths}
    lines = []
    for file in files:
        found = {"side": sides[file.path], "looks_like": alike.get(file.path)}
        lines.append({**dataclasses.asdict(file), **found})
    lines += [
        {"path": path, "outcome": "passed_over", "detail": reason} for path, reason in passed_over
    ]
    write_json_lines(as_path(path), lines)
