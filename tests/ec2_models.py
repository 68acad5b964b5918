"""boto3's descriptions of AWS's services, read once for all tests: that takes longer than calls."""

from collections.abc import Iterator

import botocore.loaders
import botocore.session
import pytest


@pytest.fixture(scope="session", autouse=True)
def _models_read_once() -> Iterator[None]:
    loader = botocore.loaders.create_loader()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.session, "create_loader", lambda _search_path: loader)
        yield
