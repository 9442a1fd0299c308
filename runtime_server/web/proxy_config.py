"""What Envoy is told: which requests go to the server, which to the files, and what is compressed.

Knows addresses and Envoy's configuration; starts nothing.
"""

from typing import Any

from cascade.addresses import UNIX_PREFIX
from wire.limits import MAX_MESSAGE_BYTES
from wire.service import SERVICE_NAME

BUFFER_BYTES = 2 * MAX_MESSAGE_BYTES
"""Envoy's default of 1 MiB is less than one message."""
COMPRESSED = ("application/wasm", "application/octet-stream", "application/json", "text/")
"""Networks too: their weights shrink by a tenth, and a first visit is mostly they."""
TYPES = "type.googleapis.com/envoy.extensions"

Config = dict[str, Any]


def proxy_config(listen: str, server: str, files: str) -> Config:
    """The configuration of Envoy.

    Args:
        listen: `host:port`.
        server: of the gRPC server, `host:port` or `unix:PATH`.
        files: `host:port` of the file server.
    """
    manager = {
        "@type": f"{TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "page",
        "stream_idle_timeout": "0s",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes()}]},
        "http_filters": filters(),
    }
    chain = {"filters": [{"name": "http", "typed_config": manager}]}
    listener = {
        "address": address_of(listen),
        "per_connection_buffer_limit_bytes": BUFFER_BYTES,
        "filter_chains": [chain],
    }
    clusters = [cluster("grpc", server) | speaks_http2(), cluster("files", files)]
    return {
        "static_resources": {"listeners": [listener], "clusters": clusters},
        # Without a bound Envoy warns at every start.
        "overload_manager": {
            "resource_monitors": [
                {
                    "name": "envoy.resource_monitors.global_downstream_max_connections",
                    "typed_config": {
                        "@type": f"{TYPES}.resource_monitors.downstream_connections.v3"
                        ".DownstreamConnectionsConfig",
                        "max_active_downstream_connections": 1000,
                    },
                }
            ]
        },
    }


def routes() -> list[Config]:
    """The service to the server, everything else to the files."""
    # The client's own deadline alone ends a call: the stream is as long as its work.
    unbounded = {"timeout": "0s", "max_stream_duration": {"grpc_timeout_header_max": "0s"}}
    return [
        {"match": {"prefix": f"/{SERVICE_NAME}/"}, "route": {"cluster": "grpc", **unbounded}},
        {"match": {"prefix": "/"}, "route": {"cluster": "files"}},
    ]


def filters() -> list[Config]:
    """What every request passes, in order."""
    compressor = {
        "@type": f"{TYPES}.filters.http.compressor.v3.Compressor",
        "response_direction_config": {
            "common_config": {"content_type": list(COMPRESSED), "min_content_length": 1024}
        },
        "compressor_library": {
            "name": "brotli",
            "typed_config": {
                "@type": f"{TYPES}.compression.brotli.compressor.v3.Brotli",
                "quality": 6,
                "window_bits": 22,
            },
        },
    }
    return [
        {"name": "envoy.filters.http.compressor", "typed_config": compressor},
        {
            "name": "envoy.filters.http.grpc_web",
            "typed_config": {"@type": f"{TYPES}.filters.http.grpc_web.v3.GrpcWeb"},
        },
        {
            "name": "envoy.filters.http.router",
            "typed_config": {"@type": f"{TYPES}.filters.http.router.v3.Router"},
        },
    ]


def cluster(name: str, address: str) -> Config:
    """Where one kind of request goes."""
    endpoint = {"endpoint": {"address": address_of(address)}}
    return {
        "name": name,
        "type": "STRICT_DNS" if not address.startswith(UNIX_PREFIX) else "STATIC",
        "connect_timeout": "5s",
        "per_connection_buffer_limit_bytes": BUFFER_BYTES,
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [endpoint]}],
        },
    }


def speaks_http2() -> Config:
    """The protocol of gRPC."""
    options = {
        "@type": f"{TYPES}.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    return {
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options
        }
    }


def address_of(address: str) -> Config:
    """An address as Envoy has it."""
    if address.startswith(UNIX_PREFIX):
        return {"pipe": {"path": address.removeprefix(UNIX_PREFIX)}}
    host, port = address.rsplit(":", 1)
    return {"socket_address": {"address": host.strip("[]"), "port_value": int(port)}}
