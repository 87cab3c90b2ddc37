"""What attaches an index of texts to Airflow's maskers, and to what this process writes.

Airflow's maskers only ever call `replacer.sub(replacement, text)`. They make that attribute anew
with each secret of their own; so it becomes a property, which puts both together.
"""
# ruff: noqa: ANN401 - Airflow's own objects, of whatever version

from __future__ import annotations

import copy
import logging
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Protocol

from secure_xcom.airflow import versions
from secure_xcom.airflow.masking.index import joined, replaced

#: What stands in the place of a text, as Airflow has it.
HIDDEN = "***"
_OURS = "secure_xcom"
_DONE = "_secure_xcom_masked"
#: Structures that are nested deeper, or refer to themselves, are hidden from there on.
_DEEPEST = 50


class Texts(Protocol):
    """What knows the texts to be hidden."""

    def spans(self, line: str) -> list[tuple[int, int]]:
        """Give the places in a line that are to be hidden, in order."""
        ...

    def withholds(self) -> bool:
        """Whether whole lines are to be hidden, since not all texts are known."""
        ...


class _Speaking(threading.local):
    """Whether this thread writes a message of this package, which holds no values."""

    now = False


_speaking = _Speaking()


@contextmanager
def speaking() -> Iterator[None]:
    """Write what is logged here as it is."""
    before, _speaking.now = _speaking.now, True
    try:
        yield
    finally:
        _speaking.now = before


class Attached:
    """An index that is attached to the maskers and the output of this process."""

    def __init__(self, texts: Texts) -> None:
        self._texts = texts
        #: Called when something was written to a stream.
        self.written: Callable[[], None] = lambda: None
        self._undo: list[Callable[[], None]] = []
        for masker in _maskers():
            self._attach(masker)
        if versions.is_airflow_3():
            _mask_events()
        for stream in (sys.stdout, sys.stderr):
            self._mask_stream(stream)
        _all.append(self)
        self._undo.append(lambda: _all.remove(self))

    def detach(self) -> None:
        """Put everything back as it was."""
        while self._undo:
            self._undo.pop()()

    def hide(self, line: str, replacement: str = HIDDEN) -> str:
        """Hide the texts that stand in a line."""
        spans = self._texts.spans(line)
        return replaced(line, spans, replacement) if spans else line

    def hide_line(self, line: str) -> str:
        """Hide the texts that stand in a line, or all of it where lines are withheld."""
        if _speaking.now or not line:
            return line
        return withheld(line) if self._texts.withholds() else self.hide(line)

    def _attach(self, masker: Any) -> None:
        stock = type(masker)
        texts = self._texts

        def replacer(self: Any) -> Any:
            known = self.__dict__.get("replacer")
            return known if _speaking.now else _Both(texts, known)

        def set_replacer(self: Any, known: Any) -> None:
            self.__dict__["replacer"] = known.stock if isinstance(known, _Both) else known

        def filter_(self: Any, record: logging.LogRecord) -> Any:
            if not _is_ours(record.name):
                attached._hide_in_record(record)
                if record.exc_info:  # of which it hides the arguments
                    return stock.filter(self, record)
            with speaking():
                return stock.filter(self, record)

        attached = self
        members = {"replacer": property(replacer, set_replacer), "filter": filter_}
        masker.__class__ = type(stock.__name__, (stock,), members)
        self._undo.append(lambda: setattr(masker, "__class__", stock))

    def _hide_in_record(self, record: logging.LogRecord) -> None:
        """Hide in a record what it would show, and keep the types and structure of its parts."""
        if record.__dict__.get(_DONE):
            return
        record.__dict__[_DONE] = True
        if self._texts.withholds():
            record.msg, record.args = HIDDEN, ()
            record.exc_info = record.exc_text = record.stack_info = None
        plain = None
        with suppress(Exception):  # a message that is none is for the handler to complain about
            plain = record.getMessage()
        if plain is not None and plain is record.msg:
            record.msg = self.redacted(plain)
        elif plain is not None:
            hidden = self.hide(plain)
            record.msg, record.args = self.redacted(record.msg), self.redacted(record.args)
            shown = None
            with suppress(Exception):  # such as of a number that is none any more
                shown = record.getMessage()
            # What stands there still is in the text of an object.
            if shown is None or self._texts.spans(shown):
                record.msg, record.args = hidden, ()
        if record.exc_info and not record.exc_text:
            text = logging.Formatter().formatException(record.exc_info)
            hidden = self.hide(text)
            if hidden != text:
                record.exc_text = hidden
        for name in record.__dict__.keys() - _STOCK:
            value = record.__dict__[name]
            record.__dict__[name] = HIDDEN if self._texts.withholds() else self.redacted(value)

    def redacted(self, item: Any, depth: int = 0) -> Any:  # noqa: PLR0911 - one for each kind
        """Hide texts in a structure; what holds none is given back as it is."""
        if isinstance(item, str):
            hidden = self.hide(item)
            return item if hidden == item else hidden
        if item is None or isinstance(item, bool):
            return item
        if isinstance(item, int | float):
            return HIDDEN if self._texts.spans(str(item)) else item
        if isinstance(item, bytes):
            text = repr(item)[2:-1]
            return HIDDEN.encode() if self._texts.spans(text) else item
        if not isinstance(item, Mapping | list | tuple | set | frozenset):
            return item
        if depth > _DEEPEST:
            return HIDDEN
        if isinstance(item, Mapping):
            return self._redacted_mapping(item, depth)
        changed = [self.redacted(one, depth + 1) for one in item]
        if all(new is old for new, old in zip(changed, item, strict=True)):
            return item
        make = getattr(type(item), "_make", type(item))
        return make(changed)

    def _redacted_mapping(self, item: Mapping[Any, Any], depth: int) -> Any:
        names: dict[Any, Any] = {}
        values: dict[Any, Any] = {}
        for key, value in item.items():
            name = self.redacted(key, depth + 1) if isinstance(key, str | int) else key
            if name is not key and name in values:  # two that are hidden stay two
                name = f"{name} ({len(values)})"
            names[key], values[name] = name, self.redacted(value, depth + 1)
        if all(names[key] is key and values[key] is item[key] for key in item):
            return item
        try:
            twin = copy.copy(item)
            twin.clear()  # type: ignore[attr-defined]
            twin.update(values)  # type: ignore[attr-defined]
        except Exception:  # noqa: BLE001 - a mapping that cannot be changed
            return values
        return twin

    def hide_in_event(self, logger: Any, event: Any) -> Any:
        """Hide in an event of structlog what it would show."""
        if not isinstance(event, Mapping):
            return self.hide(event) if isinstance(event, str) else event
        record = event.get("_record")
        name = getattr(record, "name", None) or event.get("logger") or getattr(logger, "name", "")
        if _speaking.now or _is_ours(str(name)):
            return event
        if self._texts.withholds():
            kept = {key: event[key] for key in _FRAME if key in event}
            return {**kept, "event": HIDDEN}
        return {key: self._hide_in_part(value) for key, value in event.items()}

    def _hide_in_part(self, value: Any) -> Any:
        if isinstance(value, logging.LogRecord):
            return value
        hidden = self.redacted(value)
        if hidden is not value or isinstance(value, _IN_JSON):
            return hidden
        text = repr(value)
        hidden = self.hide(text)
        return value if hidden == text else hidden

    def _mask_stream(self, stream: Any) -> None:
        # On Airflow 2 a task's output is made into log records.
        if stream is None or type(stream).__name__ == "StreamLogWriter":
            return
        write = stream.write

        def masked(text: str) -> int:
            write(self.hide_line(text))
            self.written()
            return len(text)

        def undo() -> None:
            if vars(stream).get("write") is masked:
                del stream.write

        with suppress(AttributeError, TypeError):  # a stream of some other make
            stream.write = masked
            self._undo.append(undo)


