"""Which PyTorch implementation a state dict comes from, told by its names."""

from mvit_tf.conversion import mvit, pytorchvideo, slowfast, timm, torchvision
from mvit_tf.errors import UserError

# mvit before slowfast, whose names it shares.
_READ = (torchvision, timm, pytorchvideo, mvit, slowfast)
WRITTEN = {layout.NAME: layout for layout in (slowfast, torchvision, pytorchvideo, timm)}
# Every MViT has a patch embedding: what stands before its name stands before all the others.
_PATCH_EMBEDDINGS = (
    "conv_proj.weight",
    "patch_embed.proj.weight",
    "patch_embed.patch_model.weight",
)
_SHOWN = 5


def find_model(state_dict, prefix=None):
    """Finds the one MViT in a state dict, whatever its names begin with.

    DataParallel puts `module.` before every name, torch.compile `_orig_mod.`, Lightning the name
    of an attribute, beside which lie the tensors of losses and the like.

    Args:
        state_dict: names -> Tensor.
        prefix: what the model's names begin with, "" for nothing; searched for when None.

    Returns:
        (the module of this package that reads the model, its names without the prefix -> Tensor,
        the tensors beside it as names -> Tensor).

    Raises:
        UserError: no MViT under the prefix; or none or several of them, and no prefix given.
    """
    found = {
        start: layout
        for start in _prefixes(state_dict)
        if (layout := _layout_of(_below(start, state_dict)))
    }
    if prefix is not None:
        prefix = f"{prefix.rstrip('.')}." if prefix else ""
    elif len(found) > 1:
        raise UserError(
            f"it holds {len(found)} models, whose names begin with "
            f"{' and '.join(repr(start) for start in found)}; choose one, as "
            f"prefix={list(found)[-1]!r}"
        )
    else:
        prefix = next(iter(found), "")
    inside = _below(prefix, state_dict)
    layout = found.get(prefix) or _layout_of(inside)
    if layout is None:
        shown = ", ".join(list(state_dict)[:_SHOWN]) + (", ..." if len(state_dict) > _SHOWN else "")
        under = f" under the prefix {prefix!r}" if prefix else ""
        raise UserError(
            f"these are not the weights of an MViT{under} as "
            f"{', '.join(layout.NAME for layout in _READ)} name them; they begin "
            f"{shown or '(empty)'}"
        )
    beside = {name: t for name, t in state_dict.items() if not name.startswith(prefix)}
    return layout, inside, beside


def _prefixes(state_dict):
    return sorted(
        {
            name.removesuffix(known)
            for name in state_dict
            for known in _PATCH_EMBEDDINGS
            if name == known or name.endswith(f".{known}")
        }
    )


def _below(prefix, state_dict):
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in state_dict.items()
        if name.startswith(prefix)
    }


def _layout_of(state_dict):
    shapes = {name: tensor.shape for name, tensor in state_dict.items()}
    return next((layout for layout in _READ if layout.recognises(shapes)), None)
