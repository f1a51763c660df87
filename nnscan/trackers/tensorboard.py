"""TensorBoard: an event file a trial, written from what the tables and journals say.

The files are the only memory: what they hold is not written again, and that of an attempt that was replaced is emptied.
Records are written and read here, because TensorBoard's own writer imports TensorFlow where it is installed, and keeps
a thread and an open file a run. Of `tensorboard` come the protocol buffers and the checksum.
"""

from __future__ import annotations

import os
import shlex
import struct
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nnscan.results.feed import Track
from nnscan.results.folder import told
from nnscan.trackers import end_scalars, hyperparameters, run_name, scalars
from nnscan.trial import Status

if TYPE_CHECKING:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

HEADER = struct.Struct("<QI")
"""Of a record: length of its data, and checksum of that. Then come the data and a checksum (TFRecord)."""
FOOTER = struct.Struct("<I")

FILE_VERSION = "brain.Event:2"
"""With which TensorBoard takes a session's start for what it is: earlier files of the run are out of date."""

OWN = ".nnscan"
"""How the files end that are written here: others are left alone."""


class TensorBoard:
    """Writes tracks below a folder, which `tensorboard --logdir` takes.

    Parameters
    ----------
    folder : Path
        Made where it is missing.
    varied : collection of str
        Dotted paths of the hyperparameters that the page HPARAMS shows.
    """

    most = 2000

    def __init__(self, folder: Path, varied: Collection[str] = ()) -> None:
        self._folder, self._varied = folder, frozenset(varied)
        self._written: dict[str, _Written] = {}

    def has(self, track: Track) -> bool:
        """Return whether the track's file holds its end."""
        return self._known(track).is_over

    def take(self, track: Track) -> None:
        """Append what the track's file lacks; a file of another attempt at the trial is emptied."""
        path, known = self._path(track), self._known(track)
        if known.is_over:
            return
        events = list(self._events(track, known))
        with told(path):
            if known.size == 0:
                _begin(path)
            _append(path, known.size, events)
        last = max([known.epoch, *track.epochs])
        self._written[track.trial] = _Written(path, path.stat().st_size, last, is_over=track.is_over)

    def flush(self) -> None:
        """Do nothing: each track is in its file when `take` returns."""

    def close(self) -> None:
        """Do nothing: no file is open."""

    def hint(self) -> Iterator[str]:
        """Yield what to type to look at it."""
        yield f"Look at it with: tensorboard --logdir {shlex.quote(str(self._folder))}"

    def _path(self, track: Track) -> Path:
        # TensorBoard reads the files of a run in the order of their names.
        return self._folder / run_name(track) / f"events.out.tfevents.{int(track.started):010d}.{track.writer}{OWN}"

    def _known(self, track: Track) -> _Written:
        path = self._path(track)
        known = self._written.get(track.trial)
        if known is None or known.path != path:
            known = self._written[track.trial] = _written(path)
        return known

    def _events(self, track: Track, known: _Written) -> Iterator[Event]:
        if known.size == 0:
            yield from _first_events(track, self._varied)
        for epoch in sorted(epoch for epoch in track.epochs if epoch > known.epoch):
            yield _scalar_event(epoch, _wall_time(track, epoch), scalars(track.epochs[epoch]))
        if track.is_over:
            yield _end_event(track)


@dataclass(frozen=True)
class _Written:
    """What an event file holds."""

    path: Path
    size: int = 0
    """Of whole records, bytes; 0 where there is no file that goes on."""
    epoch: int = -1
    """The last."""
    is_over: bool = False


# ---- events ----


def _first_events(track: Track, varied: Collection[str]) -> Iterator[Event]:
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionStartInfo

    yield Event(wall_time=track.started, file_version=FILE_VERSION)
    yield Event(wall_time=track.started, session_log=SessionLog(status=SessionLog.START))
    # Folds and replicates of a configuration are one group.
    info = SessionStartInfo(group_name=track.configuration, start_time_secs=track.started)
    told = {path: value for path, value in hyperparameters(track).items() if path in varied}
    for path, value in {"family": track.family, "kind": track.kind, **told}.items():
        if isinstance(value, bool):
            info.hparams[path].bool_value = value
        elif isinstance(value, int | float):
            info.hparams[path].number_value = value
        else:
            info.hparams[path].string_value = value
    yield _hparams_event("session_start_info", HParamsPluginData(session_start_info=info), track.started)


