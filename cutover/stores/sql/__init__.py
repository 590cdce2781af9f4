"""The named queries of `stores/`: one described statement per `.sql` file beside this one."""

from functools import cache
from importlib import resources


@cache
def query(name: str) -> str:
    """The text of `<name>.sql`; raises `FileNotFoundError` for a name that does not exist."""
    return resources.files(__package__).joinpath(f"{name}.sql").read_text(encoding="utf-8")
