"""What lies in deploy/: every file parses, and names only what the server has."""

import argparse
import configparser
import json
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from cascade.commands.exit_codes import START_REFUSED
from runtime_server.app.server import FLUSH_S
from runtime_server.cli import register
from runtime_server.config.config_file import load_config
from runtime_server.telemetry.load import ReplicaLoad, ServerLoad, StageLoad
from runtime_server.telemetry.metrics import PrometheusMetrics, camel_case
from runtime_server.telemetry.server_events import (
    BundleReloaded,
    BytesMoved,
    CallEnded,
    CallStarted,
    EngineRan,
    QueueLeft,
    Refusal,
    ReplicaReplaced,
    RequestAdmitted,
    RequestRefused,
    RequestStopped,
    StageEnded,
    TracedRequest,
    WorkRepeated,
)
from runtime_server.telemetry.traces import CODES
from tests.support.certificates import Authority
from tests.support.server_process import victim
from tests.support.serving import ask
from tests.support.tiny_bundle import write_tiny_bundle
from wire.limits import MAX_MESSAGE_BYTES
from wire.service import REQUEST_ID_KEY, SERVICE_NAME

DEPLOY = Path(__file__).parents[2] / "deploy"
METRIC = re.compile(r"\b((?:cascade|grpc_server|process)_[a-z_]+)\b")
IMAGES = ("Dockerfile", "Dockerfile.gpu")
STANDARD_LABELS = {"instance", "job", "le"}


def read_yaml(name: str) -> list[Any]:
    """The documents of a YAML file."""
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed: YAML is not checked here")
    return [*yaml.safe_load_all((DEPLOY / name).read_text())]


@pytest.fixture(scope="module")
def exported() -> dict[str, set[str]]:
    """Every series that a server exports, with its labels."""
    metrics = PrometheusMetrics()
    stage = StageLoad(name="s", engine="ort", precision="fp32", queued=0, works=True)
    request = TracedRequest("id")
    for event in (
        CallStarted("/a.B/C"),
        CallEnded("/a.B/C", "OK", 1),
        BytesMoved(1, 1),
        RequestRefused("quota"),
        RequestAdmitted("id"),
        QueueLeft("s", 1),
        EngineRan("s", (request,), 0, 1),
        StageEnded("s", request, 0, 1),
        StageEnded("s", request, 0, 1, "INTERNAL"),
        RequestStopped("queue", "CANCELLED"),
        BundleReloaded("refused"),
        ReplicaReplaced("died"),
        WorkRepeated("again"),
    ):
        metrics(event)
    replica = ReplicaLoad(number=0, ready=True, jobs=1, backlog_s=1.0, resident_bytes=1)
    load = ServerLoad(stages=(stage,), replicas=(replica,), resident_bytes=1)
    found: dict[str, set[str]] = {}
    for line in metrics.exposition(load).decode().splitlines():
        if not line.startswith("#"):
            name, labels = re.match(r"(\w+)(?:\{(.*)\})?", line).groups()  # type: ignore[union-attr]
            found.setdefault(name, set()).update(re.findall(r"(\w+)=\"", labels or ""))
    return found


