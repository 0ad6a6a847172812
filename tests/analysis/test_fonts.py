"""Texts as they can be drawn, whatever script they are in."""

from mvit_tf.analysis.fonts import drawable, font_file_for


def test_only_what_no_font_has_becomes_its_number():
    # Unassigned code points are in no font; Japanese ones are in a font of Matplotlib's.
    (first, second, plain), families = drawable("\u00dcn\u00efcode \u0378", "\u306e\n$5", "")
    assert (first, second, plain) == ("\u00dcn\u00efcode \\u0378", "\u306e\n$5", "")
    assert len(families) == 2 and len(drawable("plain")[1]) == 1


def test_one_font_draws_all_of_a_text_if_there_is_one():
    default, _ = font_file_for("plain")
    other, text = font_file_for("plain \u306e")
    assert other != default and text == "plain \u306e"
    assert font_file_for("\u00df \u0378") == (default, "\u00df \\u0378")
