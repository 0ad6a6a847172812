"""The rate of a large matrix product: the ceiling of what a model can reach."""

import time

_REPETITIONS = 10


def best_rate(product, size):
    """FLOP/s of the fastest of several products of two square matrices.

    Args:
        product: computes one, complete when it returns.
        size: rows of the matrices.
    """
    product()
    product()
    seconds = []
    for _ in range(_REPETITIONS):
        started = time.perf_counter()
        product()
        seconds.append(time.perf_counter() - started)
    return 2 * size**3 / min(seconds)
