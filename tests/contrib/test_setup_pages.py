"""The pages about budget, TLS and Prometheus, followed on a machine where the page about systemd has been followed."""

import shutil

import pytest
import trustme
import yaml

from nexus.testing.waiting import until

FILE = "/etc/nexus-proxy/nexus.toml"
ENVIRONMENT = "/etc/nexus-proxy/environment"
KEY = "the-key-of-the-page"
PAGES_WITH_PLUGINS = ("budget", "privacy", "failing-backends")
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
CHAT = '{"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi"}]}'


@pytest.fixture
def installed(scratch, blocks_of, unit_on, root):
    """Install the service, write its configuration, and give the unit."""

    def install(config, environment=""):
        scratch.sh(blocks_of("systemd", "sh")[0], cwd=str(root))
        scratch.write(FILE, config)
        scratch.write(ENVIRONMENT, environment, mode=0o600)
        return unit_on()

    return install


@pytest.fixture
def ask(scratch):
    """Ask the service with curl; return the status and the body."""

    def curl(path, *words):
        done = scratch.run(["curl", "-s", "-w", "\\n%{http_code}", f"http://127.0.0.1:8000{path}", *words])
        body, _, status = done.stdout.rpartition("\n")
        return int(status), body

    return curl


def test_the_budget_of_the_page_is_spent_and_then_kept(installed, scratch, blocks_of, simulated, ask):
    install, look = blocks_of("budget", "sh")
    budget, observed, prices, policy = blocks_of("budget", "toml")
    url = simulated("--model", "gpt-4o")
    paid = f'[[backends]]\nname = "azure"\nurl = "{url}"\ntype = "generic"\nzone = "open"\n'
    # One request costs more than the month may.
    dear = '[[plugins.budget.prices]]\nmodel = "gpt-4o"\nrequest_usd = 99.99\n'
    unit = installed(f"[server]\nport = 8000\n{paid}{budget}{dear}")
    scratch.sh(install)

    with unit.started():
        assert unit.told() == "READY=1"
        first, _ = ask("/v1/chat/completions", "-d", CHAT, "-H", "Content-Type: application/json")
        second, refusal = ask("/v1/chat/completions", "-d", CHAT, "-H", "Content-Type: application/json")
        looked = scratch.sh(look)

    assert (first, second) == (200, 503), refusal
    assert "budget" in refusal
    assert "99.99" in looked
    assert "azure" in looked
    assert scratch.path("/var/lib/nexus-proxy/nexus.sqlite3").exists()
    for more in (observed, prices, policy):
        scratch.write(FILE, f"[server]\nport = 8000\n{paid}{budget}{more}")
        scratch.sh(f"/opt/nexus-proxy/bin/nexus-proxy check --config {FILE}")


@pytest.mark.parametrize("page", PAGES_WITH_PLUGINS)
def test_a_plugin_is_installed_from_where_the_repository_has_it(blocks_of, root, page):
    install = blocks_of(page, "sh")[0]

    source = install.partition("pip install ")[2].strip()
    assert (root / source / "pyproject.toml").is_file(), install


def test_without_the_plugin_the_configuration_of_the_page_does_not_start(installed, scratch, blocks_of):
    budget = blocks_of("budget", "toml")[0]
    unit = installed(budget.replace('"budget"', '"budget-of-another-name"'))

    with unit.started() as process:
        code = process.wait(20)

    assert code in unit.gives_up_at
    assert "plugin 'budget-of-another-name' is required" in process.log()


@pytest.mark.parametrize(
    ("drops_line", "host", "key", "status"),
    [
        (False, "llm.example.com", KEY, 200),
        (False, "llm.example.com", None, 401),
        (False, "evil.example", KEY, 421),
        (True, "llm.example.com", KEY, 421),
    ],
)
def test_the_proxy_behind_nginx_knows_its_name_and_its_keys(installed, blocks_of, ask, drops_line, host, key, status):
    config = blocks_of("tls", "toml")[0]
    if drops_line:
        config = "".join(line for line in config.splitlines(keepends=True) if "allowed_hosts" not in line)
    unit = installed(config, f"NEXUS_API_KEY={KEY}\n")
    shown = ["-H", f"Authorization: Bearer {key}"] if key else []

    with unit.started():
        assert unit.told() == "READY=1"
        answered, _ = ask("/health", "-H", f"Host: {host}", *shown)

    assert answered == status


