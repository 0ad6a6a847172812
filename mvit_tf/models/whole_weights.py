"""Weights of a model that are written and loaded whole or not at all."""

import os

from mvit_tf import weights_file


class WholeWeights:
    """`save_weights` and `load_weights` of a `keras.Model`, to stand before it among the bases.

    Attributes:
        conversion_report: what went where when weights were loaded last; None before.
    """

    conversion_report = None

    def save_weights(self, filepath, overwrite=True, **options):
        """As Keras', with a table of contents in `.weights.h5` files."""
        if options or not overwrite or not os.fspath(filepath).endswith(weights_file.SUFFIX):
            super().save_weights(filepath, overwrite=overwrite, **options)
        else:
            weights_file.save_weights_file(self, filepath)

    def load_weights(self, filepath, skip_mismatch=False, head="load", **options):
        """As Keras', but of `.weights.h5` files whole or not at all.

        Args:
            filepath, skip_mismatch, **options: of `keras.Model.load_weights`.
            head: "load"; "fresh" leaves a classifier's head as it is; "auto" does so where the
                numbers of classes differ. Of a pre-training (MaskFeat) both take the encoder, and
                `conversion_report` says what was left out.

        Raises:
            UserError: the file does not hold just this model's weights, finite ones; the model
                is as it was.
        """
        if options or skip_mismatch or not os.fspath(filepath).endswith(weights_file.SUFFIX):
            super().load_weights(filepath, skip_mismatch=skip_mismatch, **options)
        else:
            self.conversion_report = weights_file.load_weights_file(self, filepath, head=head)
