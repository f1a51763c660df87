"""Runs actors in turns that a seed decides, switching wherever one touches the file system.

Each actor is a thread, and one runs at a time: up to its next file operation (seen by an audit hook) or `pause()`. So
any order of the operations of several processes can come up, and comes up again with its seed. An actor that is killed
is never given a turn again, as after SIGKILL; one that is frozen may wake up much later, as a zombie does.
"""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

EVENTS = {"open", "os.rename", "os.remove", "os.listdir", "os.mkdir", "time.sleep"}

_here = threading.local()


class Killed(BaseException):
    """Unwinds the thread of a killed actor, when all is over."""


class Actor:
    """A function that runs in turns."""

    def __init__(self, name: str, function: Callable[[], object]) -> None:
        self.name = name
        self.function = function
        self.error: BaseException | None = None
        self.done = self.killed = self.over = False
        self.frozen_turns = 0
        self.turns = 0
        self._go = threading.Semaphore(0)
        self._back = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        _here.actor = self
        try:
            self.pause()
            self.function()
        except Killed:
            pass
        except BaseException as error:
            self.error = error
        self.done = True
        self._back.release()

    def pause(self) -> None:
        """End this turn; come back when the next one is given."""
        if not self.over:
            if self.turns:
                self._back.release()
            self._go.acquire()
            if self.over:
                raise Killed

    def turn(self) -> None:
        """Run the actor up to its next file operation."""
        self.turns += 1
        self._go.release()
        self._back.acquire()

    def end(self) -> None:
        """Unwind the thread of an actor that is not done."""
        if not self.done:
            self.over = True
            self._go.release()
            self._thread.join(10)


def pause() -> None:
    """End the turn of the actor that calls; nothing outside of one."""
    actor = getattr(_here, "actor", None)
    if actor:
        actor.pause()


_root = ""
"""Of what happens to files, that below this folder counts: an import holds a lock while it opens modules."""


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if event in EVENTS and (event == "time.sleep" or str(arguments[0]).startswith(_root)):
        pause()


@cache
def _install_hook() -> None:
    sys.addaudithook(_hook)  # can never be removed: costs nothing where no actor runs


@contextmanager
def stage(seed: int, folder: Path) -> Iterator[Stage]:
    """Give actors, which work in `folder`, turns in the order that `seed` decides; they are gone at the end."""
    global _root
    _root = str(folder)
    _install_hook()
    created = Stage(random.Random(seed))
    try:
        yield created
    finally:
        for actor in created.actors:
            actor.end()


class Stage:
    """The actors of one run."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.actors: list[Actor] = []
        self.turns = 0

    def start(self, name: str, function: Callable[[], object]) -> Actor:
        actor = Actor(name, function)
        self.actors.append(actor)
        return actor

    def run(self, between: Callable[[Actor], None] = lambda actor: None) -> None:
        """Give turns until every actor is done or killed; `between` is called with the actor before each."""
        while alive := [actor for actor in self.actors if not actor.done and not actor.killed]:
            actor = self.chance.choice([one for one in alive if not one.frozen_turns] or alive)
            for other in alive:
                other.frozen_turns = max(0, other.frozen_turns - 1)
            between(actor)
            if not actor.killed and not actor.frozen_turns:
                self._turns(actor)

    def _turns(self, actor: Actor) -> None:
        for _ in range(self.chance.choice((1, 1, 2, 5, 20))):  # now and then one gets far while the others wait
            if not actor.done:
                actor.turn()
                self.turns += 1
        if actor.error:
            raise AssertionError(f"{actor.name} failed after {self.turns} turns") from actor.error
