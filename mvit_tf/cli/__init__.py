"""The `mvit` console command: one file per subcommand."""

from mvit_tf.cli.startup import quiet_tensorflow, run_cli

__all__ = ["quiet_tensorflow", "run_cli"]
