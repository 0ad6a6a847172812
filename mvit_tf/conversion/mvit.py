"""The names of facebookresearch/mvit: SlowFast's, with two-dimensional kernels throughout.

Its released files were trained in SlowFast and have SlowFast's kernels; files of its own
training have these.
"""

from mvit_tf.conversion import slowfast

NAME = "mvit"
RESIDUAL_POOLING = slowfast.RESIDUAL_POOLING


def recognises(shapes):
    """Whether the names (-> shapes) are of this layout."""
    pools = [shape for name, shape in shapes.items() if ".attn.pool_" in name]
    return slowfast.recognises(shapes) and bool(pools) and all(len(shape) == 4 for shape in pools)


def to_keras(state_dict):
    """From names -> Tensor to variable paths -> Tensor; unknown names are left out."""
    return slowfast.to_keras(state_dict)
