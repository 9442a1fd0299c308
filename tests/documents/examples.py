"""What is run for each command that a document shows, or why none is.

A command is run as it stands, with the addresses of the documents replaced by free ones, in a
folder that holds what a checkout holds. Where that would take minutes, `instead` says the same
with smaller parameters; where a machine like CI's cannot run it, `NOT_RUN` says why.
"""

# ruff: noqa: E501, S108  the documents' own lines, as they stand there

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """How one command is run."""

    instead: str = ""
    """With smaller parameters; empty runs the command itself. `{server}` is one that runs."""
    needs: tuple[str, ...] = ()
    """Packages of which one must be installed."""
    prepare: tuple[str, ...] = ()
    """Names of what must be there before; see `tests.documents.workspace`."""
    makes: tuple[str, ...] = ()
    """Files that are there afterwards."""
    says: str = ""
    """Part of what it prints."""
    serves: bool = False
    """It runs until it is told to end; it must listen, end at SIGTERM and exit with 0."""


TENSORRT = ("tensorrt", "tensorrt_rtx", "tensorrt_rtx_bindings")
TORCH = ("torch",)
ONE_STEP = "--steps 1 --batch 1 --sheet-minutes 0"

RUN: Mapping[str, Example] = {
    'cascade generate "a red apple, noto style" -o apple.png': Example(makes=("apple.png",)),
    'cascade generate "a robot, fluent style" -o robot.png --cut 4': Example(makes=("robot.png",)),
    "cascade serve --bundle bundles/emoji-1 --listen 127.0.0.1:7860": Example(serves=True),
    'cascade generate "a cactus, twemoji style" -o c.png --server 127.0.0.1:7860 --preview steps/': (
        Example(
            instead='cascade generate "a cactus, twemoji style" -o c.png --server {server} '
            "--preview steps/",
            makes=("c.png", "steps/base.png"),
        )
    ),
    "cascade generate --from apple.png -o again.webp": Example(
        prepare=("apple",), makes=("again.webp",)
    ),
    "cascade generate --from apple.png -o again.png": Example(
        prepare=("apple",), makes=("again.png",)
    ),
    'cascade generate "a lemon" -o - -q | display': Example(
        instead='cascade generate "a lemon" -o - -q > lemon.png', makes=("lemon.png",)
    ),
    # docs/command-line.md
    "cascade inspect bundles/emoji-1": Example(says="bytes in all"),
    "cascade verify bundles/emoji-1": Example(says="ok "),
    "cascade token alice": Example(says='"alice" = "'),
    "cascade sign bundles/emoji-1 --make-key key.pem": Example(
        makes=("key.pem", "key.pem.pub", "bundles/emoji-1/manifest.sig")
    ),
    "cascade tune bundles/emoji-1": Example(
        instead="cascade tune bundles/emoji-1 --seconds 0.05", says="kept in "
    ),
    'cascade generate "a lemon" -o l.png --engine openvino --precision int8': Example(
        needs=("openvino",), makes=("l.png",)
    ),
    "cascade build-engines bundles/emoji-1 --compute-capability 8.6": Example(
        needs=TENSORRT, says="engine   not inspected"
    ),
    "cascade export --from torch examples.my_cascade:describe --out circles": Example(
        needs=TORCH, makes=("circles/manifest.json",)
    ),
    "cascade weights --checkpoints checkpoints": Example(
        instead="cascade weights --checkpoints checkpoints --stages sr1024",
        needs=TORCH,
        prepare=("reference bundle",),
        makes=("checkpoints/sr1024/checkpoint.json",),
    ),
    "cascade distill guidance base": Example(
        instead=f"cascade distill guidance base {ONE_STEP}",
        needs=TORCH,
        prepare=("data", "checkpoints"),
        makes=("checkpoints/base.guided/checkpoint.json",),
    ),
    "cascade card bundles/emoji-1 --quality quality/quality.json": Example(
        prepare=("quality",), makes=("bundles/emoji-1/MODEL_CARD.md",)
    ),
    # docs/client.md
    'cascade generate "a red apple, noto style" --server gpu:7860 --tls --detach': Example(
        instead='cascade generate "a red apple, noto style" --server {server} --detach'
    ),
    "cascade fetch 0d7c6d4f5f0f4f0c8f5d0c6c7a1b2e3d --server gpu:7860 --tls -o apple.png": Example(
        instead='cascade fetch $(cascade generate "a red apple" --server {server} --detach) '
        "--server {server} -o apple.png",
        makes=("apple.png",),
    ),
    "cascade cancel 0d7c6d4f5f0f4f0c8f5d0c6c7a1b2e3d --server gpu:7860 --tls": Example(
        instead="cascade cancel 0d7c6d4f5f0f4f0c8f5d0c6c7a1b2e3d --server {server}",
        says="the server knows nothing of that request",
    ),
    # docs/noise.md
    'python -c "from cascade.numerics.noise import normal_table; '
    "normal_table().astype('<f4').tofile('normals.f32')\"": Example(makes=("normals.f32",)),
    # docs/operations.md
    "cascade serve --config deploy/server.toml --dry-run": Example(says="text_encoder"),
    "cascade serve --config deploy/server.toml": Example(
        instead="cascade serve --config deploy/server.toml --listen 127.0.0.1:0", serves=True
    ),
    "cascade serve --print-config --cut 2 > server.toml": Example(makes=("server.toml",)),
    # docs/reference-cascade.md
    "cascade train base --bf16 --batch 64 --minutes 230 --keep-minutes 10": Example(
        instead=f"cascade train base --bf16 --minutes 230 --keep-minutes 10 {ONE_STEP}",
        needs=TORCH,
        prepare=("data",),
        makes=("checkpoints/base/checkpoint.json",),
    ),
    "cascade train sr256 --bf16 --batch 16 --minutes 40": Example(
        instead=f"cascade train sr256 --bf16 --minutes 40 {ONE_STEP}",
        needs=TORCH,
        prepare=("data",),
        makes=("checkpoints/sr256/checkpoint.json",),
    ),
    "cascade train sr1024 --bf16 --minutes 58": Example(
        instead=f"cascade train sr1024 --bf16 --minutes 58 {ONE_STEP}",
        needs=TORCH,
        prepare=("data",),
        makes=("checkpoints/sr1024/checkpoint.json",),
    ),
    "cascade evaluate sr256": Example(
        instead="cascade evaluate sr256 --steps 1 --pictures 1",
        needs=TORCH,
        prepare=("data", "checkpoints"),
        says="lanczos_db",
    ),
    "cascade evaluate sr1024": Example(
        instead="cascade evaluate sr1024 --steps 1 --pictures 1",
        needs=TORCH,
        prepare=("data", "checkpoints"),
        says="lanczos_db",
    ),
    "cascade train sr256 --regression": Example(
        instead=f"cascade train sr256 --regression {ONE_STEP}",
        needs=TORCH,
        prepare=("data", "checkpoints"),
        makes=("checkpoints/sr256.regression/checkpoint.json",),
    ),
    "cascade train sr1024 --regression": Example(
        instead=f"cascade train sr1024 --regression {ONE_STEP}",
        needs=TORCH,
        prepare=("data", "checkpoints"),
        makes=("checkpoints/sr1024.regression/checkpoint.json",),
    ),
    ".venv/bin/cascade serve --listen 127.0.0.1:7860 --cut 2 &": Example(
        instead="cascade serve --listen 127.0.0.1:7860 --cut 2", serves=True
    ),
    # docs/security.md
    "cascade sign --make-key release.pem": Example(makes=("release.pem", "release.pem.pub")),
    "cascade sign bundles/emoji-1 --key release.pem": Example(
        prepare=("key",), makes=("bundles/emoji-1/manifest.sig",)
    ),
    "cascade serve --require-signature release.pem.pub": Example(
        instead="cascade serve --require-signature release.pem.pub --listen 127.0.0.1:0",
        prepare=("key", "signature"),
        serves=True,
    ),
    # docs/your-own-cascade.md
    "cascade export --from diffusers-if IF-I-M --upscaler IF-II-M --out my-if": Example(
        needs=("diffusers",), prepare=("pipelines",), makes=("my-if/manifest.json",)
    ),
    "cascade export --from torch my_package.my_module:factory --out mine": Example(
        needs=TORCH, prepare=("package",), makes=("mine/manifest.json",)
    ),
    "cascade verify circles": Example(prepare=("circles",), says="ok "),
    'cascade generate "a red circle" --bundle circles -o circle.png': Example(
        prepare=("circles",), makes=("circle.png",)
    ),
}

