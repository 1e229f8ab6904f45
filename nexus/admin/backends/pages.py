"""The pages ``/admin/backends``, ``/admin/backends/<name>`` and ``/admin/backends/<name>/<action>``."""

from collections.abc import Awaitable
from typing import Final

from nexus.admin.backends import actions, changes
from nexus.admin.backends.files import file_views
from nexus.admin.backends.view import LIST, backends
from nexus.admin.openapi.operation import DescribedRoute
from nexus.domain.routes import Page, PageRequest
from nexus.fleet.fleet import Fleet

POST: Final = frozenset({"POST"})
PATCH_OR_DELETE: Final = frozenset({"PATCH", "DELETE"})


def routes(fleet: Fleet, *, only_admins: bool, file: str) -> tuple[DescribedRoute, DescribedRoute]:
    """Return the pages that show and change *fleet*.

    :param only_admins: whether only administrators may call them, and not every client.
    :param file: the name of the configuration file.
    """
    fleet_changes = changes.FleetChanges(fleet, only_admins=only_admins, file=file)

    def list_or_add(request: PageRequest) -> Page | Awaitable[Page]:
        if request.method == "POST":
            return fleet_changes.add(request)
        return backends(fleet.snapshot, fleet.origin_of, fleet.applicants, file_views(fleet.files, fleet.clashes))

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
