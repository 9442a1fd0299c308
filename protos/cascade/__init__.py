"""The wire of Edge Cascade, generated from cascade.proto; see docs/reference/grpc-api.md."""
