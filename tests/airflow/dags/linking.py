"""A plugin with an operator link that is made of an XCom."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin

try:
    from airflow.sdk import BaseOperatorLink, XCom
except ImportError:
    from airflow.models import XCom
    from airflow.models.baseoperatorlink import BaseOperatorLink


class Link(BaseOperatorLink):
    """Leads to what the XCom `place` says."""

    name = "console"

    @property
    def xcom_key(self):
        """Where Airflow 3 keeps what the task made of it."""
        return "_link_console"

    def get_link(self, operator, *, ti_key):  # noqa: ARG002 - Airflow's own signature
        return XCom.get_value(key="place", ti_key=ti_key) or ""


class Linking(AirflowPlugin):
    """Makes the link known to servers."""

    name = "linking"
    operator_extra_links = [Link()]  # noqa: RUF012 - as Airflow has it
