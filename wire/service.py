"""The gRPC service by name, and the version that both sides compare at the first call."""

# Fields that are only added need no new number: protobuf skips what it does not know.
WIRE_VERSION = 1
"""Raised whenever an older peer would misread a newer one."""

REQUEST_ID_KEY = "cascade-request-id"
"""Metadata of calls that are about one request: its id, for proxies that route by a hash of it. The
server reads the id of the message alone."""

SERVICE_NAME = "cascade.v1.CascadeService"

GET_SERVER_INFO = f"/{SERVICE_NAME}/GetServerInfo"
PUT_CONTEXT = f"/{SERVICE_NAME}/PutContext"
GENERATE = f"/{SERVICE_NAME}/Generate"
GENERATE_FROM_FRAGMENTS = f"/{SERVICE_NAME}/GenerateFromFragments"
CANCEL = f"/{SERVICE_NAME}/Cancel"
GET_BUNDLE_MANIFEST = f"/{SERVICE_NAME}/GetBundleManifest"
READ_BUNDLE_FILE = f"/{SERVICE_NAME}/ReadBundleFile"
