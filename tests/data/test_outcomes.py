import json
import os
import threading

import pytest

from mvit_tf.data.outcomes import OutcomeLedger
from mvit_tf.errors import UserError
from mvit_tf.files import write_json_lines


def test_each_video_has_one_outcome_and_failures_stay():
    ledger = OutcomeLedger()
    assert not ledger.record("a.mp4")
    assert ledger.record("b.mp4", "missing", "no such file")
    assert not ledger.record("b.mp4", "decode_error", "later")
    ledger.record("b.mp4")
    ledger.record("c.mp4")
    assert ledger.record("c.mp4", "decode_error", "cut off")
    assert len(ledger) == 3
    assert ledger.failures == {
        "b.mp4": ("missing", "no such file"),
        "c.mp4": ("decode_error", "cut off"),
    }
    assert ledger.failure("b.mp4") == ("missing", "no such file")
    assert ledger.failure("a.mp4") is None and ledger.failure("never asked for") is None
    assert ledger.summary() == "3 videos, 2 left out (1 decode_error, 1 missing)"


def test_check_counts_and_names_the_first_files():
    ledger = OutcomeLedger()
    ledger.check(0.0)  # Nothing asked for yet.
    for i in range(16):
        ledger.record(f"{i}.mp4")
    ledger.check(0.0)
    for i in range(4):
        ledger.record(f"bad{i}.mp4", "empty_file", "the file is empty")
    ledger.check(0.2)
    with pytest.raises(UserError) as error:
        ledger.check(0.19)
    message = str(error.value)
    assert "20 videos, 4 left out (4 empty_file)" in message and "0.19" in message
    assert "bad0.mp4 (empty_file: the file is empty)" in message
    assert "bad2.mp4" in message and "bad3.mp4" not in message and "and 1 more" in message
    assert "\n" not in message


def test_write_gives_json_lines(tmp_path):
    ledger = OutcomeLedger()
    ledger.record("a.mp4")
    ledger.record("ü.mp4", "missing", "no such file")
    write_json_lines(tmp_path / "outcomes.jsonl", ledger.entries())
    lines = (tmp_path / "outcomes.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [
        {"path": "a.mp4", "outcome": "ok", "detail": ""},
        {"path": "ü.mp4", "outcome": "missing", "detail": "no such file"},
    ]
    assert [p.name for p in tmp_path.iterdir()] == ["outcomes.jsonl"]


def test_names_that_are_not_utf8_are_written_escaped_and_read_back(tmp_path):
    ledger = OutcomeLedger()
    name = os.fsdecode(b"caf\xe9.mp4")
    ledger.record(name, "missing", "no such file")
    write_json_lines(tmp_path / "outcomes.jsonl", ledger.entries())
    text = (tmp_path / "outcomes.jsonl").read_text(encoding="utf-8")
    assert text.startswith(r'{"path": "caf\udce9.mp4"')
    assert json.loads(text)["path"] == name
    assert str(ledger.nothing_decoded()).endswith(r"caf\udce9.mp4 (missing: no such file)")


def test_any_name_is_one_line_of_json_and_of_a_message(tmp_path):
    names = ['a "quoted".mp4', "b\nc\r.mp4", "d\x1b[2J\x7f\x9b.mp4", "e\u2028f\x85.mp4", "g" * 4000]
    names.append(os.fsdecode(b"\xff\n.mp4"))
    ledger = OutcomeLedger()
    for name in names:
        ledger.record(name, "missing", "no such file")
    write_json_lines(tmp_path / "outcomes.jsonl", ledger.entries())
    text = (tmp_path / "outcomes.jsonl").read_text(encoding="utf-8")
    assert [json.loads(line)["path"] for line in text.splitlines()] == names
    assert text.replace("\n", "").isprintable()
    ledger = OutcomeLedger()
    ledger.record(names[1], "missing", "no such file")
    assert str(ledger.nothing_decoded()).isprintable()


