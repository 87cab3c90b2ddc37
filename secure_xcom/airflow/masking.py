"""Opened values in logs: their texts go to Airflow's masker, which puts *** in their place.

The masker searches every log line for one expression made of all it was given, and never forgets.
So there are bounds, and only processes that end with their task are told anything. What it does not
reach is said in `docs/threat-model.md`; decision 0091 has the measurements behind the bounds.
"""
# ruff: noqa: ANN401 - Airflow's own objects, of whatever version

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from importlib import import_module
from typing import Any

from secure_xcom import forks, signals
from secure_xcom.airflow.versions import is_airflow_3

log = logging.getLogger("secure_xcom")

#: Shorter texts stand in logs by chance; to mask them would tell where they do.
SHORTEST, LONGEST = 5, 8192
#: A number is as good as its digits; those of dates and of most counters are fewer.
SHORTEST_NUMBER = 9
#: What one process gives to the masker at most.
MOST_TEXTS, MOST_CHARACTERS = 128, 16_384
#: How many elements of opened values are looked at, at most.
_MOST_ELEMENTS = 10_000


class _Given:
    """What the masker of this process has from us."""

    texts: set[str] = set()  # noqa: RUF012 - one for the process, on purpose
    characters = 0
    has_warned = False
    #: Whether what this process writes goes through its masker as text.
    has_output = False


@forks.run_in_children
def forget() -> None:
    """Start afresh, as a forked child does whose parent may have been told of other values."""
    _Given.texts = set()
    _Given.characters = 0
    _Given.has_warned = False


def mask(values: Iterable[object]) -> None:
    """Give the texts of opened values to Airflow's masker, if this process runs a task.

    Nothing of what goes wrong here fails the task, or gets into a message.
    """
    if not _in_task():
        return
    try:
        texts, complete = _chosen(values)
        if texts:
            _add(texts)
    except Exception as error:  # see above
        if signals.is_callers(error):
            raise
        log.warning(
            "Pulled values are not masked in this task's log (%s). Set mask_pulled_values = false "
            "to do without, or look for a version of secure_xcom that knows this Airflow.",
            type(error).__name__,
        )
        return
    if not complete and not _Given.has_warned:
        _Given.has_warned = True
        log.info(
            "More was pulled than Airflow's masker can take: what this task logs of it from here "
            "on may stand in clear."
        )


def _chosen(values: Iterable[object]) -> tuple[list[str], bool]:
    """Choose the texts that are new and within the bounds; and whether that is all of them."""
    chosen: list[str] = []
    for seen, leaf in enumerate(_leaves(values)):
        if seen >= _MOST_ELEMENTS:
            return chosen, False
        for text in _spellings(leaf):
            if text in _Given.texts:
                continue
            characters = _Given.characters + len(text)
            if len(_Given.texts) >= MOST_TEXTS or characters > MOST_CHARACTERS:
                return chosen, False
            _Given.texts.add(text)
            _Given.characters = characters
            chosen.append(text)
    return chosen, True


def _leaves(values: Iterable[object]) -> Iterator[object]:
    """Walk through plain containers, in order; keys of mappings are names, and not values."""
    pending: list[Iterator[object]] = [iter(values)]
    while pending:
        for element in pending[-1]:
            if isinstance(element, Mapping):
                pending.append(iter(element.values()))
                break
            if isinstance(element, list | tuple | set | frozenset):
                pending.append(iter(element))
                break
            yield element
        else:
            pending.pop()


def _spellings(leaf: object) -> list[str]:
    """Give the texts by which a leaf can stand in a log, without those that are too short."""
    if isinstance(leaf, bytes | bytearray):
        with suppress(UnicodeDecodeError):
            leaf = leaf.decode()
    if isinstance(leaf, int) and not isinstance(leaf, bool):
        # The digits of an enormous number are refused by Python, and no card number.
        text = str(abs(leaf)) if leaf.bit_length() <= 1024 else ""  # noqa: PLR2004
        return [text] if len(text) >= SHORTEST_NUMBER else []
    if not isinstance(leaf, str) or not SHORTEST <= len(leaf) <= LONGEST:
        return []
    # In the text of a dictionary, in JSON, and line by line, as it is printed.
    written = [leaf, repr(leaf)[1:-1], json.dumps(leaf)[1:-1], *leaf.splitlines()]
    return [text for text in dict.fromkeys(written) if len(text.strip()) >= SHORTEST]