def dashboard_expressions() -> Iterator[str]:
    """Every query of the dashboard."""
    dashboard = json.loads((DEPLOY / "grafana.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            yield target["expr"]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["query"]["query"]
    for annotation in dashboard["annotations"]["list"]:
        yield annotation["expr"]


def alert_rules() -> list[Any]:
    """Every alert."""
    (document,) = read_yaml("alerts.yml")
    return [rule for group in document["groups"] for rule in group["rules"]]


def check_expression(expression: str, exported: dict[str, set[str]]) -> None:
    """A query asks only for series and labels that there are."""
    names = set(METRIC.findall(expression))
    assert names, expression
    assert names <= set(exported), names - set(exported)
    known = set.union(*(exported[name] for name in names)) | STANDARD_LABELS
    grouped = re.findall(r"by \(([^)]*)\)", expression)
    used = {label.strip() for group in grouped for label in group.split(",")}
    used |= set(re.findall(r"[{,]\s*(\w+)(?:=~|!~|!=|=)", expression))
    assert used <= known, (expression, used - known)
    for code in re.findall(r'(?:grpc_)?code[=!]~"([^"]*)"', expression):
        assert set(code.split("|")) <= {camel_case(name) for name in CODES}
    for reason in re.findall(r'reason=~?"([^"]*)"', expression):
        assert set(reason.split("|")) <= set(get_args(Refusal))
    assert expression.count("(") == expression.count(")")


def test_the_dashboard_asks_for_what_there_is(exported: dict[str, set[str]]) -> None:
    """Every series and label of every panel; panels do not lie over each other."""
    expressions = list(dashboard_expressions())
    assert len(expressions) > 20
    for expression in expressions:
        check_expression(expression, exported)
    dashboard = json.loads((DEPLOY / "grafana.json").read_text())
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in dashboard["panels"])
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24


def test_every_series_of_ours_is_on_the_dashboard(exported: dict[str, set[str]]) -> None:
    """What is exported can be seen."""
    parts = re.compile(r"_(bucket|sum|count)$")
    shown = {parts.sub("", name) for name in METRIC.findall(" ".join(dashboard_expressions()))}
    there = {parts.sub("", name) for name in exported if not name.endswith("_created")}
    # Counts of what is shown in bytes or by outcome already.
    left_out = {
        "cascade_contexts",
        "cascade_results",
        "cascade_stage_info",
        "cascade_requests_total",
        "grpc_server_started_total",
    }
    assert there - shown == left_out


def test_autoscalers_ask_for_what_there_is(exported: dict[str, set[str]]) -> None:
    """Both follow the same series, to the same target, and name the set of the other manifest."""
    keda, by_pods = read_yaml("autoscale.yaml")
    (trigger,) = keda["spec"]["triggers"]
    check_expression(trigger["metadata"]["query"], exported)
    (metric,) = by_pods["spec"]["metrics"]
    assert metric["pods"]["metric"]["name"] in exported
    assert metric["pods"]["target"]["averageValue"] == trigger["metadata"]["threshold"]
    sets = {
        d["metadata"]["name"] for d in read_yaml("kubernetes.yaml") if d["kind"] == "StatefulSet"
    }
    assert {d["spec"]["scaleTargetRef"]["name"] for d in (keda, by_pods)} <= sets


def test_the_proxy_routes_by_the_header_that_clients_send() -> None:
    """And its health checks are gRPC's; a real Envoy takes the file in `make two-servers`."""
    (document,) = read_yaml("envoy.yaml")
    (listener,) = document["static_resources"]["listeners"]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    route = manager["route_config"]["virtual_hosts"][0]["routes"][0]["route"]
    assert route["hash_policy"][0]["header"]["header_name"] == REQUEST_ID_KEY
    (cluster,) = document["static_resources"]["clusters"]
    assert cluster["lb_policy"] == "RING_HASH"
    assert "grpc_health_check" in cluster["health_checks"][0]
    assert cluster["per_connection_buffer_limit_bytes"] >= MAX_MESSAGE_BYTES


def test_alerts_ask_for_what_there_is(exported: dict[str, set[str]]) -> None:
    """And each has a severity and says what to do."""
    rules = alert_rules()
    assert len({rule["alert"] for rule in rules}) == len(rules)
    for rule in rules:
        check_expression(rule["expr"], exported)
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["runbook_url"].endswith(f"#{rule['alert'].lower()}")


def port_of(listen: str) -> int:
    """The port of an address."""
    return int(listen.rpartition(":")[2])


def test_prometheus_scrapes_the_port_of_the_container() -> None:
    """And reads the alerts that lie beside it."""
    (document,) = read_yaml("prometheus.yml")
    (job,) = document["scrape_configs"]
    (target,) = job["static_configs"][0]["targets"]
    container = load_config(DEPLOY / "container.toml", {})
    assert port_of(target) == port_of(container.metrics_listen)
    service = load_config(DEPLOY / "service.toml", {})
    assert target == service.metrics_listen
    assert all((DEPLOY / name).is_file() for name in document["rule_files"])


@pytest.mark.parametrize("name", IMAGES)
def test_the_image_serves_as_its_settings_say(name: str) -> None:
    """No secret and no root; the ports are those of the file that it copies."""
    text = (DEPLOY / name).read_text()
    config = load_config(DEPLOY / "container.toml", {})
    instructions = [
        line.split(maxsplit=1) for line in text.splitlines() if re.match("[A-Z]+ ", line)
    ]
    by_name: dict[str, list[str]] = {}
    for name, rest in instructions:
        by_name.setdefault(name, []).append(rest)
    assert by_name["EXPOSE"] == [f"{port_of(config.listen)} {port_of(config.metrics_listen)}"]
    (user,) = by_name["USER"]
    assert user.split(":")[0] not in ("0", "root")
    assert "useradd --uid " + user.split(":")[0] in text
    assert f"http://127.0.0.1:{port_of(config.metrics_listen)}/readyz" in text
    published = re.findall(r"-p (?:[\d.]+:)?(\d+):(\d+)", text)
    assert published == [(port, port) for port in by_name["EXPOSE"][0].split()]
    (command,) = by_name["ENTRYPOINT"]
    program, *arguments = json.loads(command)
    assert program == "cascade"
    assert parsed(arguments).config == Path("/etc/cascade/server.toml")
    assert "COPY deploy/container.toml /etc/cascade/server.toml" in text
    assert f"COPY bundles/emoji-1 {config.bundle}" in text
    root = DEPLOY.parent
    for source in by_name["COPY"]:
        if not source.startswith("--from"):
            assert all((root / name).exists() for name in source.split()[:-1])
    packages = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]
    copied = {name for source in by_name["COPY"] for name in source.split()}
    assert {name.split(".")[0] for name in packages["packages"]} <= copied
    assert not re.search(r"(?i)password|secret_key|ARG .*token", text)


