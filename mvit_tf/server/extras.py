"""Whether the packages of an extra are there."""

import importlib.util

from mvit_tf.errors import UserError

_PACKAGES = {
    "serve": ("fastapi", "uvicorn", "prometheus_client", "python_multipart", "fastapi_offline"),
    "web": ("gradio",),
}


def require_packages(command: str, extra: str) -> None:
    """Refuses to go on without the packages of an extra.

    Raises:
        UserError: one is missing.
    """
    missing = [name for name in _PACKAGES[extra] if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"{command} needs an extra: pip install 'mvit_tf[{extra}]' (no {', '.join(missing)})"
        )
