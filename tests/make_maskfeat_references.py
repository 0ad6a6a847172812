"""Writes `tests/references/slowfast_maskfeat.npz`: what SlowFast's MaskFeat computes.

    python tests/make_maskfeat_references.py --slowfast CHECKOUT

Needs the extra `compare` with fvcore and iopath, and a checkout of facebookresearch/SlowFast
(287ec00). The tests read the file without any of them.

A small model in the proportions of configs/masked_ssl/k400_MVITv2_S_16x4_MaskFeat_PT.yaml: the
last stage keeps its grid, and each of its tokens predicts 2 x 2 cells. `config` (JSON), `frames`
(B, T, H, W, 3), `mask`, the `targets` and `predictions` of all tokens and the `loss`; the model's
state dict, exact in half precision, under `weight:` and the parameter's name, and the gradients of
the loss under `gradient:`. Of MaskingGenerator3D the `masks` (runs, T, H, W) that it makes of
draws (runs, 600, 6) in [0, 1) of the numpy.random.RandomState of `draws_seed`, a row for each cube
that it tries.
"""

import argparse
import importlib
import json
from pathlib import Path
from unittest import mock

import numpy as np
import torch
import torch_peers

from mvit_tf import MViTConfig

REFERENCES = Path(__file__).parent / "references"
WINDOW, RATIO = (8, 7, 7), 0.4
RUNS, TRIES = 12, 600
CONFIG = MViTConfig(
    input_shape=(4, 64, 64, 3),
    depths=(1, 1, 1, 2),
    embed_dim=4,
    key_stride=(1, 4, 4),
    last_query_stride=(1, 1, 1),
    pool_every_query=True,
    positions="none",
    relative_positions="space_time",
    residual_pooling="patches",
    drop_path_rate=0.0,
)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slowfast", required=True, help="checkout of facebookresearch/SlowFast")
    checkout = parser.parse_args().slowfast
    arrays = {**reference_model(checkout), **reference_masks(checkout)}
    path = REFERENCES / "slowfast_maskfeat.npz"
    np.savez_compressed(path, **arrays)
    print(f"{path.name}: {path.stat().st_size:,} bytes, loss {arrays['loss']}")


def reference_model(checkout):
    """The arrays of one model, clip and mask."""
    torch.manual_seed(0)
    model = torch_peers.perturb(torch_peers.maskfeat_model(CONFIG, checkout), seed=1)
    random = np.random.default_rng(2)
    # Smooth, so that gradients have directions; exact in half precision, and small in the file.
    coarse = random.standard_normal((2, 4, 8, 8, 3)).repeat(8, axis=2).repeat(8, axis=3)
    frames = coarse + 0.3 * random.standard_normal(coarse.shape)
    frames = (np.round(8 * frames) / 8).astype(np.float32)
    # Of one clip more is masked than of the other.
    mask = np.zeros((2, 2, 2, 2), np.float32)
    mask[0, 0, 0, 1] = mask[0, 1, 1, 0] = mask[0, 1, 1, 1] = mask[1, 0, 1, 0] = 1
    clips = torch.from_numpy(np.ascontiguousarray(np.moveaxis(frames, -1, 1)))
    everything = [torch.ones((2, 2 * 4 * 4), dtype=torch.bool)]
    with torch.no_grad():
        ((targets, _, _),) = model._get_hog_label_3d(clips, everything)
        (predictions,), _ = model([clips, None, torch.from_numpy(mask)], return_all=True)
    (masked,), ((labels, weight, kind),) = model([clips, None, torch.from_numpy(mask)])
    assert (weight, kind) == (1.0, "mse")
    # What MultipleMSELoss of slowfast/models/losses.py makes of it; that file imports a part of
    # pytorchvideo that was never released.
    loss = torch.nn.MSELoss()(masked, labels)
    loss.backward()
    return {
        "config": json.dumps(CONFIG.to_dict()),
        "frames": frames.astype(np.float16),
        "mask": mask,
        "targets": targets.reshape(2, 32, -1).numpy(),
        "predictions": predictions.numpy(),
        "loss": loss.item(),
        **{
            f"weight:{name}": values.numpy().astype(np.float16)
            for name, values in model.state_dict().items()
        },
        **{
            f"gradient:{name}": parameter.grad.numpy()
            for name, parameter in model.named_parameters()
        },
    }


def reference_masks(checkout):
    """Masks of given draws."""
    transform = _transform(checkout)
    seed = 3
    draws = np.random.RandomState(seed).random_sample((RUNS, TRIES, 6))
    most = WINDOW[1] * WINDOW[2]
    masks = []
    for of_run in draws:
        make = transform.MaskingGenerator3D(
            WINDOW,
            round(np.prod(WINDOW) * RATIO),
            max_num_patches=most,
            min_num_patches=most // 5,
        )
        with mock.patch.object(transform, "random", _Replay(of_run)):
            masks.append(make())
    return {"draws_seed": seed, "masks": np.array(masks, np.int8)}


class _Replay:
    """Python's `random`, of given numbers in [0, 1): a row for each cube that is tried."""

    def __init__(self, draws):
        self._rows = iter(draws)
        self._row = iter(())
        self._calls = 0

    def uniform(self, low, high):
        if self._calls != 1:  # the first of a cube; later ones follow `randint`
            self._row = iter(next(self._rows))
            self._calls = 0
        self._calls += 1
        return low + (high - low) * next(self._row)

    def randint(self, low, high):
        self._calls = 2
        return low + int(next(self._row) * (high - low + 1))


def _transform(checkout):
    torch_peers.import_torchvision()
    # Its package's other modules ask for decoders that need not be there.
    package = type(importlib)("slowfast.datasets")
    package.__path__ = [str(Path(checkout) / "slowfast" / "datasets")]
    with mock.patch.dict("sys.modules", {"slowfast.datasets": package}):
        return torch_peers.import_from(checkout, "slowfast.datasets.transform")[0]


if __name__ == "__main__":
    main()
