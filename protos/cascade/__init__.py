"""The wire of Edge Cascade, generated from cascade.proto; see docs/wire.md."""
