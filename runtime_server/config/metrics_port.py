"""Who may reach the port of metrics, which has neither encryption nor credentials."""

from cascade.addresses import is_loopback, split_address
from cascade.errors import InvalidRequest


def check_metrics(listen: str, *, is_remote: bool) -> None:
    """Refuse a metrics port that other machines can reach, unless the operator says so.

    Args:
        listen: the setting `metrics_listen`; empty for no port.
        is_remote: the setting `metrics_remote`.

    Raises:
        InvalidRequest: the two contradict each other.
    """
    if not listen:
        if is_remote:
            raise InvalidRequest(
                "metrics_remote: it opens the port of --metrics-listen; give that too",
                field="metrics_remote",
            )
        return
    host, _ = split_address(listen, "metrics_listen")
    if not (is_loopback(host) or is_remote):
        raise InvalidRequest(
            f"metrics_listen: {listen} is reachable from other machines, in plain HTTP and without "
            "credentials: use 127.0.0.1, or --metrics-remote if the network is trusted",
            field="metrics_listen",
        )
