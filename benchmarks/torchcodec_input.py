"""A loader on torchcodec and torchvision's transforms, doing what ours does."""

import contextlib
import os
import re
import sysconfig
from pathlib import Path

from benchmarks import cases
from benchmarks.peers import import_torchvision

_STEP = 4


def build(*, files, input_size, batch, threads, seek_mode):
    """The workload, see `benchmarks.worker`; an iteration is an epoch.

    Args:
        files: paths, one clip of each an epoch.
        input_size: (T, H, W) of a clip.
        batch: clips in a batch.
        threads: worker processes of the loader.
        seek_mode: torchcodec's: "exact" reads all packets of a file first, "approximate" trusts
            its header.
    """
    return _Loader(files, input_size, batch, threads, seek_mode)


def library_path(folder: Path) -> str:
    """LD_LIBRARY_PATH with which torchcodec finds the FFmpeg that comes with PyAV.

    torchcodec brings none. The libraries of PyAV's wheel bear names of their own, so `folder`
    gets links with FFmpeg's.
    """
    import av

    bundled = Path(av.__file__).parent.parent / "av.libs"
    for library in bundled.glob("lib*.so.*"):
        match = re.fullmatch(r"(lib(?:av|sw)\w+)-[0-9a-f]+\.so\.(\d+)[.\d]*", library.name)
        if match:
            link = folder / f"{match[1]}.so.{match[2]}"
            with contextlib.suppress(FileExistsError):
                link.symlink_to(library)
    # The last is for its part that needs the library of Python itself.
    paths = (folder, bundled, sysconfig.get_config_var("LIBDIR"), os.environ.get("LD_LIBRARY_PATH"))
    return os.pathsep.join(str(path) for path in paths if path)


class _Loader:
    def __init__(self, files, input_size, batch, threads, seek_mode):
        import_torchvision()
        import torch

        dataset = _clips(files, input_size, seek_mode)
        # Between epochs these processes are idle; starting them is not counted.
        self._loader = torch.utils.data.DataLoader(
            dataset, batch_size=batch, num_workers=threads, persistent_workers=True
        )

    def step(self):
        """Clips loaded."""
        return sum(len(batch) for batch in self._loader)


def _clips(files, input_size, seek_mode):
    """A torch Dataset of one random clip of each file, float32 (T, 3, H, W), normalised."""
    import torch
    from torchcodec.decoders import VideoDecoder
    from torchcodec.samplers import clips_at_random_indices
    from torchvision.transforms import v2

    num_frames, *size = input_size
    transform = v2.Compose(
        [
            v2.RandomResizedCrop(size, (0.08, 1.0), (3 / 4, 4 / 3), antialias=False),
            v2.RandomHorizontalFlip(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize((cases.MEAN,) * 3, (cases.STD,) * 3),
        ]
    )

    class Clips(torch.utils.data.Dataset):
        def __len__(self):
            return len(files)

        def __getitem__(self, index):
            decoder = VideoDecoder(files[index], num_ffmpeg_threads=1, seek_mode=seek_mode)
            clips = clips_at_random_indices(
                decoder,
                num_clips=1,
                num_frames_per_clip=num_frames,
                num_indices_between_frames=_STEP,
            )
            return transform(clips.data[0])

    return Clips()
