"""What a store can do besides that lets several replicas use one fleet: leases of slots, and hints."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from nexus.store.store import Store

LEASE_TTL_S: Final = 15.0
"""How long a replica keeps its slots without renewing them."""
RENEW_EVERY_S: Final = 5.0
MAX_HINT_BYTES: Final = 8 * 1024
MAX_CLAIMS: Final = 10_000
"""Limits of which one replica has slots."""


class SlotClaim(msgspec.Struct, frozen=True):
    """What a replica has and would like of the slots of one limit, such as ``max_in_flight`` of a backend."""

    limit: int
    """The slots of all replicas together, as configured or reported."""
    in_use: int
    """Its requests in flight: it keeps as many slots, even if there are fewer."""
    wanted: int
    """The slots that it would like to have now, those in use included."""
    unmet: int = 0
    """Requests that wait there for further slots, which it leaves to other replicas for now."""
    clients: int = 0
    """The clients to which its requests belong that wait for a slot."""
    prompt_tokens: int = 0
    """As estimated, of its requests in flight that have received no content yet."""
    answer_tokens: int = 0
    """The expected answer tokens of all its requests in flight."""


class SlotLease(msgspec.Struct, frozen=True):
    """What a replica may use of one limit, and what the other replicas do."""

    slots: int
    """The slots that it may use until its claims expire."""
    in_use_elsewhere: int = 0
    """The requests in flight of all other replicas."""
    prompt_tokens_elsewhere: int = 0
    answer_tokens_elsewhere: int = 0
    unmet_elsewhere: int = 0
    """The slots that other replicas would like to have besides theirs."""
    clients_elsewhere: int = 0
    """The clients that wait for these."""
    free: int = 0
    """The slots that no replica has now: a replica may wish for its part of them in advance."""


class Renewal(msgspec.Struct, frozen=True):
    """The answer to the claims of one replica."""

    replicas: int
    """The replicas whose claims have not expired, this one included."""
    leases: Mapping[str, SlotLease]
    """By key, one for each claim."""


class SharedStore(Store):
    """A store of several replicas; an optional capability, which the core uses if its store has it.

    Guarantees, besides those of every store:

    - *Leases*: :meth:`renew` is atomic and linear for all replicas. The slots of one key, of all replicas whose claims
      have not expired, never exceed the limit of the latest claim, except by what replicas have ``in_use``.
    - *Expiry*: claims that are not renewed within their ``ttl_s`` count no more, by the clock of the store, not of the
      replica: a replica that was killed or is cut off gives its slots back.
    - *Hints* are best effort: one may be lost, late or repeated, so they only make replicas look sooner. A replica does
      not get its own.
    - *Failures*: a :class:`nexus.errors.StoreError`, as for every call. The caller then assumes that its claims hold
      until they expire, and that those of others have not changed.
    """

    @abstractmethod
    async def renew(self, replica: str, claims: Mapping[str, SlotClaim], *, ttl_s: float) -> Renewal:
        """Replace all claims of *replica* by *claims*, for *ttl_s* seconds from now, and return what it may use.

        For each key: drop the claims of other replicas that have expired; let ``others`` be the sum of the slots of the
        rest; grant ``max(in_use, min(wanted, limit - others))`` slots, and store that with the claim. Other replicas
        see ``unmet + max(0, wanted - slots)`` in ``unmet_elsewhere``. What is left, ``max(0, limit - others - slots)``,
        is ``free``. A key without a claim gives its slots back.

        One round trip, however many claims: it is called every ``RENEW_EVERY_S`` seconds, and up to 50 times a second
        while requests wait.

        :param replica: names the replica, uniquely for each start of its process.
        :param claims: by key, at most ``MAX_CLAIMS``; a key is valid as for any entry, but is no entry: neither ``get``
            nor ``scan`` finds it.
        """

    @abstractmethod
    async def leave(self, replica: str) -> None:
        """Give back all slots of *replica*, which stops."""

    @abstractmethod
    async def publish(self, topic: str, message: bytes) -> None:
        """Send *message*, of at most ``MAX_HINT_BYTES``, to every other replica that listens."""

    @abstractmethod
    def listen(self, receive: Callable[[str, bytes], None]) -> None:
        """Call *receive* with topic and message of each hint from another replica, while the store is open.

        Called once, before :meth:`open`. *receive* neither blocks nor raises, and runs on the event loop.
        """
