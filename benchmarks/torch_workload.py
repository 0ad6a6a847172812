"""The peers in PyTorch, eager or through `torch.compile`, on the CPU or on CUDA.

In bfloat16 the forward pass runs with the weights cast once, `model.to(bfloat16)`, and training
under autocast with float32 weights: each the faster or the usual way that PyTorch has.
"""

import numpy as np
import torch

from benchmarks import cases, peers
from benchmarks.worker import best_rate, peak_host_bytes


def build(*, case, style, weights, peer, threads):
    """The workload of a case, see `benchmarks.worker`.

    Args:
        case: Case as a dict.
        style: "eager" or "compile".
        weights: an `.npz` file of the peer's state dict.
        peer: "torchvision", "pytorchvideo" or "timm".
        threads: processors to use.
    """
    torch.set_num_threads(threads)
    case = cases.Case(**case)
    model = getattr(peers, f"{peer}_model")(case.config())
    with np.load(weights) as arrays:
        model.load_state_dict({name: torch.from_numpy(arrays[name]) for name in arrays})
    return {"forward": _Forward, "train": _Train}[case.mode](case, model, style)


class _Workload:
    def __init__(self, case, model, style):
        self._device = torch.device("cuda" if case.device == "gpu" else "cpu")
        self._dtype = getattr(torch, case.dtype)
        frames = torch.from_numpy(case.normalised_frames()).movedim(-1, 1).contiguous()
        self._frames = frames.to(self._device)
        self._model = model.to(self._device)
        self._compile = style == "compile"

    def _finish(self):
        """Makes the model what it is run as, once its weights have their type."""
        if self._compile:
            self._model = torch.compile(self._model)

    def gemm_rate(self):
        on_gpu = self._device.type == "cuda"
        size = 8192 if on_gpu else 2048
        values = torch.rand(size, size, device=self._device).to(self._dtype)
        with torch.inference_mode():
            return best_rate(lambda: (values @ values)[0, 0].item(), size)

    def peak_bytes(self):
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device)
        return peak_host_bytes()


class _Forward(_Workload):
    def __init__(self, case, model, style):
        super().__init__(case, model, style)
        self._model = self._model.eval().to(self._dtype)
        self._frames = self._frames.to(self._dtype)
        self._finish()

    def step(self):
        with torch.inference_mode():
            return self._model(self._frames).float().tolist()


class _Train(_Workload):
    def __init__(self, case, model, style):
        super().__init__(case, model, style)
        self._labels = torch.from_numpy(case.labels()).to(self._device)
        self._model.train()
        self._parameters = list(self._model.parameters())
        # As ours: no decay of biases and norms.
        matrices = [values for values in self._parameters if values.ndim > 1]
        vectors = [values for values in self._parameters if values.ndim <= 1]
        self._optimizer = torch.optim.AdamW(
            [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}],
            lr=cases.LEARNING_RATE,
            weight_decay=cases.WEIGHT_DECAY,
            fused=True,
        )
        self._finish()

    def step(self):
        mixed = self._dtype != torch.float32
        with torch.autocast(self._device.type, torch.bfloat16, enabled=mixed):
            logits = self._model(self._frames)
        loss = torch.nn.functional.cross_entropy(logits.float(), self._labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._parameters, cases.CLIP_NORM)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        if self._device.type == "cuda":
            torch.cuda.synchronize()
        return loss.item()
