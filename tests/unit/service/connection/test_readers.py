"""Answers that callers leave unread are bounded for all connections together."""

from __future__ import annotations

from service.connection.readers import SlowReaders


class Connection:
    """Remembers whether it was cut off."""

    def __init__(self) -> None:
        self.is_cut = False

    def cut_off(self) -> None:
        self.is_cut = True


def test_the_longest_waiting_are_cut_off_and_no_more_than_needed() -> None:
    readers, connections = SlowReaders(100), [Connection() for _ in range(5)]
    for connection in connections:
        readers.add(connection, 40)
    assert [connection.is_cut for connection in connections] == [True, True, True, False, False]


def test_a_connection_that_has_been_read_does_not_count() -> None:
    readers, connections = SlowReaders(100), [Connection() for _ in range(10)]
    for connection in connections:
        readers.add(connection, 100)
        readers.remove(connection)
    assert not any(connection.is_cut for connection in connections)


def test_a_connection_counts_with_what_it_holds_now() -> None:
    readers, one = SlowReaders(100), Connection()
    for _ in range(10):
        readers.add(one, 60)
    assert not one.is_cut


def test_one_that_alone_holds_too_much_is_cut_off() -> None:
    readers, one = SlowReaders(100), Connection()
    readers.add(one, 101)
    assert one.is_cut
