"""The DAG that `secure-xcom census` runs: values pass in each way by which Airflow copies them.

It is written as anyone would write it, with no word of a backend.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from airflow.triggers.base import StartTriggerArgs

from secure_xcom.trial import values
from secure_xcom.trial.dags.trigger import PullingTrigger

try:
    from airflow.providers.standard.operators.bash import BashOperator
    from airflow.sdk import BaseNotifier, BaseOperator, dag, task
except ImportError:  # Airflow 2
    from airflow.decorators import dag, task  # type: ignore[attr-defined, no-redef]
    from airflow.models import BaseOperator
    from airflow.notifications.basenotifier import BaseNotifier  # type: ignore[import-not-found, no-redef]
    from airflow.operators.bash import BashOperator  # type: ignore[import-not-found, no-redef]

try:
    from airflow.sdk.state import TaskScope  # noqa: F401 - there are state stores
except ImportError:
    ASSETS: list[Any] = []
else:
    from airflow.sdk import Asset

    ASSETS = [Asset("secure_xcom_census")]

log = logging.getLogger("airflow.task")

DAG_ID = "secure_xcom_census"
START = datetime(2026, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)


class Payment:
    """What is no container, and shows a value where it is logged."""

    def __init__(self, by: object) -> None:
        self.by = by

    def __repr__(self) -> str:
        """Show it."""
        return f"Payment({self.by})"


def tell(context: Any) -> None:  # noqa: ANN401 - Airflow's context, of whatever version
    """Tell of a failure, as callbacks do."""
    print("failed with", context["exception"])
    log.error("the value was %s", context["ti"].xcom_pull(task_ids="string"))
    log.info(values.mark("callback"))


def tell_of_the_killed(context: Any) -> None:  # noqa: ANN401
    """Tell of a task whose process is no more."""
    print("killed with", context["ti"].xcom_pull(task_ids="string"))
    print(values.mark("callback of a killed task"))


def _tell_of_the_run(context: Any, who: str) -> None:  # noqa: ANN401
    value = context["ti"].xcom_pull(task_ids="string", dag_id=context["dag"].dag_id)
    print("printed", value)
    log.warning("logged %s", value)
    log.warning({"event": "run", "value": value})
    ends = "fails" if context["dag"].dag_id == DAG_ID else "succeeds"
    print(values.mark(f"{who} of a run that {ends}"))


def tell_of_the_run(context: Any) -> None:  # noqa: ANN401
    """Tell of a run, as callbacks of DAGs do."""
    _tell_of_the_run(context, "callback")


class Telling(BaseNotifier):  # noqa: AIR301 - as it is called on Airflow 2
    """Tells of a run, as notifiers do."""

    def notify(self, context: Any) -> None:  # noqa: ANN401
        """Tell."""
        _tell_of_the_run(context, "notifier")


def past_the_streams(value: str) -> None:
    """Write a value past Python's streams of texts, and have a program do so."""
    sys.stdout.flush()
    os.write(1, f"written: {value}\n".encode())
    # Airflow 2 puts what has no buffer in the place of the stream.
    stream: Any = sys.stdout if hasattr(sys.stdout, "buffer") else sys.__stdout__
    stream.buffer.write(f"written to the buffer: {value}\n".encode())
    stream.flush()
    for script in ("echo written by a program: $0", "echo written by a program: $0 >&2"):
        subprocess.run(["/bin/sh", "-c", script, value], check=True)  # noqa: S603 - a text of ours


class Deferring(BaseOperator):
    """Holds a value, waits for a trigger that pulls one too, and holds it again."""

    def execute(self, context: Any) -> None:  # noqa: ANN401
        """Pull, and wait."""
        log.info("to be deferred: %s", context["ti"].xcom_pull(task_ids="record"))
        log.info(values.mark("deferring"))
        self.defer(
            trigger=PullingTrigger(self.dag_id, context["run_id"]), method_name="execute_complete"
        )

    def execute_complete(self, context: Any, event: dict[str, Any]) -> object:  # noqa: ANN401
        """Go on where the trigger has fired."""
        value = context["ti"].xcom_pull(task_ids="record")
        log.info("resumed: %s, %s", value, event)
        log.info(values.mark("resumed"))
        return value