def test_threads_report_a_new_failure_once():
    ledger, new = OutcomeLedger(), []
    start = threading.Barrier(8)

    def work():
        start.wait()
        new.extend(ledger.record(f"{i}.mp4", "missing", "") for i in range(300))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ledger) == 300 and sum(new) == 300


def test_many_failures_in_a_row_stop_the_loop():
    ledger = OutcomeLedger()
    ledger.record("good.mp4")
    for index in range(19):
        ledger.record(f"{index}.mp4", "missing", "no such file")
        ledger.stop_after_many_in_a_row()
    ledger.record("short.mp4", "padded")
    for index in range(19):
        ledger.record(f"{index}.mp4", "missing", "no such file")
    ledger.stop_after_many_in_a_row()
    ledger.record("last.mp4", "missing", "no such file")
    with pytest.raises(UserError, match="20 videos in a row could not be .* last: last.mp4"):
        ledger.stop_after_many_in_a_row()


def test_failures_of_one_kind_in_a_row_are_counted_apart():
    ledger = OutcomeLedger()
    for index in range(20):
        ledger.record(f"{index}.mp4", "decode_error", "damaged")
    ledger.stop_after_many_in_a_row("missing")
    with pytest.raises(UserError, match="20 videos in a row"):
        ledger.stop_after_many_in_a_row()


def test_failures_in_a_row_are_those_of_one_pass():
    ledger = OutcomeLedger()
    for number in range(15):
        ledger.record(f"{number}.mp4", "missing")
    ledger.end_of_failures()
    for number in range(15):
        ledger.record(f"{number}.mp4", "missing")
    ledger.stop_after_many_in_a_row()
    ledger.clear()
    for number in range(19):
        ledger.record(f"{number}.mp4", "missing")
    ledger.stop_after_many_in_a_row()
    ledger.record("19.mp4", "missing")
    with pytest.raises(UserError, match="20 videos in a row"):
        ledger.stop_after_many_in_a_row()


def test_an_epoch_that_goes_on_ends_with_the_account_of_an_unbroken_one():
    failed = [("bad.mp4", "empty_file", "0 bytes")]

    def record(ledger, positions):
        for position in positions:
            name = f"{position}.mp4"
            ledger.record_clip(2, position, name, "ok", failed if position in (1, 5) else [])

    whole = OutcomeLedger()
    record(whole, range(8))
    # Clips are made ahead of the step that is saved, and of a step more than once.
    broken = OutcomeLedger()
    record(broken, [0, 1, 1, 2, 3, 4, 5])
    state = json.loads(json.dumps(broken.epoch_state(2, 4)))
    record(broken, [6, 7])
    expected = whole.epoch_entries(2)
    for ledger in (broken, OutcomeLedger()):
        ledger.record_clip(3, 0, "0.mp4", "ok", [])
        ledger.restore_epoch(2, state)
        record(ledger, range(4, 6))
        again = json.loads(json.dumps(ledger.epoch_state(2, 6)))
        ledger.restore_epoch(2, again)
        record(ledger, range(6, 8))
        assert ledger.epoch_entries(2) == expected
        assert ledger.epoch_entries(3)[0]["clips"] == 0
    assert expected[0]["clips"] == 8 and expected[0]["replaced"] == 2


def test_a_run_that_goes_on_tries_what_failed_again_and_judges_by_the_whole_set():
    before = OutcomeLedger()
    for number in range(19):
        before.record(f"{number}.mp4")
    before.record("bad.mp4", "empty_file", "0 bytes")
    before.check(0.05)
    ledger = OutcomeLedger()
    ledger.restore_epoch(1, json.loads(json.dumps(before.epoch_state(1, 0))))
    assert not ledger.failures  # It may have been mended.
    ledger.record("0.mp4")
    ledger.record("bad.mp4", "empty_file", "0 bytes")
    ledger.check(0.05, num_videos=20)
    with pytest.raises(UserError, match="2 videos, 1 left out"):
        ledger.check(0.05)
    with pytest.raises(UserError, match="20 videos, 1 left out"):
        ledger.check(0.04, num_videos=20)
