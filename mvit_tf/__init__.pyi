from . import layers as layers
from .analysis.complexity import complexity as complexity
from .conversion import load_pytorch_weights as load_pytorch_weights
from .conversion import to_pytorch_state_dict as to_pytorch_state_dict
from .data.directory_dataset import video_dataset_from_directory as video_dataset_from_directory
from .errors import UserError as UserError
from .factory import create_model as create_model
from .models.config import BlockSpec as BlockSpec
from .models.config import MViTConfig as MViTConfig
from .models.mvit import MViT as MViT
from .models.mvit import build_mvit as build_mvit
from .models.registry import get_config as get_config
from .models.registry import list_models as list_models
from .presets import from_preset as from_preset
from .presets import save_to_preset as save_to_preset
from .presets_hub import upload_preset as upload_preset

__version__: str
