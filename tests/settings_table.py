"""Write again what is made from the settings: the table in the manual, and the example file.

`python -m tests.settings_table` after a field was added to `ServerConfig`; a test compares.
"""

from pathlib import Path

from runtime_server.config.bounds import LEAST
from runtime_server.config.config import ServerConfig
from runtime_server.config.config_file import write_config, write_value
from runtime_server.config.settings import ServerSetting, settings
from tests.reference_pages.markdown import table as table_of
from tests.reference_pages.settings_advice import ADVICE

ROOT = Path(__file__).parents[1]
MANUAL = ROOT / "docs" / "reference" / "settings.md"
EXAMPLE = ROOT / "deploy" / "server.toml"
BEGIN, END = "<!-- settings -->", "<!-- end of settings -->"
HEADER = """\
# Every setting of `cascade serve --config FILE`. What is commented out shows the default.
# Unknown keys are refused; relative paths are relative to this file; a flag overrides it:
# --max-in-flight for max_in_flight. Made with: cascade serve --print-config

"""


HEAD = ("setting", "flag", "unit", "default", "least", "meaning", "when to change it", "shown by")


def table() -> str:
    """The settings as a table of Markdown.

    Raises:
        KeyError: a setting has no advice yet; see tests/reference_pages/settings_advice.py.
    """
    return table_of(HEAD, (row(setting) for setting in settings()))


def row(setting: ServerSetting) -> tuple[str, ...]:
    """One line of it."""
    default = "" if setting.default is None else f"`{write_value(setting.default)}`"
    flag = f"`{setting.flag}`"
    if setting.kind is bool:
        flag += f", `{setting.flag.replace('--', '--no-')}`"
    least = f"{LEAST[setting.name]:g}" if setting.name in LEAST else ""
    advice = ADVICE[setting.name]
    return (f"`{setting.name}`", flag, advice.unit, default, least, setting.help, *advice[1:])


def manual() -> str:
    """The manual with the present table."""
    before, rest = MANUAL.read_text().split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def example() -> str:
    """The example with every present setting."""
    return HEADER + write_config(ServerConfig(bundle=Path("../bundles/emoji-1")))


if __name__ == "__main__":
    MANUAL.write_text(manual())
    EXAMPLE.write_text(example())
