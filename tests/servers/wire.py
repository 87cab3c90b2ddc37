"""What test services share on the wire: counts, faults, and a remote control."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

import grpc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Refused(Exception):  # noqa: N818 - it carries a status, it is not one
    """Ends a call with a status."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code


class Traffic:
    """Counts the calls of a service, and disturbs them on request."""

    def __init__(self, corruptions: dict[str, Callable[[object], object]]) -> None:
        self._corruptions = corruptions
        self._lock = threading.Lock()
        self._faults: list[dict] = []
        self.reset()

    def reset(self) -> None:
        """Count from zero, and forget all faults."""
        self._calls: Counter[str] = Counter()
        self._in_flight: Counter[str] = Counter()
        self._most_in_flight: Counter[str] = Counter()
        self._peers: set[str] = set()
        self._faults.clear()

    def calls(self) -> dict[str, int]:
        """How often each method was called."""
        return dict(self._calls)

    def in_flight(self) -> dict[str, int]:
        """How many calls of each method are under way."""
        return dict(self._in_flight)

    def most_in_flight(self) -> dict[str, int]:
        """How many calls of each method were under way at once at most."""
        return dict(self._most_in_flight)

    def connections(self) -> int:
        """How many connections have carried calls."""
        return len(self._peers)

    def fail(self, method: str, code: str, times: int = 1, message: str = "a fault") -> None:
        """Answer the next `times` calls with a status."""
        self._faults.append({"method": method, "times": times, "code": code, "message": message})

    def corrupt(self, method: str, how: str, times: int = 1) -> None:
        """Damage the next `times` answers in one of the service's ways."""
        self._faults.append({"method": method, "times": times, "corruption": how})

    def delay(self, method: str, seconds: float, times: int = 1_000_000_000) -> None:
        """Hold calls back, as distance or load would."""
        self._faults.append({"method": method, "times": times, "seconds": seconds})

    def handler(
        self,
        name: str,
        serve: Callable[[object, grpc.ServicerContext], object],
        deserialize: Callable[[bytes], object],
        serialize: Callable[[object], bytes],
    ) -> grpc.RpcMethodHandler:
        """A method of the service, counted and disturbed."""

        def handle(request: object, context: grpc.ServicerContext) -> object:
            with self._counted(name, context.peer()) as faults:
                try:
                    self._disturb(faults)
                    answer = serve(request, context)
                except Refused as refused:
                    context.abort(refused.code, str(refused))
                for fault in faults:
                    if "corruption" in fault:
                        self._corruptions[fault["corruption"]](answer)
                return answer

        return grpc.unary_unary_rpc_method_handler(handle, deserialize, serialize)

    @contextmanager
    def _counted(self, name: str, peer: str) -> Iterator[list[dict]]:
        with self._lock:
            self._calls[name] += 1
            self._in_flight[name] += 1
            self._most_in_flight[name] = max(self._most_in_flight[name], self._in_flight[name])
            self._peers.add(peer)
            faults = self._take_faults(name)
        try:
            yield faults
        finally:
            with self._lock:
                self._in_flight[name] -= 1

    def _take_faults(self, name: str) -> list[dict]:
        taken = []
        for fault in self._faults:
            if fault["method"] == name and fault["times"] > 0:
                fault["times"] -= 1
                taken.append(fault)
                if "code" in fault:
                    break
        return taken

    def _disturb(self, faults: list[dict]) -> None:
        for fault in faults:
            time.sleep(fault.get("seconds", 0))
            if "code" in fault:
                raise Refused(grpc.StatusCode[fault["code"]], fault["message"])


def control(service: object) -> grpc.GenericRpcHandler:
    """Lets `Remote` call the methods of a service's object, and of its traffic."""

    def do(request: bytes, _context: grpc.ServicerContext) -> bytes:
        path, args, kwargs = json.loads(request)
        target = service
        for name in path:
            target = getattr(target, name)
        return json.dumps(target(*args, **kwargs)).encode()

    return grpc.method_handlers_generic_handler(
        "secure_xcom.tests.Control", {"Do": grpc.unary_unary_rpc_method_handler(do)}
    )


class Remote:
    """A service's object in another process: the same methods, with JSON for arguments."""

    def __init__(self, address: str, *path: str) -> None:
        self.address = address
        self._path = path

    def __getattr__(self, name: str) -> Remote:
        return Remote(self.address, *self._path, name)

    def __call__(self, *args: object, **kwargs: object) -> object:
        with grpc.insecure_channel(self.address) as channel:
            do = channel.unary_unary("/secure_xcom.tests.Control/Do")
            request = json.dumps([self._path, args, kwargs]).encode()
            return json.loads(do(request, timeout=10, wait_for_ready=True))
