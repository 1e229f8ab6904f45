"""A Kubernetes API server that knows EndpointSlices and nothing else, over real HTTP."""

import asyncio
import json
import threading
from collections import deque
from contextlib import contextmanager

from aiohttp import web

LABEL = "kubernetes.io/service-name"
FORBIDDEN = "endpointslices.discovery.k8s.io is forbidden: User cannot {verb} resource"


def pod(name, address, *, ready=True, serving=None, terminating=None, uid=None):
    """Return an endpoint as the API server tells of it."""
    return {
        "addresses": [address],
        "conditions": {"ready": ready, "serving": serving, "terminating": terminating},
        "targetRef": {"kind": "Pod", "name": name, "uid": uid or f"uid-{name}"},
    }


def slice_of(name, *endpoints, service="vllm", ports=(("http", 8000),), address_type="IPv4"):
    """Return an EndpointSlice as the API server tells of it."""
    return {
        "metadata": {"name": name, "labels": {LABEL: service}},
        "addressType": address_type,
        "endpoints": list(endpoints) or None,
        "ports": [{"name": port, "port": number, "protocol": "TCP"} for port, number in ports],
    }


class FakeApi:
    """Its methods are for its own event loop; :func:`in_thread` makes them safe for other threads."""

    def __init__(self):
        self.namespace = "llm"
        self.slices = {}
        self.asked = []
        """Each ``list`` and ``watch``, with its query."""
        self.tokens = []
        self.refused = {}
        """Status codes, by verb, ``list`` or ``watch``, or by the name of a service."""
        self.is_hanging = False
        """Whether it accepts requests and answers none, until :meth:`end_watches`."""
        self.version = 100
        self._oldest = 100
        self._history = deque(maxlen=1000)
        self._watchers = {}
        self._is_over = asyncio.Event()
        self.app = web.Application()
        self.app.router.add_get("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices", self._serve)

    def put(self, each):
        """Create a slice, or change it."""
        kind = "MODIFIED" if each["metadata"]["name"] in self.slices else "ADDED"
        self._change(kind, each)
        self.slices[each["metadata"]["name"]] = each

    def delete(self, name):
        """Delete a slice."""
        self._change("DELETED", self.slices.pop(name))

    def put_unseen(self, each):
        """Change a slice, and forget that: a watch from before it is answered with 410."""
        self.version += 1
        self._oldest = self.version
        each["metadata"]["resourceVersion"] = str(self.version)
        self.slices[each["metadata"]["name"]] = each

    def bookmark(self):
        """Tell watchers the version of now."""
        self.version += 1
        marked = {"kind": "EndpointSlice", "metadata": {"resourceVersion": str(self.version)}}
        self.say(json.dumps({"type": "BOOKMARK", "object": marked}).encode() + b"\n")

    def say(self, text):
        """Send *text* to all watches."""
        for _, _, queue in self._watchers.values():
            queue.put_nowait(text)

    def expire(self):
        """End all watches because their version is too old."""
        status = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}
        self.say(json.dumps({"type": "ERROR", "object": status}).encode() + b"\n")
        self.end_watches()

    def end_watches(self):
        """End all watches in good order, as after ``timeout_seconds``."""
        self._is_over.set()
        self.say(None)

    def drop_watches(self):
        """Cut all connections."""
        for request, _, _ in self._watchers.values():
            request.transport.abort()

    @property
    def watches(self):
        """How many watches are open."""
        return len(self._watchers)

    def _change(self, kind, each):
        self.version += 1
        each["metadata"]["resourceVersion"] = str(self.version)
        event = json.dumps({"type": kind, "object": each}).encode() + b"\n"
        service = each["metadata"]["labels"][LABEL]
        self._history.append((self.version, service, event))
        for _, watched, queue in self._watchers.values():
            if watched == service:
                queue.put_nowait(event)

    async def _serve(self, request):
        verb = "watch" if request.query.get("watch") else "list"
        self.asked.append((verb, dict(request.query)))
        self.tokens.append(request.headers.get("Authorization"))
        if self.is_hanging:
            await self._is_over.wait()
        _, _, service = request.query["labelSelector"].partition("=")
        if code := self.refused.get(verb) or self.refused.get(service):
            return refusal(code, FORBIDDEN.format(verb=verb))
        if request.match_info["namespace"] != self.namespace:
            return web.json_response({"metadata": {"resourceVersion": str(self.version)}, "items": []})
        if verb == "watch":
            return await self._watch(request, service, int(request.query["resourceVersion"]))
        items = [s for s in self.slices.values() if s["metadata"]["labels"][LABEL] == service]
        return web.json_response({"metadata": {"resourceVersion": str(self.version)}, "items": items})

    async def _watch(self, request, service, version):
        if version < self._oldest:
            return refusal(410, "too old resource version")
        answer = web.StreamResponse(headers={"Content-Type": "application/json"})
        answer.enable_chunked_encoding()
        await answer.prepare(request)
        queue = asyncio.Queue(1000)
        for number, changed, event in self._history:
            if number > version and changed == service:
                queue.put_nowait(event)
        key = object()
        self._watchers[key] = request, service, queue
        try:
            while (text := await queue.get()) is not None:
                # As the network does it: in pieces that end anywhere.
                await answer.write(text[: len(text) // 3])
                await answer.write(text[len(text) // 3 :])
        except ConnectionError:
            pass
        finally:
            del self._watchers[key]
        return answer


def refusal(code, message):
    return web.json_response({"kind": "Status", "code": code, "reason": "Refused", "message": message}, status=code)


def kubeconfig(url, namespace=None):
    """Return a kubeconfig, which is YAML, as JSON is."""
    context = {"cluster": "test", "user": "test"} | ({"namespace": namespace} if namespace else {})
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": url}}],
            "contexts": [
                {"name": "test", "context": context},
                {"name": "other", "context": {"cluster": "test", "user": "test", "namespace": "other"}},
            ],
            "users": [{"name": "test", "user": {"token": "the-token"}}],
        }
    )


@contextmanager
def in_thread():
    """Run an API server on a thread of its own; give it, its URL, and what calls it from here."""
    api, loop, ready = FakeApi(), asyncio.new_event_loop(), threading.Event()
    places = []

    async def serve():
        runner = web.AppRunner(api.app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        places.append(f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}")
        ready.set()
        return runner

    runner = None

    def run():
        nonlocal runner
        asyncio.set_event_loop(loop)
        runner = loop.run_until_complete(serve())
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())
        loop.close()

    def call(action, *arguments):
        async def act():
            return action(*arguments)

        return asyncio.run_coroutine_threadsafe(act(), loop).result(5)

    thread = threading.Thread(target=run, name="fake-api", daemon=True)
    thread.start()
    ready.wait(10)
    try:
        yield api, places[0], call
    finally:
        call(api.end_watches)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)
