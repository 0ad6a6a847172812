from .config import BlockSpec as BlockSpec
from .config import MViTConfig as MViTConfig
from .mvit import MViT as MViT
from .mvit import build_mvit as build_mvit
from .registry import get_config as get_config
from .registry import list_models as list_models
