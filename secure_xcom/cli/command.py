"""How a command is declared, run, and answers a person or a program."""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from secure_xcom.cli.output import Output


class Answer(NamedTuple):
    """What a command came to."""

    ok: bool
    #: The members of the object that `--json` prints.
    members: dict[str, object]


@dataclass(frozen=True, slots=True)
class Command:
    """One command of `secure-xcom`."""

    name: str
    #: Its line in the list of commands.
    summary: str
    description: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    #: Does what the command is for, and shows a person on the output what it finds.
    run: Callable[[argparse.Namespace, Output], Answer]

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Have a parser take the command's arguments, and name the command that takes them."""
        parser.description = self.description
        self.add_arguments(parser)
        parser.add_argument(
            "--json", action="store_true", help="print one JSON object and nothing else"
        )
        parser.set_defaults(command=self)

    def answer(self, arguments: argparse.Namespace) -> int:
        """Run it; the exit status, 0 if all is well, 1 if something is off.

        Raises:
            SecureXComError: it cannot be run.
        """
        output = Output(io.StringIO() if arguments.json else sys.stdout)
        ok, members = self.run(arguments, output)
        if arguments.json:
            # ASCII alone, so that no terminal takes any of it for orders.
            print(json.dumps(members, indent=2))
        return 0 if ok else 1