def test_the_authority_of_the_page_is_read_by_the_user_of_the_service(installed, scratch, blocks_of):
    backend = blocks_of("tls", "toml")[1]
    unit = installed(backend)
    authority = "/etc/nexus-proxy/internal-ca.pem"

    scratch.write(authority, trustme.CA().cert_pem.bytes().decode(), mode=0o600)
    with unit.started() as process:
        refused, told = process.wait(20), process.log()
    scratch.sh(f"chmod 644 {authority}")
    with unit.started():
        assert unit.told() == "READY=1"

    assert refused in unit.gives_up_at
    assert f"{authority} cannot be used: Permission denied" in told
    assert "let the user that Nexus runs as read it" in told


def test_nginx_understands_the_page(scratch, blocks_of):
    if shutil.which("nginx") is None:
        pytest.skip("nginx is not installed")
    (config,) = blocks_of("tls", "nginx")
    certificate = trustme.CA().issue_cert("llm.example.com")
    scratch.write("/etc/ssl/llm.example.com.pem", certificate.cert_chain_pems[0].bytes().decode())
    scratch.write("/etc/ssl/llm.example.com.key", certificate.private_key_pem.bytes().decode())
    scratch.write("/etc/nginx.conf", f"events {{}}\nhttp {{\n{config}}}\n")

    # Debian's package has these folders, in which the test of a configuration makes others and opens the log.
    for folder in ("/var/lib/nginx", "/var/log/nginx"):
        scratch.path(folder).mkdir(parents=True, exist_ok=True)
    done = scratch.run(["nginx", "-t", "-c", "/etc/nginx.conf", "-g", "error_log stderr;"])

    assert done.returncode == 0, done.stderr


def test_the_metrics_are_scraped_with_the_key_that_the_page_speaks_of(installed, scratch, blocks_of, ask):
    (job,) = yaml.safe_load(blocks_of("prometheus", "yaml")[0])["scrape_configs"]
    scratch.write(job["authorization"]["credentials_file"], KEY)
    unit = installed('[server]\nport = 8000\napi_keys = ["env:NEXUS_API_KEY"]\n', f"NEXUS_API_KEY={KEY}\n")

    with unit.started():
        assert unit.told() == "READY=1"
        without, _ = ask("/metrics")
        shown = scratch.sh(f"cat {job['authorization']['credentials_file']}")
        status, metrics = ask("/metrics", "-H", f"Authorization: Bearer {shown}")

    assert (without, status) == (401, 200)
    assert "nexus_" in metrics
    assert {target.partition(":")[2] for target in job["static_configs"][0]["targets"]} == {"8000"}


def test_the_example_for_prometheus_watches_the_service_of_the_page(installed, scratch, root):
    example = yaml.safe_load((root / "contrib/prometheus/prometheus.yml").read_text())
    (target,) = example["scrape_configs"][0]["static_configs"][0]["targets"]
    unit = installed("[server]\nport = 8000\n")

    with unit.started():
        assert unit.told() == "READY=1"
        metrics = scratch.sh(f"curl -s http://{target}/metrics")

    assert "nexus_" in metrics
    assert all((root / "contrib/prometheus" / name).exists() for name in example["rule_files"])


def test_prometheus_understands_its_example(scratch, root):
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed")

    scratch.sh("promtool check config contrib/prometheus/prometheus.yml", cwd=str(root))


def test_a_reload_finds_the_proxy_by_the_name_that_its_page_gives(scratch, blocks_of, root):
    scratch.sh(blocks_of("systemd", "sh")[0], cwd=str(root))
    scratch.write("/srv/nexus.toml", "[server]\nport = 8000\n")

    with scratch.started(["/opt/nexus-proxy/bin/nexus-proxy"], user=(65_534, 65_534), cwd="/srv") as process:
        scratch.wait_for_port(process)
        scratch.sh(blocks_of("reload", "sh")[0], cwd="/srv", environ={"PATH": f"/opt/nexus-proxy/bin:{PATH}"})
        until(lambda: "config_reloaded" in process.log(), within_s=20)

    assert process.returncode == 0
