"""Decodes ``[plugins.<name>]`` strictly into the plugin's type."""

from collections.abc import Mapping
from typing import Any

import msgspec

from nexus.config.faults import OF_THE_TABLE, Fault
from nexus.config.schema import PluginConfig, PolicyKeys
from nexus.config.sources.decoding import decoded, unknown_key
from nexus.containment import contained, safe_text
from nexus.errors import PluginError
from nexus.plugin_manager.plugin import Plugin


def config_type_of(plugin: Plugin) -> type[PluginConfig] | None:
    """Return the type of the plugin's table, None when it takes none. :raises PluginError: the type is invalid."""
    types = plugin.call("nexus_config")
    if not types:
        return None
    config_type = types[0]
    if not isinstance(config_type, type) or not issubclass(config_type, PluginConfig):
        raise PluginError(
            f"plugin {plugin.label}: nexus_config must give a subclass of nexus.api.PluginConfig,"
            f" not {safe_text(config_type, repr)}"
        )
    keys = getattr(config_type, "policy_keys", None)
    if keys is not None and not (isinstance(keys, type) and issubclass(keys, PolicyKeys)):
        raise PluginError(
            f"plugin {plugin.label}: policy_keys must be a subclass of nexus.api.PolicyKeys,"
            f" not {safe_text(keys, repr)}"
        )
    return config_type


def decode_table(
    plugin: Plugin, config_type: type[PluginConfig] | None, table: Mapping[str, Any] | None
) -> PluginConfig | None:
    """Return the decoded *table*; without a table, the type's defaults.

    :raises Fault: the table is invalid; it names the key and what was expected.
    """
    at = ("plugins", plugin.name)
    if config_type is None:
        if table:
            raise Fault((*at, OF_THE_TABLE), f"plugin {plugin.label} takes no configuration")
        return None
    with contained(f"plugin {plugin.label}: its table cannot be decoded", passing=(Fault,)):
        fields = {field.encode_name: field for field in msgspec.structs.fields(config_type)}
        for key in table or {}:
            if key not in fields:
                raise unknown_key((*at, key), fields)
        return decoded(table or {}, config_type, at)
