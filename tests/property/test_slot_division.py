"""However requests come and end, messages are late and workers die: no limit is exceeded, and no slot is lost."""

from collections import deque
from itertools import count

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from nexus.domain.backend_load import BackendLoad
from nexus.domain.shared_load import first_short, parts_for
from nexus.fleet.sharing.slot_broker import SlotBroker
from nexus.fleet.sharing.slot_keeper import SlotKeeper, Waiting

GPU = "gpu"
MODEL = "big"


class Worker:
    """A keeper, the requests that wait in its process, and its two ways of a channel, which delay every message."""

    def __init__(self, world, name):
        self.world, self.name, self.load = world, name, BackendLoad()
        self.hangs = False
        self.waiting = deque()
        self.running = []
        self.down, self.up = deque(), deque()
        self.timers = []
        self.keeper = SlotKeeper(send=self.up.append, later=lambda _, call: self.timers.append(call))
        self.keeper.serve_queue(self.count, self.offer)
        self.keeper.divide(GPU, self.load, [MODEL])

    def count(self, _name):
        return Waiting(len(self.waiting), (0, len({client for client, _ in self.waiting}), 0))

    def try_to_run(self, model):
        parts = parts_for(self.load.allotments, model)
        if first_short(parts) is not None:
            return False
        for part in parts:
            part.take()
        self.running.append(parts)
        return True

    def ask(self, client, model):
        if not self.try_to_run(model):
            self.waiting.append((client, model))

    def offer(self, _name):
        for request in list(self.waiting):
            if self.try_to_run(request[1]):
                self.waiting.remove(request)
                self.world.served.append((self.name, request[0]))

    def finish(self):
        for part in self.running.pop(0):
            part.release()
        self.offer(GPU)

    def have_it_back(self):
        """Divide the slots of the backend again; a change of the fleet lets all requests that wait try again."""
        self.keeper.divide(GPU, self.load, [MODEL])
        self.offer(GPU)

    def pass_on(self):
        """Deliver the oldest message of each way."""
        if self.up:
            for report in self.up.popleft():
                self.world.broker.report(self.name, report)
        if self.down and not self.hangs:
            message = self.down.popleft()
            if callable(message):
                message()
            else:
                self.keeper.order([message])

    def fire(self):
        if self.hangs:
            return
        timers, self.timers = self.timers, []
        for call in timers:
            call()


class World:
    """A broker with its workers."""

    def __init__(self, limit, of_model):
        self.workers, self.served, self._names = {}, [], count()
        self.broker = SlotBroker(lambda worker, order: self.workers[worker].down.append(order))
        self.limits = {(GPU, ""): limit, (GPU, MODEL): of_model}
        self.bounds = dict(self.limits)
        for key, each in self.limits.items():
            self.broker.limit(key, each)

    def join(self):
        name = f"worker-{next(self._names)}"
        worker = self.workers[name] = Worker(self, name)
        self.broker.join(name)
        return worker

    def leave_and_return(self):
        """Let the backend leave the fleet and come back; its requests are finished."""
        for worker in self.workers.values():
            worker.down.append(lambda worker=worker: worker.keeper.leave(GPU))
        for key in self.limits:
            # A worker that does not know of it yet goes on for a moment.
            self.bounds[key] += sum(self.broker.held(key).values())
            self.broker.forget(key)
        for worker in self.workers.values():
            worker.down.append(worker.have_it_back)
        for key, limit in self.limits.items():
            self.broker.limit(key, limit)

    def hang(self, worker, unknown=0):
        """Let a worker do nothing any more; the parent does not know of its last requests."""
        worker.hangs = True
        used = {key: worker.load.allotments[key[1]].used for key in self.limits}
        known = {key: max(0, used[key] - unknown) for key in self.limits}
        self.broker.set_aside(worker.name, known.__getitem__)

    def go_on(self, worker):
        """Let it go on. Until it reads that they are void, it uses the slots that it had."""
        worker.hangs = False
        self.broker.bring_back(worker.name)

    def kill(self, worker):
        self.broker.leave(worker.name)
        del self.workers[worker.name]

    def used(self, key):
        return sum(worker.load.allotments[key[1]].used for worker in self.workers.values())

    def settle(self):
        """Deliver all messages, and fire the timers until none changes anything."""
        for _ in range(200):
            for worker in self.workers.values():
                worker.fire()
                while worker.up or (worker.down and not worker.hangs):
                    worker.pass_on()
            if not any(worker.timers for worker in self.workers.values()):
                return

    def finish_all(self):
        for _ in range(400):
            self.settle()
            busy = [worker for worker in self.workers.values() if worker.running and not worker.hangs]
            if not busy:
                return
            for worker in busy:
                worker.finish()


