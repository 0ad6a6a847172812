"""What a command wrote on standard error, without the line that no setting keeps XLA from."""

_XLA = ("All log messages before absl::InitializeLog()", "Compiled cluster using XLA!")


def own_words(stderr):
    """The lines of `stderr` but for empty ones and what XLA writes when it first compiles."""
    lines = [line for line in stderr.splitlines() if line]
    return [line for line in lines if not any(words in line for words in _XLA)]
