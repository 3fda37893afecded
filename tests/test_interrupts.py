"""What SIGINT and SIGTERM do to work that has asked them to wait."""

import os
import signal
import threading

import pytest

from alignflow.interrupts import (
    DEFAULTS,
    Interrupted,
    deferred_signals,
    resumable,
    terminable,
)

SIGNALS = [signal.SIGINT, signal.SIGTERM]


@pytest.fixture(autouse=True)
def no_handlers_of_the_program():
    """Also where the tests run in the background, which ignores Ctrl-C."""
    before = {number: signal.signal(number, default) for number, default in DEFAULTS.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def send(number):
    os.kill(os.getpid(), number)


def handlers():
    return {number: signal.getsignal(number) for number in SIGNALS}


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_waits_until_it_is_asked_for_and_says_where_it_ended_the_work(number):
    with pytest.raises(Interrupted, match=f"stopped by {number.name} after part 1") as stopped:
        with deferred_signals() as pending:
            send(number)
            pending.raise_if_any("after part 1")
    assert stopped.value.signal is number
    assert handlers() == DEFAULTS


def test_nothing_ends_where_no_signal_came():
    with deferred_signals() as pending:
        pending.raise_if_any("never")
    assert handlers() == DEFAULTS


def test_a_second_ctrl_c_acts_at_once():
    with pytest.raises(KeyboardInterrupt) as stopped, deferred_signals():
        send(signal.SIGINT)
        send(signal.SIGINT)
        raise AssertionError("the second was to act")
    assert not isinstance(stopped.value, Interrupted)
    assert handlers() == DEFAULTS


def test_an_inner_context_has_the_signal_that_came_to_the_outer_one():
    with pytest.raises(Interrupted, match="in the inner"):
        with deferred_signals():
            send(signal.SIGTERM)
            with deferred_signals() as inner:
                inner.raise_if_any("in the inner")


def test_a_signal_that_nobody_asked_for_is_raised_at_the_end():
    done = []
    with pytest.raises(Interrupted, match="at the end"), deferred_signals():
        with deferred_signals():
            send(signal.SIGINT)
        done.append("outer goes on")
    assert done


def test_an_error_of_the_work_itself_is_what_is_told():
    with pytest.raises(ZeroDivisionError), deferred_signals():
        send(signal.SIGINT)
        _ = 1 / 0


def test_handlers_of_the_program_are_left_alone():
    came, theirs = [], lambda number, frame: came.append(number)
    before = signal.signal(signal.SIGTERM, theirs)
    try:
        with deferred_signals() as pending:
            send(signal.SIGTERM)
            assert came == [signal.SIGTERM] and pending.signal is None
        assert signal.getsignal(signal.SIGTERM) is theirs
    finally:
        signal.signal(signal.SIGTERM, before)


def test_another_thread_changes_no_handler():
    seen = []

    def work():
        with deferred_signals() as pending:
            seen.append((handlers(), pending.signal))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(DEFAULTS, None)]


# --- around all of it ---


def test_sigterm_is_raised_where_it_comes_and_its_default_is_back_afterwards():
    with pytest.raises(Interrupted, match="stopped by SIGTERM") as stopped, terminable():
        send(signal.SIGTERM)
        raise AssertionError("the signal was to act")
    assert stopped.value.signal is signal.SIGTERM
    assert handlers() == DEFAULTS


def test_work_that_has_asked_for_it_defers_a_sigterm_that_would_be_raised_around_it():
    with pytest.raises(Interrupted, match="after part 1"), terminable():
        with deferred_signals() as pending:
            send(signal.SIGTERM)
            pending.raise_if_any("after part 1")
    assert handlers() == DEFAULTS


@pytest.mark.parametrize("number", SIGNALS)
def test_how_the_work_goes_on_is_noted_once(number):
    with pytest.raises(KeyboardInterrupt) as stopped, terminable(), resumable("runs/a"):
        with resumable("runs/a", "steer"):
            send(number)
    way = "steer was stopped. What was done is kept: `alignflow resume runs/a`"
    assert stopped.value.__notes__ == [way]
