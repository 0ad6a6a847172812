"""Signals that are noted, obeyed at once, or left to what handled them before."""

import signal

import pytest

from mvit_tf.interruption import STOP_SIGNALS, Interrupted, StopRequest, stop_requests


@pytest.fixture(params=[signal.SIGTERM, signal.SIGUSR1])
def number(request):
    before = signal.signal(request.param, signal.default_int_handler)
    yield request.param
    assert signal.getsignal(request.param) is signal.default_int_handler
    signal.signal(request.param, before)


def test_the_first_is_noted_and_the_second_is_as_before(number):
    request = StopRequest()
    with stop_requests(request, *STOP_SIGNALS):
        request.check()
        signal.raise_signal(number)
        assert request.number == number
        with pytest.raises(Interrupted) as raised:
            request.check()
        assert raised.value.exit_status == 128 + number
        with pytest.raises(KeyboardInterrupt) as second:
            signal.raise_signal(number)
        assert not isinstance(second.value, Interrupted)


def test_where_nothing_is_lost_it_ends_at_once(number):
    request = StopRequest()
    with pytest.raises(Interrupted), stop_requests(request, number), request.obeyed_at_once():
        signal.raise_signal(number)
    # What came before is obeyed there too.
    with pytest.raises(Interrupted), request.obeyed_at_once():
        raise AssertionError("not reached")


def test_it_may_have_become_another_error_on_its_way(number):
    request = StopRequest()
    with (
        pytest.raises(Interrupted) as raised,
        stop_requests(request, number),
        request.obeyed_at_once(),
    ):
        try:
            signal.raise_signal(number)
        except KeyboardInterrupt:
            raise SystemError("returned a result with an exception set") from None
    assert isinstance(raised.value.__cause__, SystemError)
    # An error that has nothing to do with a signal noted stays what it is.
    request = StopRequest()
    with pytest.raises(SystemError), stop_requests(request, number):
        signal.raise_signal(number)
        raise SystemError


def test_what_is_ignored_stays_ignored(number):
    signal.signal(number, signal.SIG_IGN)
    request = StopRequest()
    with stop_requests(request, number):
        signal.raise_signal(number)
    assert request.number is None and signal.getsignal(number) is signal.SIG_IGN
    signal.signal(number, signal.default_int_handler)


def test_several_workers_stop_together():
    asked = []

    def agree(number):
        asked.append(number)
        return max(number, 2 * signal.SIGTERM)

    request = StopRequest(agree)
    assert request.agree(due=True) == (True, False)
    with pytest.raises(Interrupted) as raised:
        request.check()
    assert raised.value.number == signal.SIGTERM
    alone = StopRequest()
    assert alone.agree() == (False, False) and alone.agree(due=True) == (False, True)
    alone.check()
    alone.receive(signal.SIGUSR1)
    assert alone.agree(due=True)[0] and asked == [1]
