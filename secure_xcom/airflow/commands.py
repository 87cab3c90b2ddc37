"""`airflow secure-xcom …`, where a provider can add commands: from Airflow 3.2 on."""
# ruff: noqa: PLC0415 - every call of Airflow's command line imports this

from __future__ import annotations

from argparse import REMAINDER


def get_commands() -> list[object]:
    """The one command that hands what follows to `secure-xcom`; Airflow calls this."""
    from airflow.cli.cli_config import ActionCommand, Arg, lazy_load_command

    following = Arg(  # type: ignore[no-untyped-call]
        ("arguments",), nargs=REMAINDER, help="what `secure-xcom` takes, such as doctor"
    )
    return [
        ActionCommand(
            name="secure-xcom",
            help="Look after sealed XComs: the same as the program secure-xcom",
            func=lazy_load_command("secure_xcom.cli.within_airflow"),
            args=(following,),
        )
    ]
