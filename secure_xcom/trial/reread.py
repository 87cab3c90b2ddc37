"""Reads the demo's rows back through the backend, in a process of its own.

`python -m secure_xcom.trial.reread ROWS RESULTS`: two JSON files. The rows are those of the
database, as text; a result says whether the value that came back is the one that the task returned.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from secure_xcom import codecs
from secure_xcom.airflow import versions
from secure_xcom.airflow.backend import SecureXComBackend
from secure_xcom.errors import SecureXComError
from secure_xcom.trial import values

if TYPE_CHECKING:
    import pandas as pd


def _read_back(row: dict[str, Any], card: str) -> dict[str, Any]:
    returned = values.expected(card, row["task_id"], row["map_index"])
    result = {
        "returned": _summary(returned),
        "plain_bytes": codecs.encode(returned).raw_bytes,
        "fault": "",
    }
    # Airflow 2 keeps the row's JSON as bytes; Airflow 3 hands it over parsed.
    stored = json.loads(row["row"]) if versions.is_airflow_3() else row["row"].encode()
    try:
        pulled = SecureXComBackend.deserialize_value(SimpleNamespace(key=row["key"], value=stored))
    except SecureXComError as error:
        result["fault"] = f"the backend does not read it: {type(error).__name__}: {error}"
    else:
        if not values.same(pulled, returned):
            result["fault"] = "what the backend reads is not what the task returned"
    return result


def _summary(value: object) -> str:
    """Say in a line what a value is."""
    if isinstance(value, list):
        return f"a list of {len(value):,}: [{value[0]}, …" if value else "an empty list"
    if pandas := sys.modules.get("pandas"):
        frame: type[pd.DataFrame] = pandas.DataFrame
        if isinstance(value, frame):
            rows, columns = value.shape
            names = ", ".join(map(str, value.columns))
            return f"a DataFrame of {rows:,} rows and {columns} columns: {names}"
    return repr(value)


def main(rows: str, results: str) -> None:
    """Read every row of one file back, and write what came of it to the other."""
    card = values.card()
    read_back = [_read_back(row, card) for row in json.loads(Path(rows).read_text())]
    Path(results).write_text(json.dumps(read_back))


if __name__ == "__main__":
    main(*sys.argv[1:])
