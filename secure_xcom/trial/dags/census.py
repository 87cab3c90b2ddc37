"""The DAG that `secure-xcom census` runs: values pass in each way by which Airflow copies them.

It is written as anyone would write it, with no word of a backend.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import Any

from secure_xcom.trial import values
from secure_xcom.trial.dags.trigger import PullingTrigger

try:
    from airflow.providers.standard.operators.bash import BashOperator
    from airflow.sdk import BaseOperator, dag, task
except ImportError:  # Airflow 2
    from airflow.decorators import dag, task  # type: ignore[attr-defined, no-redef]
    from airflow.models import BaseOperator
    from airflow.operators.bash import BashOperator  # type: ignore[import-not-found, no-redef]

log = logging.getLogger("airflow.task")


def tell(context: Any) -> None:  # noqa: ANN401 - Airflow's context, of whatever version
    """Tell of a failure, as callbacks do."""
    print("failed with", context["exception"])
    log.error("the value was %s", context["ti"].xcom_pull(task_ids="string"))
    log.info(values.mark("callback"))


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


@dag(
    schedule="@once",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    user_defined_macros={"control": values.control},
)
def secure_xcom_census() -> None:  # noqa: C901, PLR0915 - many small tasks
    """Return values of each sort, and pull them in each way."""

    @task
    def record() -> object:
        return values.record()

    @task
    def string() -> object:
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

    @task(retries=1, retry_delay=timedelta(seconds=1))
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
    retried = again()
    failing = fails(given)
    given >> [template, deferring]
    [texts, counted] >> retried
    texts >> failing
    holding = holds(long, mapped.expand(piece=pieces()))
    binary() >> holding
    control = BashOperator(
        task_id="control",
        bash_command='echo {{ control() }} | tee "$TMPDIR/control"',
        trigger_rule="all_done",
    )
    (
        [
            argument(given, counted, outputs()["first"]),  # type: ignore[index, arg-type]
            retried,
            failing,
            holding,
            shell(given),
            template,
            deferring,
        ]
        >> control
    )


secure_xcom_census()
