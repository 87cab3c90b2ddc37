"""Which checks of `secure-xcom doctor` are tried inside an Airflow, and which without one."""

from __future__ import annotations

#: Each is seen to pass and to fail (or warn) in `tests/airflow/test_doctor.py`.
IN_AIRFLOW = {
    *("backend", "variables", "policy", "rendered_fields", "masking", "state_store", "strict")
}
