"""Files as people have them: formats, tables, folders, and outputs that replace nothing by mistake.

Imports `process`.
"""

from runtime.files.destinations import check_destinations, check_folder_destination, files_below
from runtime.files.digest import sha256_file
from runtime.files.json_text import parse_json, read_json
from runtime.files.tables import Columns, Item, Unusable

__all__ = [
    "Columns",
    "Item",
    "Unusable",
    "check_destinations",
    "check_folder_destination",
    "files_below",
    "parse_json",
    "read_json",
    "sha256_file",
]