def _end_event(track: Track) -> Event:
    from tensorboard.plugins.hparams.api_pb2 import Status as Session
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo

    ended = float(track.end.get("ended") or track.started)
    success = track.end["status"] == Status.COMPLETED
    status = Session.Value("STATUS_SUCCESS" if success else "STATUS_FAILURE")
    info = HParamsPluginData(session_end_info=SessionEndInfo(status=status, end_time_secs=ended))
    event = _hparams_event("session_end_info", info, ended)
    best = track.end.get("best_epoch")
    event.step = max(track.epochs, default=0) if best is None else best
    event.summary.value.extend(_values(end_scalars(track)))
    return event


def _hparams_event(tag: str, data: object, wall_time: float) -> Event:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import metadata

    value = Summary.Value(tag=f"_hparams_/{tag}", metadata=metadata.create_summary_metadata(data))
    value.tensor.CopyFrom(metadata.NULL_TENSOR)
    return Event(wall_time=wall_time, summary=Summary(value=[value]))


def _scalar_event(epoch: int, wall_time: float, values: Iterable[tuple[str, float]]) -> Event:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

    return Event(wall_time=wall_time, step=epoch, summary=Summary(value=_values(values)))


def _values(values: Iterable[tuple[str, float]]) -> list[Summary.Value]:
    from tensorboard.compat.proto.summary_pb2 import Summary

    return [Summary.Value(tag=tag, simple_value=value) for tag, value in values]


def _wall_time(track: Track, epoch: int) -> float:
    """Return about when an epoch ended, of its start and the seconds of its epochs: as tables have no times."""
    seconds = (track.epochs[one].get("epoch_seconds") or 0.0 for one in track.epochs if one <= epoch)
    return track.started + sum(float(one) for one in seconds)


# ---- files ----


def _begin(path: Path) -> None:
    """Make room for a new event file: those of other attempts are emptied.

    They stay, because a TensorBoard that reads with `--load_fast=false` stops at one that was removed under it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for other in path.parent.glob(f"*{OWN}"):
        os.truncate(other, 0)


def _append(path: Path, size: int, events: Iterable[Event]) -> None:
    """Append events behind the first `size` bytes of a file, made where it is missing."""
    content = b"".join(_record(event.SerializeToString()) for event in events)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
    with open(descriptor, "wb") as file:  # noqa: PTH123
        file.truncate(size)  # half a record, of a process that was killed
        file.seek(size)
        file.write(content)


def _record(data: bytes) -> bytes:
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

    length = struct.pack("<Q", len(data))
    return HEADER.pack(len(data), masked_crc32c(length)) + data + FOOTER.pack(masked_crc32c(data))


def records(content: bytes) -> Iterator[tuple[bytes, int]]:
    """Yield the data of each whole record of an event file, and the place behind it."""
    place = 0
    while place + HEADER.size <= len(content):
        length, _ = HEADER.unpack_from(content, place)
        start, place = place + HEADER.size, place + HEADER.size + length + FOOTER.size
        if place > len(content):
            return
        yield content[start : start + length], place


def _written(path: Path) -> _Written:
    """Return what the file of a track holds; an unreadable one is written anew."""
    from google.protobuf.message import DecodeError
    from tensorboard.compat.proto.event_pb2 import Event

    try:
        found = list(records(path.read_bytes()))
        events = [Event.FromString(data) for data, _ in found]
    except (OSError, DecodeError):
        return _Written(path)
    tags = {value.tag for event in events[-1:] for value in event.summary.value}
    epochs = [event.step for event in events if event.summary.value and not event.summary.value[0].metadata.ByteSize()]
    is_begun = len(events) > 2 and events[0].file_version == FILE_VERSION  # with less it is begun anew
    if not is_begun:
        return _Written(path)
    return _Written(path, found[-1][1], max(epochs, default=-1), is_over="_hparams_/session_end_info" in tags)