@pytest.mark.parametrize(("name", "engines"), [("Dockerfile", "cpu"), ("Dockerfile.gpu", "gpu")])
def test_an_image_installs_one_build_of_onnx_runtime(name: str, engines: str) -> None:
    """With server and HTTP door; what is written to is a folder of the image's user or a tmpfs."""
    text = (DEPLOY / name).read_text()
    assert re.findall(r"'\.\[(.*)\]'", text) == [f"{engines},server,http"]
    (cache,) = re.findall(r"XDG_CACHE_HOME=(\S+)", text)
    made = re.findall(r"install -d -o 10001 -g 10001 -m 700 (\S+)", text)
    assert cache in ("/tmp", *made)  # noqa: S108  of the image
    assert (name == "Dockerfile.gpu") == ("--gpus device=0" in text)
    assert (name == "Dockerfile.gpu") == (f"-v cascade-cache:{cache}" in text)


def test_a_wheel_holds_every_package() -> None:
    """The list in pyproject.toml is written by hand: no folder of code is missing from it."""
    root = DEPLOY.parent
    listed = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = {
        ".".join(path.parent.relative_to(root).parts)
        for top in {name.split(".")[0] for name in listed}
        for path in (root / top).rglob("*.py")
    }
    assert found == set(listed)


def parsed(arguments: list[str]) -> argparse.Namespace:
    """A command line after `cascade`."""
    parser = argparse.ArgumentParser()
    register(parser.add_subparsers())
    return parser.parse_args(arguments)


def test_the_unit_is_hardened_and_calls_what_there_is() -> None:
    """SIGTERM drains in time, reload is SIGHUP, and the command line is one that parses."""
    unit = configparser.RawConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string((DEPLOY / "cascade.service").read_text())
    service = unit["Service"]
    program, *arguments = shlex.split(service["ExecStart"])
    assert program.endswith("/cascade")
    assert not parsed(arguments).dry_run
    # `RestartPreventExitStatus` is about the main process: another one's 2 would restart for ever.
    assert [key for key in service if key.startswith("Exec")] == ["ExecStart", "ExecReload"]
    assert service["ExecReload"].endswith("-HUP $MAINPID")
    assert service["KillSignal"] == "SIGTERM"
    for name in ("server.toml", "service.toml"):
        grace_s = load_config(DEPLOY / name, {}).drain_grace_s
        assert float(service["TimeoutStopSec"]) > grace_s + FLUSH_S
    # A crash of Python has the exit code of a forced stop: it must still be restarted.
    assert service["Restart"] == "always"
    assert service["RestartPreventExitStatus"] == str(START_REFUSED)
    wanted = {
        "DynamicUser": "yes",
        "ProtectSystem": "strict",
        "NoNewPrivileges": "yes",
        "PrivateTmp": "yes",
        "CapabilityBoundingSet": "",
    }
    assert {key: service[key] for key in wanted} == wanted


def test_the_unit_loads_every_credential_that_its_settings_name() -> None:
    """And no other; a key of two would be lost to `configparser`, so lines are read."""
    text = (DEPLOY / "cascade.service").read_text()
    loaded = dict(re.findall(r"^LoadCredential=([\w.]+):(/\S+)$", text, re.MULTILINE))
    settings = tomllib.loads((DEPLOY / "service.toml").read_text())
    folder = "/run/credentials/cascade.service/"
    named = {v.removeprefix(folder) for v in settings.values() if str(v).startswith(folder)}
    assert named == set(loaded) == {"tls.crt", "tls.key", "tokens.toml"}
    config = load_config(DEPLOY / "service.toml", {})
    assert not config.anonymous_allowed
    assert config.tls_cert is not None


