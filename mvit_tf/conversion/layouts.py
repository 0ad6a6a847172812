"""Which PyTorch implementation a state dict comes from, told by its names."""

from mvit_tf.conversion import mvit, pytorchvideo, slowfast, timm, torchvision
from mvit_tf.errors import UserError

# mvit before slowfast, whose names it shares.
_READ = (torchvision, timm, pytorchvideo, mvit, slowfast)
WRITTEN = {layout.NAME: layout for layout in (slowfast, torchvision, pytorchvideo, timm)}
_WRAPPER_PREFIXES = ("module.", "_orig_mod.", "model.")
_SHOWN = 5


def detect_layout(state_dict):
    """The module of this package that reads a state dict (names -> Tensor).

    Raises:
        UserError: no known implementation of MViT has such names.
    """
    shapes = {name: tensor.shape for name, tensor in state_dict.items()}
    for layout in _READ:
        if layout.recognises(shapes):
            return layout
    shown = ", ".join(list(shapes)[:_SHOWN]) + (", ..." if len(shapes) > _SHOWN else "")
    raise UserError(
        "these are not the weights of an MViT as "
        f"{', '.join(layout.NAME for layout in _READ)} name them; they begin {shown or '(empty)'}"
    )


def without_wrapper(state_dict):
    """Strips the prefix that DataParallel, torch.compile or Lightning puts before every name."""
    for prefix in _WRAPPER_PREFIXES:
        if state_dict and all(name.startswith(prefix) for name in state_dict):
            return without_wrapper(
                {name.removeprefix(prefix): tensor for name, tensor in state_dict.items()}
            )
    return state_dict
