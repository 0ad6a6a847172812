"""The JSON that requests are answered with; what the OpenAPI page shows of it."""

import numpy as np
import pydantic

from mvit_tf.export.metadata import ExportMetadata


class ClassProbability(pydantic.BaseModel):
    """A class and how probable it is."""

    name: str
    probability: float


class VideoClip(pydantic.BaseModel):
    """A clip that was looked at, in seconds after the video's first frame."""

    start: float
    end: float


class Seconds(pydantic.BaseModel):
    """Where the time went: all of it, receiving, decoding, and waiting for the model."""

    total: float
    upload: float
    decode: float
    predict: float


class ClipAnswer(pydantic.BaseModel):
    """What the model makes of a clip."""

    classes: list[ClassProbability] = pydantic.Field(description="the most probable first")
    multi_label: bool = pydantic.Field(
        description="whether each class has a probability of its own; all add up to 1 otherwise"
    )
    seconds: Seconds


class VideoAnswer(ClipAnswer):
    """What the model makes of a video."""

    clips: list[VideoClip]
    width: int
    height: int
    padded: bool = pydantic.Field(description="whether the video is shorter than a clip")


class Failure(pydantic.BaseModel):
    """Why there is no answer."""

    kind: str = pydantic.Field(description="a word for programs, such as container_error")
    message: str = pydantic.Field(description="one line for people")


class FailureAnswer(pydantic.BaseModel):
    """The body of every answer that is no success."""

    error: Failure


class ServerInformation(pydantic.BaseModel):
    """What is served here."""

    model: str
    num_classes: int
    frames_per_clip: int
    clips_per_video: int
    image: bool
    multi_label: bool
    max_upload: int
    time_limit: float
    endpoints: dict[str, str]


def top_classes(metadata: ExportMetadata, probabilities, top: int) -> list[ClassProbability]:
    """The `top` most probable classes."""
    return [
        ClassProbability(name=metadata.class_names[index], probability=float(probabilities[index]))
        for index in np.argsort(-probabilities, kind="stable")[:top]
    ]