class _Both:
    """A replacer of two: the texts of this package, and what Airflow's masker made by itself."""

    def __init__(self, texts: Texts, stock: Any) -> None:
        self._texts = texts
        self.stock = stock

    def sub(self, replacement: str, text: str) -> str:
        """Put the replacement in the place of what either of them knows."""
        try:
            spans = self._texts.spans(text)
        except Exception:  # noqa: BLE001 - Airflow lets a text pass where its masker raises
            return replacement
        if self.stock is not None:
            if not hasattr(self.stock, "finditer"):
                return str(self.stock.sub(replacement, replaced(text, spans, replacement)))
            # Both look at the text as it was: neither may leave the rest of what the other knows.
            own = [match.span() for match in self.stock.finditer(text)]
            spans = joined(sorted([*spans, *own]))
        return replaced(text, spans, replacement) if spans else text


#: What the members of every log record are called, but for its message's.
_STOCK = frozenset(logging.makeLogRecord({}).__dict__) | {_DONE, "message", "asctime"}
#: What is kept of an event whose text is withheld.
_FRAME = ("timestamp", "level", "logger", "_record", "_from_structlog")
_IN_JSON = (str, int, float, bytes, type(None), Mapping, list, tuple, set, frozenset)


#: Those that are attached now.
_all: list[Attached] = []


def _mask_events() -> None:
    """Have tasks of Airflow 3 mask what they log before they make a line of it.

    They leave that to their supervisor, whose copy on the scheduler's own output is not masked
    (LocalExecutor, from 3.2 on), and which cannot be told of this many texts. What is added stays,
    and does nothing when nothing is attached: a line may be on its way through it at any time.
    """
    import structlog  # noqa: PLC0415 - Airflow 2 has none

    formatters = (handler.formatter for handler in logging.getLogger().handlers)
    chains = [structlog.get_config()["processors"]]
    chains += [getattr(formatter, "processors", None) for formatter in formatters]
    for chain in chains:
        if isinstance(chain, list) and _hide_in_event not in chain:
            chain.insert(len(chain) - 1, _hide_in_event)  # the last one makes the line


def _hide_in_event(logger: Any, _method: str, event: Any) -> Any:
    for attached in tuple(_all):
        event = attached.hide_in_event(logger, event)
    return event


def _is_ours(name: str) -> bool:
    # The trial's DAGs play the part of users'.
    return name == _OURS or (
        name.startswith(f"{_OURS}.") and not name.startswith(f"{_OURS}.trial.")
    )


def withheld(text: str) -> str:
    """Give lines of which each that is not empty is hidden."""
    lines = text.splitlines(keepends=True)
    return "".join(
        line if not line.strip() else HIDDEN + line[len(line.rstrip("\r\n")) :] for line in lines
    )


def _maskers() -> list[Any]:
    """Give the maskers of this process.

    The DAG processor of Airflow 2 configures its logging a second time, and what its handlers have
    then is not what Airflow itself takes for its masker.
    """
    own, kinds = versions.maskers()
    found = [*own]
    for logger in (logging.getLogger(), *logging.Logger.manager.loggerDict.values()):
        for filterer in (logger, *getattr(logger, "handlers", ())):
            found += (one for one in getattr(filterer, "filters", ()) if isinstance(one, kinds))
    return list({id(one): one for one in found}.values())


def redact(text: str) -> str:
    """Have the masker of this process redact a text."""
    return str(versions.secrets_masker().redact(text))
