"""Pictures of benchmark results."""

from mvit_tf.benchmark import cells, plots


def test_every_contestant_has_a_colour_of_its_own():
    assert set(plots._COLOURS) == set(cells.CONTESTANTS)
    assert len(set(plots._COLOURS.values())) == len(cells.CONTESTANTS)