class Division(RuleBasedStateMachine):
    workers = Bundle("workers")

    @initialize(limit=st.integers(1, 6), of_model=st.integers(1, 3))
    def begin(self, limit, of_model):
        self.world = World(limit, of_model)

    @rule(target=workers)
    def start_a_worker(self):
        return self.world.join()

    @rule(worker=workers, client=st.integers(0, 2), model=st.sampled_from([MODEL, "other"]))
    def ask(self, worker, client, model):
        if not worker.hangs:
            worker.ask(client, model)

    @rule(worker=workers)
    def finish(self, worker):
        if worker.running and not worker.hangs:
            worker.finish()

    @rule(worker=workers, unknown=st.integers(0, 2))
    def hang(self, worker, unknown):
        if worker.hangs:
            return
        # What it may use when it goes on, before it knows better, or has used without the parent's knowledge.
        for key in self.world.limits:
            self.world.bounds[key] += self.world.broker.held(key)[worker.name]
        self.world.hang(worker, unknown)

    @rule(worker=workers)
    def go_on(self, worker):
        self.world.go_on(worker)

    @rule(worker=workers)
    def pass_on(self, worker):
        worker.pass_on()

    @rule(worker=workers)
    def fire(self, worker):
        worker.fire()

    @rule(worker=consumes(workers))
    def kill(self, worker):
        self.world.kill(worker)

    @rule(limit=st.integers(1, 6))
    def change_the_limit(self, limit):
        key = (GPU, "")
        # Requests that were sent under the old limit are finished.
        self.world.bounds[key] += max(0, limit - self.world.limits[key])
        self.world.limits[key] = limit
        self.world.broker.limit(key, limit)

    @rule()
    def leave_and_return(self):
        self.world.leave_and_return()

    @invariant()
    def no_limit_is_exceeded(self):
        for key, bound in self.world.bounds.items() if hasattr(self, "world") else ():
            assert self.world.used(key) <= bound

    def teardown(self):
        if not hasattr(self, "world"):
            return
        world = self.world
        for worker in world.workers.values():
            world.go_on(worker)
        world.finish_all()

        assert [worker.waiting for worker in world.workers.values() if worker.waiting] == []
        for key, limit in world.limits.items():
            held = world.broker.held(key)
            assert held == {name: w.load.allotments[key[1]].size for name, w in world.workers.items()}
            assert sum(held.values()) <= limit
            assert world.used(key) == 0


TestDivision = Division.TestCase
TestDivision.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_all_slots_are_at_the_workers_while_nothing_waits():
    world = World(8, 8)
    for _ in range(4):
        world.join()
    world.settle()
    busy = next(iter(world.workers.values()))
    for client in range(8):
        busy.ask(client, "other")
    world.settle()

    assert world.used((GPU, "")) == 8

    world.finish_all()

    assert sum(world.broker.held((GPU, "")).values()) == 8


def test_a_worker_that_joins_has_its_part_before_it_asks():
    world = World(12, 9)
    workers = [world.join()]
    world.settle()
    for client in range(2):
        workers[0].ask(client, MODEL)
    for _ in range(2):
        workers.append(world.join())
        world.settle()

    assert [worker.load.allotments[""].size for worker in workers] == [5, 3, 3]
    assert [worker.load.allotments[MODEL].size for worker in workers] == [4, 2, 2]
    assert not any(part.is_contended for worker in workers for part in worker.load.allotments.values())


def test_one_slot_travels_between_workers():
    world = World(1, 1)
    workers = [world.join() for _ in range(3)]
    world.settle()
    for worker in workers:
        for _ in range(4):
            worker.ask("a client", "other")

    world.finish_all()

    turns = [name for name, _ in world.served]
    assert len(turns) == 11
    assert all(len(set(turns[at : at + 3])) == 3 for at in range(0, 9, 3))


def test_workers_get_slots_in_proportion_to_the_clients_that_wait_there():
    world = World(2, 2)
    crowded, lonely = world.join(), world.join()
    world.settle()
    for at in range(40):
        crowded.ask(at % 3, "other")
        lonely.ask("the only one", "other")

    for _ in range(20):
        world.settle()
        for worker in (crowded, lonely):
            if worker.running:
                worker.finish()

    got = [sum(name == worker.name for name, _ in world.served) for worker in (crowded, lonely)]
    assert 2.4 <= got[0] / got[1] <= 3.6


def test_a_worker_that_dies_gives_its_slots_back():
    world = World(2, 2)
    first, second = world.join(), world.join()
    world.settle()
    for _ in range(2):
        first.ask("a client", "other")
    world.settle()
    for _ in range(2):
        second.ask("a client", "other")
    world.settle()

    world.kill(first)
    world.settle()

    assert len(second.running) == 2


def test_the_idle_slots_of_a_worker_that_hangs_go_to_the_others():
    world = World(6, 6)
    one, two = world.join(), world.join()
    world.settle()
    one.ask("a client", "other")
    world.settle()

    world.hang(one)
    for client in range(8):
        two.ask(client, "other")
    world.settle()

    assert (len(one.running), len(two.running)) == (1, 5)
    assert world.used((GPU, "")) == 6


def test_a_worker_that_hung_gets_its_part_again():
    world = World(6, 6)
    one, two = world.join(), world.join()
    world.settle()
    world.hang(one)
    world.settle()
    assert two.load.allotments[""].size == 6

    world.go_on(one)
    world.settle()

    assert [worker.load.allotments[""].size for worker in (one, two)] == [3, 3]


def test_what_waits_at_a_worker_that_hangs_takes_no_slot_from_the_others():
    world = World(2, 2)
    one, two = world.join(), world.join()
    world.settle()
    for _ in range(4):
        one.ask("a client", "other")
    world.settle()
    world.hang(one)
    two.ask("a client", "other")
    two.ask("a client", "other")

    world.kill(one)
    world.settle()

    assert len(two.running) == 2


def test_a_request_that_may_not_wait_draws_a_slot_of_another_worker():
    world = World(1, 1)
    one = world.join()
    world.settle()
    two = world.join()
    world.settle()
    part = two.load.allotments[""]

    assert not two.try_to_run("other")
    part.drawing += 1
    for _ in range(4):
        for worker in (one, two):
            worker.fire()
            worker.pass_on()

    assert two.try_to_run("other")
