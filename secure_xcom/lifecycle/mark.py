"""Whether this database is the one that a store's objects belong to, or a copy of it.

A copy has the original's rows, and none of those that the original wrote afterwards: to it, their
objects look like orphans. So each collection leaves a mark in the store, one number higher than
the last (`docs/format.md`, section 7.3), and the database remembers which mark was its own. A
database whose mark is not the store's last one is a copy, was restored, or is new here, and only a
person can say which.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

from secure_xcom.errors import ConfigError, ObjectNotFound, StoreError
from secure_xcom.format.names import deployment
from secure_xcom.stores.protocol import FORMAT_VERSION, Store

#: Below a store, the folder of marks; in it, a folder for each deployment.
FOLDER = "~gc"
#: The Variable in which a database keeps its own marks.
VARIABLE = "secure_xcom_gc"
_DIGITS = 16
_TOKEN_BYTES = 16
_CONTENT_BYTES_MAX = 1024


class Held(NamedTuple):
    """What a database remembers of its marks in one folder of a store."""

    #: The token of the mark that it wrote last, or was about to write.
    token: str
    #: The token of the one before, which is the store's last one if that write never happened.
    former: str


@dataclass(frozen=True, slots=True)
class Memory:
    """Where a database keeps what it remembers: the text of a Variable; None if there is none."""

    read: Callable[[], str | None]
    write: Callable[[str], None]

    def of(self, place: str) -> Held | None:
        """What is remembered of a place.

        Raises:
            ConfigError: the Variable holds something else.
        """
        held = self._all().get(place)
        if held is None:
            return None
        try:
            return Held(str(held["token"]), str(held["former"]))
        except (LookupError, TypeError):
            raise _no_memory() from None

    def keep(self, place: str, held: Held) -> None:
        """Remember something of a place, in the place of what was remembered of it."""
        self.write(json.dumps(self._all() | {place: held._asdict()}, sort_keys=True))

    def _all(self) -> dict[str, dict[str, str]]:
        try:
            places = json.loads(self.read() or "{}")
        except (ValueError, RecursionError):
            places = None
        if not isinstance(places, dict):
            raise _no_memory()
        return places


def _no_memory() -> ConfigError:
    return ConfigError(
        f"The Variable {VARIABLE} does not hold what `secure-xcom gc` wrote there. Delete it, and "
        "run gc with --adopt once you are sure that no other deployment writes to this folder of "
        "the store."
    )


class Mark:
    """The marks of one deployment in one store.

    Args:
        store: the store.
        instance: the deployment's, without a mark of states.
        memory: the database's.
    """

    def __init__(self, store: Store, instance: str, memory: Memory) -> None:
        self._store = store
        self._instance = instance
        self._memory = memory
        self._folder = f"{FOLDER}/{deployment(instance)}"
        self._place = f"{store.uri} {deployment(instance)}"
        self._seen = (0, "")

    def check(self, *, adopt: bool, is_former: bool = False) -> None:
        """See whether the store's last mark is this database's own.

        Args:
            adopt: a person says that it is the database of these objects, whatever the mark says.
            is_former: the deployment had this name before. If a mark is there that is not this
                database's, another one collects under it, and nobody can say otherwise.

        Raises:
            ConfigError: it is not, and nobody says so.
            StoreError: the store cannot be asked.
        """
        held = self._memory.of(self._place)
        number, token = self._seen = self._last()
        if held is not None and token and token in held:
            return
        if adopt and not (is_former and number):
            return
        where = f"{self._store.uri} (instance {self._instance!r})"
        if not number and held is None:
            found = f"Nothing has been collected in {where} before."
        elif not number:
            found = f"The mark in {where} is gone that this database left there."
        elif held is None:
            found = f"Mark {number} in {where} was left by another database than this one."
        else:
            found = (
                f"Mark {number} in {where} is later than the one that this database left: it is a "
                "copy of another database, or was restored from a backup."
            )
        if is_former and number:
            raise ConfigError(
                f"{found} So the deployment still lives under its former name, and its objects are "
                "not for this one to collect. Leave --former-instance away; once it is gone for "
                "good, a lifecycle rule of the bucket ends what it has left."
            )
        raise ConfigError(
            f"{found} A copy takes the objects of newer rows, which it does not have, for orphans. "
            "If this is a copy, give it another `instance` and `store_uri`. If it is the one "
            "database that these objects belong to, run the command once with --adopt."
        )

    def raise_(self) -> int:
        """Leave the mark after the one that was checked, and remember it; its number.

        Raises:
            ConfigError: another database was faster.
            StoreError: the store did not take it.
        """
        number, former = self._seen
        before = self._memory.of(self._place)
        token = secrets.token_hex(_TOKEN_BYTES)
        # The database first: if the process ends in between, the store's last mark is `former`.
        self._memory.keep(self._place, Held(token, former))
        content = json.dumps({"number": number + 1, "token": token}).encode()
        try:
            self._store.create(self._name(number + 1), lambda: [content], {FORMAT_VERSION: "1"})
        except StoreError:
            if self._last()[1] not in (token, former):
                now = self._memory.of(self._place)
                if before is not None and now is not None and now.token == token:
                    self._memory.keep(self._place, before)
                raise ConfigError(
                    f"Another collection has begun in {self._store.uri} (instance "
                    f"{self._instance!r}) at the same time; nothing was deleted. If it was not one "
                    "of this database, a copy of it is in use."
                ) from None
            raise
        # Another collection of this database, that has lost, may have remembered its own.
        self._memory.keep(self._place, Held(token, former))
        for entry in list(self._store.entries(f"{self._folder}/")):
            if self._number(entry.name) <= number:
                # One that is left is looked over the next time.
                with suppress(StoreError):
                    self._store.delete(entry.name, generation=entry.generation)
        return number + 1

    def _last(self) -> tuple[int, str]:
        """Number and token of the store's last mark; 0 and nothing where there is none."""
        number = max(
            (self._number(entry.name) for entry in self._store.entries(f"{self._folder}/")),
            default=0,
        )
        if not number:
            return 0, ""
        try:
            _, chunks = self._store.fetch(self._name(number))
            content = json.loads(b"".join(map(bytes, chunks))[:_CONTENT_BYTES_MAX])
            return number, str(content["token"])
        except ObjectNotFound:
            # A later one has taken its place in this moment.
            return self._last()
        except (ValueError, LookupError, TypeError):
            return number, ""

    def _name(self, number: int) -> str:
        return f"{self._folder}/{number:0{_DIGITS}}"

    def _number(self, name: str) -> int:
        digits = name.removeprefix(f"{self._folder}/")
        return int(digits) if len(digits) == _DIGITS and digits.isdecimal() else 0
