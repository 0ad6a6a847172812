"""Training curves and confusion matrices as PNG files."""

import numpy as np
import pytest
from matplotlib import font_manager
from matplotlib.image import imread

from mvit_tf.analysis.plots import plot_clips, plot_confusion_matrix, plot_training_curves
from mvit_tf.errors import UserError

TRAINING, VALIDATION = "#2a6fbb", "#e07b39"
LOG = """epoch,accuracy,learning_rate,loss,val_accuracy,val_loss
0,0.125,0.001,2.08,NA,NA
1,0.5,0.0008,1.2,0.45,1.3
2,0.4,0.0006,1.4,0.4,1.4
2,0.9,0.0004,0.4,0.85,0.5
"""


def pixels_of_color(picture, color):
    """Where a picture (H, W, 4) in [0, 1] has about this #rrggbb color: bool (H, W)."""
    wanted = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.abs(picture[..., :3] - wanted).max(axis=-1) < 0.02


def share_of_color(picture, color):
    return pixels_of_color(picture, color).mean()


def curves_of_panels(picture):
    """For each panel, 630 pixels wide, whether it holds a training and a validation curve."""
    panels = np.split(picture, picture.shape[1] // 630, axis=1)
    return [
        (share_of_color(panel, TRAINING) > 0, share_of_color(panel, VALIDATION) > 0)
        for panel in panels
    ]


def test_training_curves_show_loss_accuracy_and_learning_rate(tmp_path):
    log, png = tmp_path / "train_log.csv", tmp_path / "curves.png"
    log.write_text(LOG)
    plot_training_curves(log, png)
    # Loss, accuracy, learning rate.
    assert curves_of_panels(imread(png)) == [(True, True), (True, True), (True, False)]


def test_training_curves_leave_out_what_the_log_lacks(tmp_path):
    log, png = tmp_path / "train_log.csv", tmp_path / "curves.png"
    log.write_text("epoch,loss\n0,2.0\n1,1.0\n")
    plot_training_curves(log, png)
    assert curves_of_panels(imread(png)) == [(True, False)]


@pytest.mark.parametrize("text", [None, "epoch,loss\n"])
def test_a_log_without_epochs_is_a_users_mistake(tmp_path, text):
    log = tmp_path / "train_log.csv"
    if text is not None:
        log.write_text(text)
    with pytest.raises(UserError, match="train_log.csv"):
        plot_training_curves(log, tmp_path / "curves.png")


def test_confusion_matrix_shades_by_the_share_of_the_true_class(tmp_path):
    png = tmp_path / "matrix.png"
    plot_confusion_matrix(np.array([[40, 0], [0, 2]]), ["many", "few"], png)
    dark = "#14508c"
    # Two of four cells are fully dark, though one holds twenty times the other's count.
    assert 0.1 < share_of_color(imread(png), dark) < 0.4
    plot_confusion_matrix(np.array([[20, 20], [1, 1]]), ["many", "few"], png)
    assert share_of_color(imread(png), dark) < 0.02


def test_confusion_matrix_of_many_classes_and_of_empty_rows(tmp_path):
    matrix = np.zeros((101, 101), int)
    matrix[0, 0] = 3
    plot_confusion_matrix(matrix, [f"class {i}" for i in range(101)], tmp_path / "matrix.png")
    assert imread(tmp_path / "matrix.png").shape[0] <= 16 * 150


def picture_of(tmp_path, *class_names):
    png = tmp_path / "matrix.png"
    plot_confusion_matrix(np.eye(len(class_names), dtype=int), class_names, png)
    return imread(png)


@pytest.mark.filterwarnings("error")
def test_dollars_in_class_names_are_drawn_as_text(tmp_path):
    dollars = picture_of(tmp_path, "$5 or $10", r"$\frac$", "plain")
    assert dollars.shape == picture_of(tmp_path, "plain", "plain", "plain").shape
    # Mathtext would draw the same without the signs and spaces.
    pictures = [picture_of(tmp_path, name) for name in ("a $b c$", "a $bc$", "a bc")]
    assert not any(np.array_equal(pictures[0], other) for other in pictures[1:])


@pytest.mark.filterwarnings("error")
def test_names_that_no_font_can_draw_are_counted(tmp_path):
    # Unassigned code points are in no font.
    first, second = (picture_of(tmp_path, "plain", f"{c} name") for c in "\u0378\u0379")
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, picture_of(tmp_path, "0", "1"))  # The axes say it.


@pytest.mark.filterwarnings("error")
def test_names_are_drawn_in_whatever_font_has_their_characters(tmp_path):
    # Two that Matplotlib brings a font for, but not its default one.
    first, second = (picture_of(tmp_path, "plain", f"{c} name") for c in "\u3012\u306e")
    assert not np.array_equal(first, second)


@pytest.mark.filterwarnings("error")
def test_fonts_that_are_not_in_matplotlibs_list_are_found(tmp_path, monkeypatch):
    # Its list is as old as a file in the user's folder.
    fonts = [font for font in font_manager.fontManager.ttflist if font.name == "DejaVu Sans"]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", fonts)
    first, second = (picture_of(tmp_path, "plain", f"{c} name") for c in "\u3012\u306e")
    assert not np.array_equal(first, second)


@pytest.mark.filterwarnings("error")
def test_long_names_leave_the_matrix_its_room(tmp_path):
    names = ["pretending to put something on a surface that is not flat " * 2 + c for c in "abcde"]
    dark = share_of_color(picture_of(tmp_path, *names), "#14508c")
    assert dark > 0.02


@pytest.mark.filterwarnings("error")
def test_clips_are_rows_of_evenly_taken_frames(tmp_path):
    # Frame t of clip n is red at 20 t and green at 200 n.
    clips = np.zeros((2, 11, 12, 16, 3), np.uint8)
    clips[..., 0] = 20 * np.arange(11)[:, None, None]
    clips[1, ..., 1] = 200
    png = tmp_path / "clips.png"
    plot_clips(clips, ["left", "0.70 $up$\n0.30 \u0378"], png, num_frames=3)
    picture = np.round(255 * imread(png)[..., :3]).astype(int)
    for red in range(0, 201, 20):
        for green in (0, 200):
            found = (picture == (red, green, 0)).all(-1).mean()
            assert found > 0.08 if red in (0, 100, 200) else found < 0.001


def test_frames_are_numbered_by_their_stride(tmp_path):
    clip = np.zeros((4, 12, 16, 3), np.uint8)
    pictures = []
    for name, frames, stride in (("2", clip, 2), ("again", clip, 2), ("1", clip, 1)):
        plot_clips([frames], ["clip"], tmp_path / name, stride=stride)
        pictures.append(imread(tmp_path / name, format="png"))
    assert np.array_equal(pictures[0], pictures[1])
    assert not np.array_equal(pictures[0], pictures[2])


def test_confusion_matrix_refuses_names_of_another_number():
    with pytest.raises(ValueError, match=r"\(2, 2\).*3 class names"):
        plot_confusion_matrix(np.eye(2), ["a", "b", "c"], "never written.png")
