"""The processes that train one model together: one, or as many as torchrun starts (docs/many-devices.md).

Every process learns its share of each batch, and the gradients are summed before each step. So all processes take the
same steps with the same weights, and the batch of the recipe stays the batch of a step.

Dense gradients are summed as one tensor. NCCL sums no sparse tensors, so every process gathers the rows of all sparse
gradients. An error in one process ends all of them with its message, and no process waits longer than the
time limit for another one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, Protocol, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous

from contract.command_line import CommandError, one_line
from training.rows.share import WHOLE, Share

T = TypeVar("T")

DEFAULT_MINUTES: Final = 30.0
_FAILED: Final = "failed"  # the key of the store under which a process leaves its error
_TELL_SECONDS: Final = 5.0  # that the others wait for it, once a connection has broken


class Store(Protocol):
    """The methods of torch's store that are used here."""

    def set(self, key: str, value: str) -> None:
        """Keep a value."""

    def get(self, key: str) -> bytes:
        """Return a value."""

    def wait(self, keys: list[str], timeout: timedelta) -> None:
        """Return when the keys have values."""


class WorldError(CommandError, RuntimeError):
    """The processes of a training cannot go on together; the message has the reason."""


class World:
    """The processes of one training, as one of them sees it.

    Args:
        share: the place of this process.
        store: where a process leaves its error for the others; None if it is the only one.
    """

    def __init__(self, share: Share = WHOLE, store: Store | None = None) -> None:
        self.share, self._store = share, store

    @property
    def is_first(self) -> bool:
        """Whether this process writes the run, validates and prints."""
        return self.share.rank == 0

    @property
    def size(self) -> int:
        """Number of processes."""
        return self.share.size

    def sum_gradients(self, dense: Sequence[Tensor], sparse: Sequence[Tensor], loss: float) -> float:
        """Replace every gradient by its sum over all processes; returns the sum of the losses.

        Args:
            dense: weights whose gradients are dense or absent; the same ones in every process.
            sparse: tables whose gradients are sparse or absent.
            loss: of this process.

        Raises:
            WorldError: another process has failed, or did not answer in time.
        """
        if self.size == 1:
            return loss
        return self._together(lambda: self._summed(dense, sparse, loss))

    def from_first(self, value: T) -> T:
        """Return the first process's value, in every process.

        Raises:
            WorldError: as `sum_gradients`.
        """
        return value if self.size == 1 else self._together(lambda: _broadcast(value))

    def total(self, value: float) -> float:
        """Return the sum of a number over all processes.

        Raises:
            WorldError: as `sum_gradients`.
        """
        return value if self.size == 1 else float(sum(self._together(lambda: _gathered(value, self.size))))

    def begin(self, model: nn.Module, facts: dict[str, Any]) -> None:
        """Give every process the first one's weights, and refuse processes that would learn different things.

        Args:
            model: built in every process, on its device.
            facts: that must be equal in all processes, by a name for people.

        Raises:
            WorldError: they differ, or as `sum_gradients`.
        """
        if self.size > 1:
            self._check_same(self._together(lambda: _gathered(facts, self.size)))
            self._together(lambda: _broadcast_weights(model))

    def folder(self, path: Path) -> _Folder:
        """Return the folder to write a run into: the given one in the first process, one to forget in others."""
        return _Folder(path if self.is_first else None)

    def leave_error(self, error: BaseException) -> None:
        """Tell the other processes why this one ends; its connections must not be closed yet."""
        if self._store is not None:
            message = f"process {self.share.rank} of {self.size}: {one_line(str(error) or type(error).__name__)}"
            with suppress(RuntimeError):  # the store has gone: all processes are ending
                self._store.set(_FAILED, message)

    def _check_same(self, all_facts: list[dict[str, Any]]) -> None:
        for rank, facts in enumerate(all_facts):
            for name, value in facts.items():
                if value != all_facts[0][name]:
                    raise WorldError(f"process {rank} has other {name} than process 0: {value}, {all_facts[0][name]}")

    def _together(self, work: Callable[[], T]) -> T:
        """Run an exchange; if it breaks, raise the error of the process that broke it."""
        try:
            return work()
        except RuntimeError as error:
            reason = one_line(str(error))[:200]
            raise WorldError(self._left_error() or f"another process ended, or was too slow: {reason}") from error

    def _left_error(self) -> str:
        assert self._store is not None
        try:
            self._store.wait([_FAILED], timedelta(seconds=_TELL_SECONDS))
            return bytes(self._store.get(_FAILED)).decode()
        except RuntimeError:
            return ""

    def _summed(self, dense: Sequence[Tensor], sparse: Sequence[Tensor], loss: float) -> float:
        total = _sum_dense(dense, loss)
        for table in sparse:
            _join_sparse(table, self.size)
        return total


