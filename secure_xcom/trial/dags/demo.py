"""The DAG that `secure-xcom demo` runs: written as anyone would, with no word of the backend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from secure_xcom.trial import values

try:
    from airflow.sdk import dag, task
except ImportError:  # Airflow 2
    from airflow.decorators import dag, task  # type: ignore[attr-defined, no-redef]


@dag(schedule=None, catchup=False)
def secure_xcom_demo() -> None:
    """Return a dict, a long list and a DataFrame; charge thrice; settle over all of them."""

    @task
    def customer() -> object:
        return values.customer(values.card())

    @task
    def records() -> object:
        return values.records(values.card())

    @task
    def frame() -> object:
        return values.card_frame(values.card())

    @task
    def charge(amount_cents: int, who: dict[str, Any]) -> object:
        return values.charge(who, amount_cents)

    @task
    def settle(pulled: dict[str, Any], charges: Sequence[dict[str, Any]]) -> object:
        for task_id, value in pulled.items():
            if not values.same(value, values.expected(values.card(), task_id, -1)):
                raise ValueError(f"What {task_id} returned is not what was pulled.")
        return values.settlement(charges)

    returned: dict[str, Any] = {"customer": customer(), "records": records()}
    if values.has_frames():
        returned["frame"] = frame()
    charges = charge.partial(who=returned["customer"]).expand(amount_cents=[*values.CHARGES_CENTS])
    settle(returned, charges)  # type: ignore[arg-type]  # an XComArg stands for what it will be


secure_xcom_demo()
