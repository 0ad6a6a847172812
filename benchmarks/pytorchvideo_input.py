"""PyTorchVideo's own loader on the same videos, with the same augmentations."""

import sys

from benchmarks import cases
from benchmarks.peers import import_torchvision

_SAMPLING_RATE, _FRAMES_A_SECOND = 4, 30


def build(*, files, input_size, batch, threads):
    """The workload, see `benchmarks.worker`; an iteration is an epoch.

    Args:
        files: paths, one clip of each an epoch.
        input_size: (T, H, W) of a clip.
        batch: clips in a batch.
        threads: worker processes of the loader.
    """
    return _Loader(files, input_size, batch, threads)


def import_pytorchvideo_transforms():
    """Imports `pytorchvideo.transforms` beside a torchvision newer than it knows.

    That one renamed a module, of which only the augmentations not used here need anything.
    """
    import_torchvision()
    import torchvision.transforms._functional_tensor as renamed

    sys.modules.setdefault("torchvision.transforms.functional_tensor", renamed)
    from pytorchvideo import transforms

    return transforms


class _Loader:
    def __init__(self, files, input_size, batch, threads):
        own = import_pytorchvideo_transforms()
        import torch
        from pytorchvideo.data.clip_sampling import RandomClipSampler
        from pytorchvideo.data.labeled_video_dataset import LabeledVideoDataset
        from torchvision.transforms import Compose, RandomHorizontalFlip

        frames, height, width = input_size
        clip = Compose(
            [
                own.UniformTemporalSubsample(frames),
                own.RandomResizedCrop(height, width, (0.08, 1.0), (3 / 4, 4 / 3)),
                RandomHorizontalFlip(),
                own.Div255(),
                own.Normalize((cases.MEAN,) * 3, (cases.STD,) * 3),
            ]
        )
        dataset = LabeledVideoDataset(
            [(path, {"label": 0}) for path in files],
            RandomClipSampler(frames * _SAMPLING_RATE / _FRAMES_A_SECOND),
            transform=own.ApplyTransformToKey("video", clip),
            decode_audio=False,
        )
        # Between epochs these processes are idle; starting them is not counted.
        self._loader = torch.utils.data.DataLoader(
            dataset, batch_size=batch, num_workers=threads, persistent_workers=True
        )

    def step(self):
        """Clips loaded."""
        return sum(len(batch["label"]) for batch in self._loader)
