"""Configs, the functional builder and the named models."""

from mvit_tf.models.builder import build_mvit
from mvit_tf.models.config import BlockSpec, MViTConfig
from mvit_tf.models.registry import get_config, list_models

__all__ = [
    "BlockSpec",
    "MViTConfig",
    "build_mvit",
    "get_config",
    "list_models",
]
