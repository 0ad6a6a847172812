import numpy as np
import pytest
import tensorflow as tf

from mvit_tf.errors import UserError
from mvit_tf.pretraining.masking import cube_mask, mask_root, random_masks
from tests.pretraining.reference import stored

WINDOW = (8, 7, 7)


def test_the_same_draws_give_the_masks_of_slowfast():
    reference = stored()
    draws = np.random.RandomState(int(reference["draws_seed"])).random_sample((12, 600, 6))
    mask = tf.function(lambda of_run: cube_mask(of_run, WINDOW, 0.4))
    masks = np.array([mask(tf.constant(of_run)) for of_run in draws])
    np.testing.assert_array_equal(masks, reference["masks"])
    # Not all alike, and not random places each: cubes.
    assert len({mask.tobytes() for mask in masks}) == 12
    assert masks.sum(axis=(1, 2, 3)).max() == 157


def test_masks_depend_on_seed_step_and_place_alone():
    @tf.function
    def draw(step, places, seed=7):
        return random_masks(mask_root(seed), step, places, window=WINDOW, ratio=0.4)

    whole = draw(3, tf.range(4, dtype=tf.int64)).numpy()
    np.testing.assert_array_equal(draw(3, tf.constant([2, 1], tf.int64)), whole[[2, 1]])
    others = (draw(4, tf.range(4, dtype=tf.int64)), draw(3, tf.range(4, dtype=tf.int64), seed=8))
    assert len({mask.tobytes() for mask in (*whole, *others[0].numpy(), *others[1].numpy())}) == 12
    assert set(np.unique(whole)) == {0, 1}
    # 0.4 of 392 places, or fewer where a hundred cubes did not fit.
    masked = whole.sum(axis=(1, 2, 3))
    assert masked.max() == 157 and masked.min() > 140


@pytest.mark.parametrize("ratio", [0.001, 0.999])
def test_a_mask_leaves_something_and_takes_something(ratio):
    with pytest.raises(UserError, match=f"mask_ratio={ratio} of 392 places masks"):
        cube_mask(tf.zeros((5, 6)), WINDOW, ratio)
