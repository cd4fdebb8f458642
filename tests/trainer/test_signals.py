"""Signals are noted, not obeyed; the handlers that were there come back; what a job script looks at."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from trainer.signals import REQUEUE_STATUS, STOP_SIGNALS, StopSignals, ask_requeue, clear_requeue


def test_the_first_signal_is_noted_and_none_ends_the_process() -> None:
    with StopSignals() as signals:
        assert signals.received is None
        for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGUSR1, signal.SIGTERM):
            os.kill(os.getpid(), number)
            time.sleep(0)  # handlers run between two instructions
        assert signals.received == "SIGUSR1"


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_each_is_noted_by_its_name(number: signal.Signals) -> None:
    with StopSignals() as signals:
        signal.raise_signal(number)
        assert signals.received == number.name


def test_what_was_there_comes_back_after_an_error_too() -> None:
    def ours(number: int, frame: object) -> None:
        raise AssertionError

    old = signal.signal(signal.SIGUSR1, ours)
    try:
        with pytest.raises(KeyError), StopSignals():
            raise KeyError
        assert signal.getsignal(signal.SIGUSR1) is ours
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGUSR1, old)


SAVING = """
import sys, time
from pathlib import Path
from trainer.signals import REQUEUE_STATUS, StopSignals, ask_requeue
run = Path(sys.argv[1])
with StopSignals() as signals:
    (run / "ready").touch()
    while signals.received is None:
        time.sleep(0.01)
    (run / "saving").touch()
    time.sleep(1.0)  # a save that is interrupted would end here
    ask_requeue(run, step=12, received=signals.received)
    sys.exit(REQUEUE_STATUS)
"""


def test_a_second_signal_of_the_same_kind_or_another_does_not_interrupt_the_save(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", SAVING, str(tmp_path)])
    for mark, numbers in (("ready", [signal.SIGTERM]), ("saving", [signal.SIGTERM, signal.SIGUSR1])):
        while not (tmp_path / mark).exists():
            assert process.poll() is None
            time.sleep(0.01)
        for number in numbers:
            process.send_signal(number)
    assert process.wait(60) == REQUEUE_STATUS
    assert (tmp_path / "requeue").read_text() == "saved at step 12 after SIGTERM\n"


def test_a_run_that_begins_takes_the_request_away(tmp_path: Path) -> None:
    clear_requeue(tmp_path)  # none there
    ask_requeue(tmp_path, step=3, received="SIGUSR1")
    ask_requeue(tmp_path, step=4, received=None)
    assert (tmp_path / "requeue").read_text() == "saved at step 4 after a signal to another rank\n"
    clear_requeue(tmp_path)
    assert not list(tmp_path.iterdir())
