"""Words that messages share."""

from mvit_tf.errors import did_you_mean


def test_the_nearest_word_or_all_words():
    assert did_you_mean("lerning_rate", ["epochs", "learning_rate"], "train.") == (
        "did you mean 'train.learning_rate'?"
    )
    assert did_you_mean("x", ("epochs", "batch_size")) == "known: epochs, batch_size"