@pytest.mark.parametrize("name", ["container.toml", "service.toml"])
def test_a_server_of_the_settings_starts(name: str, tmp_path: Path) -> None:
    """As a process, with its own files in the place of the paths; the container's port is public.

    127.0.0.2 is an address of this machine that a listener on 127.0.0.1 does not have.
    """
    bundle = write_tiny_bundle(tmp_path / "bundle")
    pair = Authority(tmp_path, "authority").issue("server")
    (tmp_path / "tokens.toml").write_text(f'alice = "{"0" * 64}"')
    places = {"tls_cert": pair.certificate, "tls_key": pair.key, "bundle": bundle.folder}
    places["token_keys"] = tmp_path / "tokens.toml"
    text = (DEPLOY / name).read_text()
    for key, path in places.items():
        text, count = re.subn(rf'(?m)^{key} = ".*"$', f'{key} = "{path}"', text)
        assert count == 1
    (tmp_path / "server.toml").write_text(re.sub(r'(listen = ".*):\d+"', r'\1:0"', text))
    command = [sys.executable, "-m", "cascade", "serve", "--threads", "1", "--config"]
    with victim(bundle, command=[*command, str(tmp_path / "server.toml")]) as server:
        port = server.window.rpartition(":")[2]
        server.window = f"127.0.0.1:{port}"
        assert ask(server.window, "/readyz")[0] == 200
        if name == "container.toml":
            assert ask(f"127.0.0.2:{port}", "/metrics")[0] == 200


def kubernetes() -> dict[str, Any]:
    """Every object of the manifest; Services by their names, the others by their kinds."""
    found = read_yaml("kubernetes.yaml")
    names = [d["metadata"]["name"] if d["kind"] == "Service" else d["kind"] for d in found]
    assert len(set(names)) == len(names)
    return dict(zip(names, found, strict=True))


def test_two_machines_by_compose() -> None:
    """The first has a server and Envoy, which finds both servers; the second has the other one."""
    (document,) = read_yaml("compose.yaml")
    services = document["services"]
    by_profile = {
        profile: {name for name, s in services.items() if s["profiles"] == [profile]}
        for profile in ("first", "second")
    }
    assert by_profile == {"first": {"cascade-0", "envoy"}, "second": {"cascade-1"}}
    for name in ("cascade-0", "cascade-1"):
        server = services[name]
        arguments = parsed([*server["entrypoint"], *server["command"]][1:])
        assert port_of(arguments.listen) == 7860
        assert float(server["stop_grace_period"].removesuffix("s")) > arguments.drain_grace_s
        assert server["read_only"]
        assert server["cap_drop"] == ["ALL"]
        (mount,) = server["volumes"]
        assert str(arguments.token_keys).startswith(mount.split(":")[1])
        published = [port.rsplit(":", 1)[1] for port in server["ports"]]
        assert str(port_of(arguments.metrics_listen)) in published
    assert any(port.endswith(":7860:7860") for port in services["cascade-1"]["ports"])
    envoy = services["envoy"]
    (routes,) = read_yaml("envoy.yaml")
    (cluster,) = routes["static_resources"]["clusters"]
    named = {
        e["endpoint"]["address"]["socket_address"]["address"]
        for e in cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
    }
    # By the name of the service beside it, and by an address that the operator gives.
    (other,) = (host.split(":")[0] for host in envoy["extra_hosts"])
    assert named == {"cascade-0", other}
    assert envoy["volumes"] == ["./envoy.yaml:/etc/envoy/envoy.yaml:ro"]


def test_the_manifest_for_ray_fits_the_server(tmp_path: Path) -> None:
    """One pod of the cluster for each replica; the head runs Ray, then the server that joins it."""
    settings, cluster, service = read_yaml("ray.yaml")
    file = tmp_path / "server.toml"
    file.write_text(settings["data"]["server.toml"])
    config = load_config(file, {})
    assert (config.executor, config.address) == ("ray", "auto")
    spec = cluster["spec"]
    assert cluster["metadata"]["annotations"]["ray.io/overwrite-container-cmd"] == "true"
    assert spec["authOptions"] == {"mode": "token"}
    (workers,) = spec["workerGroupSpecs"]
    assert config.replicas == workers["replicas"] == workers["minReplicas"]
    head, worker = (
        group["template"]["spec"]["containers"][0] for group in (spec["headGroupSpec"], workers)
    )
    begun, arguments = head["args"][0].split(" && exec cascade ")
    assert "--num-cpus=0" in shlex.split(begun)
    assert parsed(shlex.split(arguments)).config == Path("/etc/cascade/server.toml")
    assert f"--num-cpus={config.threads} " in worker["args"][0]
    assert worker["resources"]["requests"]["cpu"] == str(config.threads)
    assert (
        f"--node-manager-port={worker['livenessProbe']['tcpSocket']['port']} " in worker["args"][0]
    )
    ports = {port["name"]: port["containerPort"] for port in head["ports"]}
    assert ports["grpc"] == port_of(config.listen) == head["readinessProbe"]["grpc"]["port"]
    assert ports["metrics"] == port_of(config.metrics_listen)
    assert f"--port={ports['gcs-server']} " in begun
    assert service["spec"]["ports"][0]["targetPort"] in ports


