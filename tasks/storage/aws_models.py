"""botocore's descriptions of AWS's services, loaded in less than half of the time.

A client begins by reading them: 1.5 MB of JSON, and a look into the folders of all 400 services to
see whether there is the one. Promises the same descriptions as botocore's own loader; but where
AWS_CONFIG_FILE is the null device, so that nothing below ~/.aws counts, those below ~/.aws neither.
"""

import os
from collections.abc import Callable
from typing import Any, BinaryIO

import botocore.session
import orjson
from botocore.loaders import JSONFileLoader, Loader


class _Files(JSONFileLoader):
    def _load_file(self, full_path: str, open_method: Callable[[str, str], BinaryIO]) -> Any:
        if not os.path.isfile(full_path):
            return None
        with open_method(full_path, "rb") as file:
            return orjson.loads(file.read())


class _Loader(Loader):
    def list_available_services(self, type_name: str) -> list[str]:  # noqa: ARG002
        """By the names of their folders: what is in them shows when it is loaded."""
        folders = filter(os.path.isdir, self.search_paths)
        return [name for folder in folders for name in os.listdir(folder)]


def load_quickly(session: botocore.session.Session) -> None:
    """Have a session that has made no client yet load descriptions in this way."""
    paths = list(session.get_component("data_loader").search_paths)
    if os.environ.get("AWS_CONFIG_FILE") == os.devnull:  # nor what lies beside that file
        paths = [path for path in paths if path != Loader.CUSTOMER_DATA_PATH]
    loader = _Loader(paths, file_loader=_Files(), include_default_search_paths=False)
    session.register_component("data_loader", loader)