NOT_RUN: Mapping[str, str] = {
    "cascade data fetch": "downloads from npm's registry",
    "cascade data prepare": "downloads from npm's registry; tests/stages/test_dataset.py prepares",
    "cascade export --out bundles/emoji-1": "a quarter of an hour and trained stages; tests/export "
    "exports them in miniature",
    "cascade probe": "trains styles for a minute, whatever --steps; see tests/stages/test_probe.py",
    "python -m benchmarks.quality --checkpoints checkpoints --out quality": "needs a trained probe; "
    "tests/stages/test_quality_report.py measures in miniature",
    "cascade export --from torch my_package.my_module:factory --text-encoder t5-v1_1-base --out mine": (
        "needs a folder of a gigabyte; tests/export/test_foreign_t5.py exports one in miniature"
    ),
    "curl -sX POST http://127.0.0.1:9464/reload": "tests/runtime_server/test_reload.py asks for it",
    "python3.11 -m venv /tmp/client": "beside a footprint that is not measured in a test",
    "/tmp/client/bin/pip install -c constraints.txt '.[cpu]'": "installs from an index",
    "/tmp/client/bin/python -m benchmarks.footprint --server 127.0.0.1:7860": "needs that "
    "environment; tests/benchmarks/test_smoke.py runs it",
}
