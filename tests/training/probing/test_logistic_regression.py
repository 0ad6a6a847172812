"""The head of a linear probe: the optimum, and nothing near it."""

import numpy as np
import pytest
from scipy.special import expit, softmax

from mvit_tf.training.probing.logistic_regression import (
    LinearHead,
    fit_logistic_regression,
    standardisation,
)


def examples(num_classes=3, number=60, width=12, seed=0):
    """Features with some of the classes in them, labels, and weights that differ."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, num_classes, number)
    features = (
        rng.standard_normal((number, width)) + rng.standard_normal((num_classes, width))[labels]
    )
    weights = rng.uniform(0.5, 2, number)
    return features, labels, weights / weights.sum()


@pytest.mark.parametrize("l2", [1e-4, 1e-1])
@pytest.mark.parametrize("multi_label", [False, True])
def test_the_gradient_vanishes(l2, multi_label):
    features, labels, weights = examples()
    targets = np.eye(3)[labels]
    if multi_label:
        targets[:, 0] = features[:, 0] > 0
    head = fit_logistic_regression(features, targets, weights, l2=l2, multi_label=multi_label)
    activation = expit if multi_label else (lambda logits: softmax(logits, axis=1))
    slope = weights[:, None] * (activation(head(features)) - targets)
    assert np.abs(features.T @ slope + l2 * head.kernel).max() < 1e-5
    assert np.abs(slope.sum(axis=0)).max() < 1e-5


def test_scikit_learn_finds_the_same():
    linear_model = pytest.importorskip("sklearn.linear_model")
    features, labels, weights = examples()
    l2 = 1e-2
    head = fit_logistic_regression(features, np.eye(3)[labels], weights, l2=l2)
    peer = linear_model.LogisticRegression(C=1 / l2, tol=1e-10, max_iter=10_000)
    peer.fit(features, labels, sample_weight=weights)
    np.testing.assert_allclose(
        softmax(head(features), axis=1), peer.predict_proba(features), atol=1e-5
    )


def test_the_start_does_not_matter():
    features, labels, weights = examples()
    targets = np.eye(3)[labels]
    far = LinearHead(np.full((12, 3), 3.0), np.array([1.0, -2.0, 0.0]))
    one = fit_logistic_regression(features, targets, weights, l2=1e-2)
    two = fit_logistic_regression(features, targets, weights, l2=1e-2, start=far)
    np.testing.assert_allclose(one.kernel, two.kernel, atol=1e-3)


def test_a_head_on_standardised_features_is_one_on_raw_ones():
    features, _, weights = examples()
    features[:, 3] = 5.0
    mean, scale = standardisation(features, weights)
    assert scale[3] == 1
    standard = (features - mean) / scale
    np.testing.assert_allclose(weights @ standard**2, [*[1] * 3, 0, *[1] * 8], atol=1e-12)
    rng = np.random.default_rng(1)
    head = LinearHead(rng.standard_normal((12, 3)), rng.standard_normal(3))
    np.testing.assert_allclose(head.of_unscaled(mean, scale)(features), head(standard), atol=1e-12)