ONE_PROCESS: Final = World()
"""The world of a single process."""


class _Folder:
    """A folder, or a temporary one that is removed on leaving."""

    def __init__(self, path: Path | None) -> None:
        self._path, self._made = path, None if path is not None else TemporaryDirectory(ignore_cleanup_errors=True)

    def __enter__(self) -> Path:
        if self._made is not None:
            return Path(self._made.name)
        assert self._path is not None
        return self._path

    def __exit__(self, *_: object) -> None:
        if self._made is not None:
            self._made.cleanup()


@contextmanager
def joined(device: torch.device, minutes: float = DEFAULT_MINUTES) -> Iterator[World]:
    """Join the processes that torchrun started; without torchrun this process is the only one.

    Args:
        device: of this process; CUDA uses NCCL, anything else gloo.
        minutes: that an exchange, or the first process's validation, may take.

    Raises:
        WorldError: not all processes came in time.
    """
    if not dist.is_torchelastic_launched():
        yield ONE_PROCESS
        return
    world = _join(device, timedelta(minutes=minutes))
    try:
        yield world
    except BaseException as error:
        world.leave_error(error)
        raise
    finally:
        dist.destroy_process_group()


def _join(device: torch.device, limit: timedelta) -> World:
    if device.type == "cuda":
        torch.cuda.set_device(device)
    try:
        store, rank, size = next(iter(rendezvous("env://", timeout=limit)))
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=limit)
    except (RuntimeError, ValueError) as error:
        raise WorldError(f"the processes of torchrun did not meet: {one_line(str(error))[:200]}") from error
    return World(Share(rank, size), store)


def _sum_dense(weights: Sequence[Tensor], loss: float) -> float:
    """Sum the gradients, which weights have one, and the losses, as one tensor."""
    sizes = [weight.numel() for weight in weights]
    flat = torch.zeros(sum(sizes) + len(weights) + 1, device=weights[0].device if weights else _device())
    *parts, present, total = torch.split(flat, [*sizes, len(weights), 1])
    for number, (weight, part) in enumerate(zip(weights, parts, strict=True)):
        if weight.grad is not None:
            part.copy_(weight.grad.flatten())
            present[number] = 1.0
    total.fill_(loss)
    dist.all_reduce(flat)
    for weight, part, found in zip(weights, parts, present.tolist(), strict=True):
        weight.grad = part.view_as(weight) if found else None
    return float(total)


def _join_sparse(table: Tensor, size: int) -> None:
    """Replace the table's gradient by the rows of all processes; rows that several of them read stay apart."""
    rows, values = _rows_of(table)
    counts = [torch.zeros(1, dtype=torch.int64, device=rows.device) for _ in range(size)]
    dist.all_gather(counts, torch.tensor([len(rows)], device=rows.device))
    lengths = [int(count) for count in counts]
    if not any(lengths):
        table.grad = None
        return
    all_rows = torch.cat(_gather_padded(rows, lengths))
    all_values = torch.cat(_gather_padded(values, lengths))
    table.grad = torch.sparse_coo_tensor(all_rows[None], all_values, table.shape, check_invariants=False)


def _rows_of(table: Tensor) -> tuple[Tensor, Tensor]:
    if table.grad is None:
        rows = torch.zeros(0, dtype=torch.int64, device=table.device)
        return rows, torch.zeros((0, *table.shape[1:]), dtype=table.dtype, device=table.device)
    gradient = table.grad.coalesce()
    return gradient.indices()[0], gradient.values()


def _gather_padded(own: Tensor, lengths: Sequence[int]) -> list[Tensor]:
    """Return each process's rows: tensors of one length travel, cut to their own lengths afterwards."""
    padded = own.new_zeros((max(lengths), *own.shape[1:]))
    padded[: len(own)] = own
    found = [torch.empty_like(padded) for _ in lengths]
    dist.all_gather(found, padded)
    return [part[:length] for part, length in zip(found, lengths, strict=True)]


def _broadcast(value: T) -> T:
    values = [value]
    dist.broadcast_object_list(values)
    return values[0]


def _gathered(value: T, size: int) -> list[T]:
    values: list[Any] = [None] * size  # Any: the other processes' values
    dist.all_gather_object(values, value)
    return values


def _broadcast_weights(model: nn.Module) -> None:
    for tensor in (*model.parameters(), *model.buffers()):
        dist.broadcast(tensor.data, 0)


def _device() -> torch.device:
    return torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")
