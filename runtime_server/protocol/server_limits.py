"""The limits that a server tells its clients at their first call, out of its configuration."""

from cascade.boundary import longest_side
from cascade.bundle.manifest import Manifest
from cascade.diffusion.request_options import MAX_STEPS
from cascade.edit import MAX_RESAMPLE
from cascade.request import MAX_PROMPT_CHARACTERS
from cascade.vector_values import MAX_VECTORS
from runtime_server.config.config import ServerConfig
from wire.limits import MAX_MESSAGE_BYTES, max_joined_request_bytes
from wire.server_info import Limits


def limits_of(config: ServerConfig, manifest: Manifest) -> Limits:
    """What this server tells of its limits."""
    return Limits(
        max_message_bytes=MAX_MESSAGE_BYTES,
        max_prompt_characters=MAX_PROMPT_CHARACTERS,
        max_steps=MAX_STEPS,
        max_queued_per_stage=config.max_queued_per_stage,
        context_store_bytes=config.context_store_bytes,
        context_lifetime_s=config.context_lifetime_s,
        result_store_bytes=config.result_store_bytes,
        result_lifetime_s=config.result_lifetime_s,
        max_in_flight_bytes=config.max_in_flight_bytes,
        max_in_flight_per_identity=config.max_in_flight_per_identity,
        max_linger_s=config.max_linger_s,
        max_in_flight=config.max_in_flight,
        max_resample=MAX_RESAMPLE,
        max_vectors=MAX_VECTORS,
        max_joined_bytes=max_joined_request_bytes(
            longest_side(c.makes for c in manifest.components)
        ),
    )
