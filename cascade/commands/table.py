"""The subcommands of `cascade`: what each does in one line, and the module that knows the rest.

A literal table, so that `cascade --help` imports no package and a subcommand imports its own alone.
Knows names; what a flag is, each module says when it is imported.
"""

from collections.abc import Mapping

COMMANDS: Mapping[str, Mapping[str, str]] = {
    "cascade.commands.inspect_verify": {
        "sign": "sign a bundle, or make the key for it",
        "inspect": "print what a bundle holds",
        "verify": "check hashes and signatures, and run one step of every component",
    },
    "cascade.commands.upgrade": {
        "upgrade": "convert a bundle of the format before this one",
    },
    "runtime_client.cli.cli": {
        "generate": "make a picture from a prompt",
        "upscale": "enlarge a picture of one's own",
        "fetch": "get the picture of `cascade generate --detach`",
        "cancel": "end what `cascade generate --detach` left",
    },
    "runtime_client.cli.plan_command": {
        "plan": "say where each component would run best, and why, without running any",
    },
    "runtime_client.cli.bundle_command": {
        "bundle": "copy or download the files of a bundle that a machine needs",
    },
    "runtime_client.cli.doctor_command": {
        "doctor": "say what is installed, what this machine can run, and how to mend the rest",
    },
    "cascade.commands.build_engines": {
        "build-engines": "build TensorRT engines from a bundle's graphs, into a cache on this "
        "machine",
    },
    "cascade.commands.export_triton": {
        "export-triton": "write a bundle's graphs as a model repository for NVIDIA Triton",
    },
    "export.cli": {
        "card": "write the model card into a bundle",
        "weights": "a bundle's weights as checkpoints again",
        "export-phone": "components of a bundle for a phone's runtime",
        "export": "write a bundle from trained checkpoints",
    },
    "runtime_server.cli": {
        "serve": "host components of a bundle over gRPC",
        "token": "make a bearer token for a caller of a server",
    },
    "runtime_server.web.command": {
        "web": "a page for browsers: a server, its gRPC-Web proxy and the page on one address",
    },
    "stages.cli": {
        "data": "fetch and prepare the training set",
        "train": "train one stage, or go on training it",
        "distill": "train a student that needs fewer evaluations",
        "probe": "train the classifier that judges the base stage",
        "evaluate": "a stage on held-out pictures: PSNR of super-resolution, bits of pixels by "
        "groups",
    },
    "bench.cli": {
        "bench": "measure latency, throughput and bytes of a split cascade, and compare",
    },
    "cascade.commands.tune": {
        "tune": "measure which engine runs each component fastest here, for --engine auto",
    },
}
"""By module: the subcommands that its `register` adds, in the order of `cascade --help`."""