def test_the_pods_for_ray_drain_in_time_and_may_do_little(tmp_path: Path) -> None:
    """As those without Ray: time for preStop and the drain, no root, nothing written but /tmp."""
    settings, cluster, _ = read_yaml("ray.yaml")
    file = tmp_path / "server.toml"
    file.write_text(settings["data"]["server.toml"])
    spec = cluster["spec"]
    groups = (spec["headGroupSpec"], *spec["workerGroupSpecs"])
    pods = [group["template"]["spec"] for group in groups]
    pause_s = float(pods[0]["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1])
    drain_s = load_config(file, {}).drain_grace_s
    assert pods[0]["terminationGracePeriodSeconds"] > pause_s + drain_s + FLUSH_S
    for pod in pods:
        assert pod["securityContext"]["runAsNonRoot"]
        security = pod["containers"][0]["securityContext"]
        assert security["capabilities"]["drop"] == ["ALL"]
        assert security["readOnlyRootFilesystem"]


def test_the_image_for_ray_has_the_version_that_the_package_names() -> None:
    """And so has the cluster: all nodes of a cluster need the same."""
    packages = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text())["project"]
    (named,) = (d for d in packages["optional-dependencies"]["ray"] if d.startswith("ray"))
    text = (DEPLOY / "Dockerfile.ray").read_text()
    assert f"pip install --no-cache-dir {named}\n" in text
    assert re.findall(r"^USER (.*)$", text, re.MULTILINE)[-1] == "10001:10001"
    _, cluster, _ = read_yaml("ray.yaml")
    assert f"ray=={cluster['spec']['rayVersion']}" == named


def test_the_manifest_for_kubernetes_fits_the_server(tmp_path: Path) -> None:
    """Ports, probes, grace and settings are the server's; the pod may do little."""
    documents = kubernetes()
    file = tmp_path / "server.toml"
    file.write_text(documents["ConfigMap"]["data"]["server.toml"])
    config = load_config(file, {})
    pod = documents["StatefulSet"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"grpc": port_of(config.listen), "metrics": port_of(config.metrics_listen)}
    annotations = documents["StatefulSet"]["spec"]["template"]["metadata"]["annotations"]
    assert int(annotations["prometheus.io/port"]) == ports["metrics"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["grpc"]["port"] == ports["grpc"]
        assert container[probe]["grpc"].get("service", SERVICE_NAME) == SERVICE_NAME
    arguments = [*container["command"], *container["args"]]
    assert arguments[0] == "cascade"
    assert parsed(arguments[1:]).config == Path("/etc/cascade/server.toml")
    pause_s = float(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] > pause_s + config.drain_grace_s + FLUSH_S
    assert pod["securityContext"]["runAsNonRoot"]
    security = container["securityContext"]
    assert security["readOnlyRootFilesystem"]
    assert not security["allowPrivilegeEscalation"]
    assert security["capabilities"]["drop"] == ["ALL"]
    assert set(container["resources"]) == {"requests", "limits"}
    assert str(config.threads) == container["resources"]["requests"]["cpu"]
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}
    for name in ("cascade", "cascade-replicas"):
        (port,) = documents[name]["spec"]["ports"]
        assert port["targetPort"] in ports


def test_a_client_comes_back_to_the_replica_that_has_its_results(tmp_path: Path) -> None:
    """Every replica has a name of its own, and one name for all keeps a client's address."""
    documents = kubernetes()
    file = tmp_path / "server.toml"
    file.write_text(documents["ConfigMap"]["data"]["server.toml"])
    sticky, headless = documents["cascade"]["spec"], documents["cascade-replicas"]
    assert documents["StatefulSet"]["spec"]["serviceName"] == headless["metadata"]["name"]
    assert headless["spec"]["clusterIP"] == "None"
    assert sticky["sessionAffinity"] == "ClientIP"
    kept_s = load_config(file, {}).result_lifetime_s
    assert sticky["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"] >= kept_s
    labels = documents["StatefulSet"]["spec"]["template"]["metadata"]["labels"]
    assert sticky["selector"] == headless["spec"]["selector"] == labels