def _in_task() -> bool:
    """Whether this process runs one task, and ends with it."""
    if is_airflow_3():
        runner = sys.modules.get("airflow.sdk.execution_time.task_runner")
        supervisor = getattr(runner, "SUPERVISOR_COMMS", None)
        return supervisor is not None and "Trigger" not in type(supervisor).__name__
    instances = sys.modules.get("airflow.models.taskinstance")
    # The first while fields are rendered and the task runs, the second from then to the end.
    return bool(getattr(instances, "_CURRENT_CONTEXT", None)) or (
        "AIRFLOW_CTX_TASK_ID" in os.environ
    )


def _add(texts: list[str]) -> None:
    if is_airflow_3():
        add_at_once(import_module("airflow.sdk._shared.secrets_masker"), texts)
        # What the task prints goes to the supervisor, which has a masker of its own, and empties it
        # before the next task.
        from airflow.sdk.execution_time import task_runner  # noqa: PLC0415
        from airflow.sdk.execution_time.comms import MaskSecret  # noqa: PLC0415

        supervisor: Any = task_runner.SUPERVISOR_COMMS
        supervisor.send(MaskSecret(value=list(texts)))
    else:
        add_at_once(import_module("airflow.utils.log.secrets_masker"), texts)
    if not _Given.has_output:
        _Given.has_output = True
        _mask_output()


def _mask_output() -> None:
    """Have this process mask all that it writes, and as the text that it becomes.

    On Airflow 3 a task leaves that to its supervisor, whose copy on the scheduler's own output is
    not masked (LocalExecutor, from 3.2 on). On Airflow 2 the masker sees the arguments of a message
    before they are text, and passes numbers.
    """
    if not is_airflow_3():
        module = import_module("airflow.utils.log.secrets_masker")
        masker = module._secrets_masker()  # noqa: SLF001
        masker.filter = _as_text(masker.filter, module.redact)
        return
    import structlog  # noqa: PLC0415 - Airflow 2 has none

    redact = import_module("airflow.sdk._shared.secrets_masker").redact
    formatters = (handler.formatter for handler in logging.getLogger().handlers)
    chains = [structlog.get_config()["processors"]]
    chains += [getattr(formatter, "processors", None) for formatter in formatters]
    for chain in chains:
        if isinstance(chain, list):  # the last one makes the line
            chain.insert(len(chain) - 1, lambda _logger, _method, event: redact(event))
    for stream in (sys.stdout, sys.stderr):
        _mask_stream(stream, redact)


def _mask_stream(stream: Any, redact: Any) -> None:
    write = stream.write
    stream.write = lambda text: write(redact(text))


def _as_text(stock: Any, redact: Any) -> Any:
    """Make a filter of log records that turns a message into text before the masker gets it."""

    def filter_(record: logging.LogRecord) -> Any:
        with suppress(Exception):  # a message that is none is for the handler to complain about
            record.msg, record.args = record.getMessage(), ()
        if record.exc_info and not record.exc_text:
            record.exc_text = redact(logging.Formatter().formatException(record.exc_info))
        return stock(record)

    return filter_


def add_at_once(module: Any, texts: list[str]) -> None:
    """Add texts to the masker with one compilation; it would compile anew for each of them."""
    masker = module._secrets_masker()  # noqa: SLF001 - a test on each version holds these names
    engine = getattr(module, "re2", re)
    before = set(masker.patterns)
    masker.patterns |= {engine.escape(text) for text in texts}
    try:
        # The longest first, so that a text which begins another does not leave the rest of it.
        longest_first = sorted(masker.patterns, key=len, reverse=True)
        masker.replacer = engine.compile("|".join(longest_first))
    except BaseException:
        # What cannot be compiled would fail whatever is to be masked after it.
        masker.patterns = before
        raise