class Triggered(BaseOperator):
    """Begins in the triggerer, where Airflow does that, and tells what it holds there."""

    start_trigger_args = StartTriggerArgs(
        trigger_cls=f"{PullingTrigger.__module__}.{PullingTrigger.__name__}",
        trigger_kwargs={"dag_id": DAG_ID, "name": "trigger before a task"},
        next_method="execute_complete",
    )
    start_from_trigger = True

    def execute(self, context: Any) -> None:  # noqa: ANN401
        """Wait for the same trigger, where Airflow does not begin with one."""
        trigger = PullingTrigger(DAG_ID, context["run_id"], "trigger before a task")
        self.defer(trigger=trigger, method_name="execute_complete")

    def execute_complete(self, context: Any, event: dict[str, Any]) -> None:  # noqa: ANN401
        """Go on."""
        print("triggered", event, context["ti"].xcom_pull(task_ids="record"))


@dag(
    schedule="@once",
    start_date=START,
    catchup=False,
    user_defined_macros={"control": values.control},
    on_failure_callback=[tell_of_the_run, Telling()],
)
def secure_xcom_census() -> None:  # noqa: C901, PLR0915 - many small tasks
    """Return values of each sort, and pull them in each way."""

    @task
    def record() -> object:
        return values.record()

    @task(outlets=ASSETS)
    def string(task_state_store: Any = None, asset_state_store: Any = None) -> object:  # noqa: ANN401
        if ASSETS:
            task_state_store.set("checkpoint", values.state())
            asset_state_store[ASSETS[0]].set("watermark", values.asset_state())
            print("kept", task_state_store.get("checkpoint"))
        return values.string()

    @task
    def number() -> object:
        return values.number()

    @task
    def binary() -> object:
        return values.binary()

    @task
    def lines() -> object:
        return values.lines()

    @task(multiple_outputs=True)
    def outputs() -> dict[str, Any]:
        return values.outputs()

    @task
    def pieces() -> object:
        return values.pieces()

    @task
    def frame() -> object:
        return values.frame()

    @task
    def columns(ti: Any = None) -> None:  # noqa: ANN401
        refused = []
        for key, value in values.columns().items():
            try:
                ti.xcom_push(key=key, value=value)
            except Exception as error:  # noqa: BLE001 - not every backend takes each of them
                refused.append(f"{key} ({type(error).__name__})")
        if refused:
            raise RuntimeError(f"Not taken: {', '.join(refused)}.")

    # The long one comes first, and what is short after it.
    @task(trigger_rule="all_done")
    def tells(ti: Any = None) -> None:  # noqa: ANN401
        long = ti.xcom_pull(task_ids="lines")
        print("printed", long[-1])
        record = ti.xcom_pull(task_ids="record")
        log.info({"event": "paid", "by": [record, {"card": record["number"]}]})
        log.info("logged %d, %s, %r", record["number"], Payment(record), [Payment(record["text"])])
        log.info("with more", extra={"customer": record, "card": record["number"]})
        for key in values.columns():
            value = ti.xcom_pull(task_ids="columns", key=key)
            if value is not None:
                print("printed", values.written_out(value))
                log.warning("logged %s", values.written_out(value))
        for task_id in ("frame", "binary", "pieces", "outputs"):
            value = ti.xcom_pull(task_ids=task_id)
            print("printed", values.written_out(value))
        dropped = ti.xcom_pull(task_ids="string")
        kept, dropped = list(dropped), None
        values_ = list(record.pop("text"))
        record.clear()
        print("printed", "".join(kept), "".join(values_))
        past_the_streams(long[-1])
        log.info(values.mark("tells"))

    # Airflow itself fails one that is queued again before it has heard of the first look's end.
    @task.sensor(mode="reschedule", poke_interval=5, timeout=300, retries=3, retry_delay=SECOND)
    def sensor(ti: Any = None) -> bool:  # noqa: ANN401
        seen = Path(tempfile.gettempdir(), "seen by the sensor")
        look = "second" if seen.exists() else "first"
        print("printed", ti.xcom_pull(task_ids="string"))
        log.info(values.mark(f"sensor ({look} look)"))
        seen.touch()
        return look == "second"

    @task(on_failure_callback=tell_of_the_killed, execution_timeout=timedelta(minutes=3))
    def killed(text: object) -> None:
        print("printed", text)
        log.info(values.mark("killed"))
        while not Path(tempfile.gettempdir(), values.SEEN).exists():
            time.sleep(0.2)
        for pid in (os.getppid(), os.getpid()):  # what watches over it would tell of it
            os.kill(pid, signal.SIGKILL)

    @task
    def mapped(piece: object) -> object:
        print("printed", piece)
        log.info(values.mark("mapped"))
        return piece

    @task
    def argument(record: Any, number: int, output: str, ti: Any = None) -> object:  # noqa: ANN401
        print("printed", record, number, output)
        log.info("logged %s and %s and %s", record["text"], record["number"], output)
        values.check(record, values.record())
        values.check(number, values.number())
        values.check(output, values.outputs()["first"])
        # As operator links are, this one is not sealed: the search has to find it.
        ti.xcom_push(key=values.CLEAR_KEY, value=values.control())
        log.info(values.mark("argument"))
        return record

    @task(retries=1, retry_delay=SECOND)
    def again(ti: Any = None) -> object:  # noqa: ANN401
        pulled = [ti.xcom_pull(task_ids=task_id) for task_id in ("string", "number")]
        if ti.try_number == 1:
            log.info(values.mark("again (first try)"))
            raise ValueError(f"cannot charge {pulled}")
        log.info(values.mark("again (second try)"))
        return pulled

    @task(on_failure_callback=tell)
    def fails(record: object) -> None:
        log.info(values.mark("fails"))
        raise ValueError(f"cannot charge {record}")

    # Not every backend takes bytes.
    @task(trigger_rule="all_done")
    def holds(returned: dict[str, Any], results: Any, ti: Any = None) -> None:  # noqa: ANN401
        for name, value in returned.items():
            values.check(value, getattr(values, name)())
        values.check(list(results), values.pieces())
        log.info(values.mark("holds"))
        values.check(ti.xcom_pull(task_ids="binary"), values.binary())
        log.info(values.mark("holds bytes"))
        raise RuntimeError("It fails while it holds them all.")

    @task.bash
    def shell(record: Any) -> str:  # noqa: ANN401
        return f"echo {values.mark('shell')}; echo {record['text']} {record['number']}"

    given = record()
    texts = string()
    counted = number()
    long: dict[str, Any] = {"lines": lines()}
    if values.has_frames():
        long["frame"] = frame()
    pulled = "{{ ti.xcom_pull(task_ids='record')['%s'] }}"
    template = BashOperator(
        task_id="template",
        bash_command=f"echo {values.mark('template')}; echo {pulled % 'text'} {pulled % 'number'}",
    )
    deferring = Deferring(task_id="deferring")
    triggered = Triggered(task_id="triggered")
    retried = again()
    failing = fails(given)
    given >> [template, deferring, triggered]
    [texts, counted] >> retried
    texts >> [sensor(), killed(texts)]
    texts >> failing
    parts, bytes_, both = pieces(), binary(), outputs()
    holding = holds(long, mapped.expand(piece=parts))
    bytes_ >> holding
    telling = tells()
    [given, texts, parts, bytes_, both, columns(), *long.values()] >> telling
    control = BashOperator(
        task_id="control",
        bash_command='echo {{ control() }} | tee "$TMPDIR/control"',
        trigger_rule="all_done",
    )
    (
        [
            argument(given, counted, both["first"]),  # type: ignore[index, arg-type]
            retried,
            failing,
            holding,
            shell(given),
            template,
            deferring,
            triggered,
            telling,
        ]
        >> control
    )


@dag(
    schedule="@once",
    start_date=START,
    catchup=False,
    on_success_callback=[tell_of_the_run, Telling()],
)
def secure_xcom_census_succeeds() -> None:
    """Succeed, as the other one does not."""

    @task
    def string() -> object:
        return values.string()

    string()


secure_xcom_census()
secure_xcom_census_succeeds()
