"""Which pixels of a clip a model's answer comes from: heat maps over the frames."""

from mvit_tf.explain.explanation import Explanation, explain_clip

__all__ = ["Explanation", "explain_clip"]
