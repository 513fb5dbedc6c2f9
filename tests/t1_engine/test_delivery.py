"""Events reach subscribers one at a time and in order, whatever the threads and the subscribers do."""

from __future__ import annotations

import logging
import threading

import pytest

from fakesysfs.events import Delivery


def test_in_order_and_remembered() -> None:
    delivery: Delivery[int] = Delivery(keep=2)
    seen: list[int] = []
    delivery.subscribe(seen.append)
    for number in range(5):
        delivery.put(number)
    assert seen == []
    delivery.deliver()
    assert seen == [0, 1, 2, 3, 4]
    assert delivery.recent() == [3, 4]


def test_taken_until_there_are_no_more() -> None:
    batches = [[1, 2], [3], []]
    delivery: Delivery[int] = Delivery(lambda: batches.pop(0))
    seen: list[int] = []
    delivery.subscribe(seen.append)
    delivery.deliver()
    assert (seen, batches) == ([1, 2, 3], [])


def test_a_subscriber_that_makes_events_gets_them_afterwards() -> None:
    delivery: Delivery[str] = Delivery()
    seen: list[str] = []

    def echo(event: str) -> None:
        seen.append(f"begin {event}")
        if event == "first":
            delivery.put("second")
            delivery.deliver()
        seen.append(f"end {event}")

    delivery.subscribe(echo)
    delivery.put("first")
    delivery.deliver()
    assert seen == ["begin first", "end first", "begin second", "end second"]


@pytest.mark.logs_errors
def test_a_subscriber_that_fails_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    delivery: Delivery[int] = Delivery()
    seen: list[int] = []

    def fail(event: int) -> None:
        raise ZeroDivisionError(f"{event}")

    delivery.subscribe(fail)
    delivery.subscribe(seen.append)
    delivery.put(7)
    with caplog.at_level(logging.ERROR):
        delivery.deliver()
    assert seen == [7]
    assert [record.getMessage() for record in caplog.records] == ["a subscriber failed at 7"]


def test_without_waiting_another_thread_goes_on() -> None:
    """Its events are delivered by the thread that is at it, also those put at the last moment."""
    delivery: Delivery[int] = Delivery()
    seen: list[tuple[int, int]] = []
    inside, go_on = threading.Event(), threading.Event()

    def slow(event: int) -> None:
        if event == 1:
            inside.set()
            assert go_on.wait(60)
        seen.append((event, threading.get_ident()))

    delivery.subscribe(slow)
    delivery.put(1)
    worker = threading.Thread(target=delivery.deliver)
    worker.start()
    assert inside.wait(60)
    delivery.put(2)
    delivery.deliver(wait=False)
    assert seen == []
    go_on.set()
    worker.join()
    assert seen == [(1, worker.ident), (2, worker.ident)]


def test_unsubscribe_and_clear() -> None:
    delivery: Delivery[int] = Delivery()
    seen: list[str] = []
    end = delivery.subscribe(lambda event: seen.append(f"a{event}"))
    delivery.subscribe(lambda event: seen.append(f"b{event}"))
    delivery.put(1)
    delivery.deliver()
    end()
    end()
    delivery.put(2)
    delivery.deliver()
    delivery.clear()
    delivery.put(3)
    delivery.deliver()
    assert seen == ["a1", "b1", "b2"]
