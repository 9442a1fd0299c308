"""`cascade serve --dry-run`: everything that a start does, except that nobody is served.

Opens, verifies and warms up what the configuration says, reads its keys and certificates, and says
what the server would be. Knows what to print; not how it is found out.
"""

from collections.abc import Iterator

from cascade.bundle.bundle import open_bundle
from cascade.system.memory_limits import memory_here
from cascade.tuning.memory_needs import in_mb, memory_need
from cascade.tuning.plan import plan_here
from runtime_server.auth.authenticator import Authenticator
from runtime_server.auth.tls import watch_tls_files
from runtime_server.config.config import ServerConfig
from runtime_server.config.hosted import hosted_positions
from runtime_server.config.settings import settings
from runtime_server.core import Core
from runtime_server.lifecycle.http_port import check_http_packages
from runtime_server.lifecycle.process import load_warm
from runtime_server.system.memory import resident_bytes
from wire.server_info import ComponentInfo

MIB = 1 << 20
LIMITS = ("max_", "quota_", "context_", "result_", "reader_", "drain_")
"""How the names of settings begin that say what the server allows."""


def dry_run(config: ServerConfig) -> Iterator[str]:
    """Load everything and describe it, line by line.

    Raises:
        CascadeError: the server could not start.
    """
    Authenticator(config)
    check_http_packages(config)
    watch_tls_files(config)
    yield from memory_lines(config)
    before = resident_bytes()
    core = load_warm(config)
    try:
        if config.warm_up:
            core.executor.measure_now()
        yield from describe(core, (resident_bytes() - before) / MIB)
        yield f"memory     {resident_bytes() / MIB:.0f} MiB resident"
    finally:
        core.close()


def memory_lines(config: ServerConfig) -> Iterator[str]:
    """What the hosted components will take, and what there is; before any of it is taken."""
    bundle = open_bundle(config.bundle, config.require_signature, runs=())
    hosted = hosted_positions(config, bundle.manifest)
    bundle.require(hosted)
    plan = plan_here(bundle.manifest, config.engine_options, hosted)
    for position in hosted:
        component = bundle.manifest.components[position]
        need = memory_need(bundle, component, plan.of(component.name))
        yield f"takes      {component.name:<15} {need.text}"
    yield f"available  {in_mb(memory_here().available)}"


def describe(core: Core, bundle_mib: float) -> Iterator[str]:
    """What a core is, and what it allows.

    Args:
        core: warmed up, if the configuration says so.
        bundle_mib: what it added to the resident memory.
    """
    config = core.config
    yield f"bundle     {core.manifest.name}  {core.bundle_id}"
    yield f"           {config.bundle}, verified, {bundle_mib:.0f} MiB in memory"
    yield f"listens    {config.listen}, {protection(config)}"
    if config.http:
        yield f"http       {config.http}"
    yield f"operator   {config.metrics_listen or 'no port'}"
    yield (
        "hosts      component       engine      precision    size  steps    ms a step  rows  device"
    )
    for component in core.info().components:
        yield describe_component(component, core.executor.warmed.get(component.name, 0.0))
    if core.plan.warning:
        yield f"warning    {core.plan.warning}"
    for setting in settings():
        if setting.name.startswith(LIMITS):
            yield f"limit      {setting.name} = {getattr(config, setting.name)}"


def describe_component(component: ComponentInfo, warmed_s: float) -> str:
    """One line of the table; the time is that of the step that warmed it up."""
    size = component.output_width or ""
    time = f"{1000 * warmed_s:9.1f}" if warmed_s else "not tried"
    return (
        f"  {component.position:>7}  {component.name:<15} {component.engine:<11} "
        f"{component.precision!s:<9} {size!s:>7} {component.default_steps:>6}    {time}  "
        f"{component.max_batch_rows:>4}  {component.device}"
    )


def protection(config: ServerConfig) -> str:
    """How calls are protected, in words."""
    ways = [
        name
        for name, given in (
            ("TLS", config.tls_cert),
            ("client certificates", config.tls_client_ca),
            ("tokens", config.token_keys),
            ("JWT", config.jwt_keys),
        )
        if given is not None
    ]
    callers = "anonymous callers" if config.anonymous_allowed else "no anonymous callers"
    return ", ".join([*(ways or ["plaintext"]), callers])
