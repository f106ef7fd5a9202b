"""The base of a section, and the types of values that several sections use."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr

from contract.redis_url.parse import parse_redis_url

Count = Annotated[int, Field(ge=1, le=10_000_000)]
Bytes = Annotated[int, Field(ge=1, le=2**40)]
Milliseconds = Annotated[int, Field(ge=1, le=3_600_000)]
Pause = Annotated[int, Field(ge=0, le=600_000)]  # milliseconds; 0 = none


def _parsed(url: SecretStr) -> SecretStr:
    parse_redis_url(url.get_secret_value())
    return url


RedisUrl = Annotated[SecretStr, AfterValidator(_parsed)]


class Group(BaseModel):
    """Settings of one subject."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, hide_input_in_errors=True)
