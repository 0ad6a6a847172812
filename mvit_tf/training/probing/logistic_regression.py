"""Logistic regression on features, by L-BFGS (scipy): the head of a linear probe.

The loss is the weighted mean over examples plus l2 / 2 times the squared norm of the kernel, which
is convex: what is found is the optimum, whatever the start.
"""

import dataclasses

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, log_softmax, softmax

_MOST_ITERATIONS = 2000


@dataclasses.dataclass(frozen=True)
class LinearHead:
    """Features (n, C) to logits (n, K): ``features @ kernel + bias``.

    Attributes:
        kernel: float64 (C, K).
        bias: float64 (K,).
    """

    kernel: np.ndarray
    bias: np.ndarray

    def __call__(self, features: np.ndarray) -> np.ndarray:
        return features @ self.kernel + self.bias

    def of_unscaled(self, mean: np.ndarray, scale: np.ndarray) -> "LinearHead":
        """The same head on features x, where this one takes ``(x - mean) / scale``."""
        kernel = self.kernel / scale[:, np.newaxis]
        return LinearHead(kernel, self.bias - mean @ kernel)


def fit_logistic_regression(
    features: np.ndarray,
    targets: np.ndarray,
    weights: np.ndarray,
    *,
    l2: float,
    multi_label: bool = False,
    start: LinearHead | None = None,
    tolerance: float = 1e-6,
) -> LinearHead:
    """The head of least loss.

    Args:
        features: float64 (n, C), about standardised.
        targets: (n, K) of zeros and ones.
        weights: (n,) of the examples, summing to 1.
        l2: strength of the penalty, above 0. Biases have none.
        multi_label: a sigmoid for each class, the losses summed, instead of one softmax.
        start: where to begin, such as the optimum of another `l2`.
        tolerance: largest entry of the gradient at which the optimum counts as found.
    """
    shape = features.shape[1], targets.shape[1]
    if start is None:
        start = LinearHead(np.zeros(shape), np.zeros(shape[1]))

    def loss_and_gradient(flat):
        kernel, bias = flat[: -shape[1]].reshape(shape), flat[-shape[1] :]
        logits = features @ kernel + bias
        if multi_label:
            losses = (np.logaddexp(0, logits) - targets * logits).sum(axis=1)
            probabilities = expit(logits)
        else:
            losses = -(targets * log_softmax(logits, axis=1)).sum(axis=1)
            probabilities = softmax(logits, axis=1)
        slope = weights[:, np.newaxis] * (probabilities - targets)
        gradient = features.T @ slope + l2 * kernel
        loss = weights @ losses + l2 / 2 * np.sum(kernel**2)
        return loss, np.concatenate([gradient.ravel(), slope.sum(axis=0)])

    found = minimize(
        loss_and_gradient,
        np.concatenate([start.kernel.ravel(), start.bias]),
        jac=True,
        method="L-BFGS-B",
        # By the gradient alone: a small step is not yet the optimum.
        options={"maxiter": _MOST_ITERATIONS, "gtol": tolerance, "ftol": 0.0},
    )
    return LinearHead(found.x[: -shape[1]].reshape(shape), found.x[-shape[1] :])


def standardisation(features: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and scale (C,) of features (n, C); the scale of one that is constant is 1."""
    mean = weights @ features
    scale = np.sqrt(weights @ (features - mean) ** 2)
    return mean, np.where(scale > 1e-6 * (np.abs(mean) + 1), scale, 1.0)
