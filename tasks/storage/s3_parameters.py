"""What is said with every request that has a word for it: who pays, and how S3 is to encrypt.

Set once for a client, so that no call can forget it: of each operation botocore's own description
tells whether it knows the parameter. The GETs by libcurl get the same as headers.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@dataclass(frozen=True)
class Parameters:
    """As luigi.cfg has them; empty for what S3 does by itself."""

    request_payer: str = ""
    server_side_encryption: str = ""
    kms_key_id: str = ""

    @property
    def of_get(self) -> dict[str, str]:
        """The headers of a GET, by their names in lower case."""
        return {"x-amz-request-payer": self.request_payer} if self.request_payer else {}

    @property
    def by_name(self) -> dict[str, str]:
        """Those that are set, by the names that boto3 has for them."""
        names = {
            "RequestPayer": self.request_payer,
            "ServerSideEncryption": self.server_side_encryption,
            "SSEKMSKeyId": self.kms_key_id,
        }
        return {name: value for name, value in names.items() if value}


def send_always(client: "S3Client", parameters: Parameters) -> None:
    """Have a client send them with every call that knows them."""
    wanted = parameters.by_name
    if not wanted:
        return

    def add(params: dict[str, Any], model: Any, **_: object) -> None:
        known = model.input_shape.members if model.input_shape else {}
        params.update({name: value for name, value in wanted.items() if name in known})

    client.meta.events.register("before-parameter-build.s3", add)
