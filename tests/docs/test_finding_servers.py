"""What the page about finding servers shows is accepted, and renders to what it says."""

import re
from textwrap import dedent

import pytest

from nexus.config.discovery_schema import FileSourceConfig
from nexus.config.fleet_file import backends_in
from nexus.config.loading import load
from nexus.config.one_backend import load_backend


@pytest.fixture(scope="module")
def shown(root):
    """Give the literal blocks of the page in one language, in their order."""
    text = (root / "docs/howto/find-servers.rst").read_text()

    def blocks(language):
        pattern = rf"^( *)\.\. code-block:: {language}\n\n((?:\1   .*\n|\n)+)"
        return [dedent(block) for _, block in re.findall(pattern, text, re.MULTILINE)]

    return blocks


def test_every_configuration_on_the_page_is_accepted(shown, tmp_path):
    environ = {"NEXUS_API_KEY": "sesame"}
    core = [block for block in shown("toml") if "[plugins." not in block and "[[plugins." not in block]

    for number, block in enumerate(core):
        path = tmp_path / f"{number}.toml"
        path.write_text(block)
        load(path, environ=environ, overrides={})

    assert len(core) > 4


def test_the_overview_has_every_source_and_leads_to_its_section(root):
    text = (root / "docs/howto/find-servers.rst").read_text()
    overview, _, sections = text.partition("\n.. code-block::")

    sources = re.findall(r"^(.+)\n-+$", sections, re.MULTILINE)
    named = set(re.findall(r"`([^`<]+)`_", overview))

    assert named == set(sources) - {"Where multicast does not reach"}


@pytest.mark.parametrize(
    ("hosts", "names"), [({"gpu-1": {}, "gpu-2": {"ansible_host": "10.0.0.2"}}, ["gpu-1", "gpu-2"]), ({}, [])]
)
def test_the_template_for_ansible_renders_a_file_that_is_in_order(shown, hosts, names):
    jinja2 = pytest.importorskip("jinja2")
    (template,) = shown("jinja")

    rendered = jinja2.Template(template).render(groups={"gpu": list(hosts)}, hostvars=hosts)
    source = FileSourceConfig(path="fleet.toml", references=("env:GPU_*",))
    found = backends_in(
        rendered.encode(), source, lambda table: load_backend(table, environ={"GPU_KEY": "sesame"}), most=9
    )

    assert [each.config.name for each in found] == names
