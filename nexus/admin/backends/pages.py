"""The pages ``/admin/backends``, ``/admin/backends/<name>`` and ``/admin/backends/<name>/<action>``."""

from collections.abc import Awaitable
from functools import partial
from typing import Final

from nexus.admin.backends import actions, changes
from nexus.admin.backends.files import file_views
from nexus.admin.backends.loads import LoadPart, load_parts, view_of_all
from nexus.admin.backends.view import LIST, backends, view_of
from nexus.admin.openapi.operation import DescribedRoute
from nexus.admin.page import with_headers
from nexus.admin.parts import Asking
from nexus.domain.routes import Page, PageRequest
from nexus.fleet.fleet import Fleet
from nexus.workers.peers import Peers

POST: Final = frozenset({"POST"})
PATCH_OR_DELETE: Final = frozenset({"PATCH", "DELETE"})


def routes(
    fleet: Fleet, *, only_admins: bool, file: str, peers: Peers | None = None
) -> tuple[DescribedRoute, DescribedRoute]:
    """Return the pages that show and change *fleet*.

    :param only_admins: whether only administrators may call them, and not every client.
    :param file: the name of the configuration file.
    :param peers: other workers, which measure the same backends.
    """
    asking = Asking(peers, "page.backends", type(None), dict[str, LoadPart], lambda _: load_parts(fleet.snapshot))
    fleet_changes = changes.FleetChanges(fleet, only_admins=only_admins, file=file)

    async def list_or_add(request: PageRequest) -> Page:
        if request.method == "POST":
            return await fleet_changes.add(request)
        parts = None if peers is None else await asking(None)
        view_one = view_of if parts is None else partial(view_of_all, parts.present)
        files = file_views(fleet.files, fleet.clashes)
        page = backends(fleet.snapshot, fleet.origin_of, fleet.applicants, files, view_one=view_one)
        return page if parts is None else with_headers(page, parts.headers)

    def change_one(request: PageRequest) -> Awaitable[Page]:
        if request.method == "PATCH":
            return fleet_changes.change(request)
        if request.method == "DELETE":
            return fleet_changes.remove(request)
        return actions.act(fleet, request)

    return (
        DescribedRoute(
            path=actions.PATH.removesuffix("/"),
            methods=frozenset({"GET", "HEAD", "POST"}),
            respond=list_or_add,
            access="admin",
            operation=LIST,
            other_operations={"POST": changes.ADD},
        ),
        DescribedRoute(
            path=actions.PATH,
            methods=POST | PATCH_OR_DELETE,
            narrower=lambda path: POST if "/" in path.removeprefix(actions.PATH) else PATCH_OR_DELETE,
            respond=change_one,
            access="admin",
            operation=actions.ACT,
            other_operations={"PATCH": changes.CHANGE, "DELETE": changes.REMOVE},
        ),
    )
