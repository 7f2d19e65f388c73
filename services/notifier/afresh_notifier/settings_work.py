"""The settings of what the leader does beside refreshing, `[[jobs]]` at times and `[[embeddings]]` of texts that changed,
and of the models that are asked, `[embedding]` and `[chat]`.

In: what TOML holds. Out: sections in which each value is of its form; whether a table or a column exists is the
database's to say.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError
from pydantic import AfterValidator, Field, SecretStr, model_validator
from pydantic_core import PydanticCustomError

from afresh_notifier.settings_errors import AT_ODDS, refuse_twice
from afresh_notifier.settings_values import Duration, Period, RelationName, Section, folded_name

#: Any day will do to see whether a schedule can be read.
_SOME_DAY = datetime(2000, 1, 1, tzinfo=UTC)


def _schedule(value: str) -> str:
    try:
        if len(value.split()) != 5:
            raise CronSimError("it has five fields")
        CronSim(value, _SOME_DAY)
    except CronSimError as error:
        raise ValueError(
            f'expected a cron expression such as "0 3 * * *" (minute, hour, day, month, weekday): {error}'
        ) from error
    return value


def _timezone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError('expected a time zone such as "UTC" or "Europe/Berlin"') from error
    return value


def _http_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("expected an address such as https://api.openai.com/v1")
    if "@" in parts.netloc:  # addresses are shown, to clients too
        raise PydanticCustomError(AT_ODDS, "expected an address without a user and a password: there is key", {})
    return value.rstrip("/")


def _key(value: SecretStr) -> SecretStr:
    """A file's last line break is none of the key's; one in the middle could not be sent in a header."""
    key = value.get_secret_value().strip()
    if not key.isprintable() or not key.isascii():
        raise PydanticCustomError(AT_ODDS, "expected a key of one line, in ASCII", {})  # which does not repeat it
    return SecretStr(key)


Schedule = Annotated[str, AfterValidator(_schedule)]
TimeZone = Annotated[str, AfterValidator(_timezone)]
HttpUrl = Annotated[str, AfterValidator(_http_url)]
ApiKey = Annotated[SecretStr, AfterValidator(_key)]


class JobSettings(Section):
    """One statement that the leader runs at certain times."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,50}$", description="What the job is called.")
    schedule: Schedule = Field(
        description="When it is run: a cron expression, minute, hour, day of the month, month, day of the week."
    )
    timezone: TimeZone = Field("UTC", description="The time zone of the schedule.")
    file: str = Field(min_length=1, description="Its SQL, one statement: a path from the folder of this file.")
    timeout: Period = Field(60.0, description="Longest it may run; then it is stopped, and tried again.")
    description: str = Field("", description="What it is for.")


class EmbeddingSettings(Section):
    """One column of embeddings that follows a column of texts."""

    table: RelationName = Field(description="The table, with its schema unless that is `public`; it has a primary key.")
    text: str = Field(min_length=1, description="The column with the text.")
    column: str = Field(min_length=1, description="The column for its embedding, of pgvector's type `vector`.")
    dimensions: int = Field(ge=1, le=16_000, description="How many numbers an embedding of that column has.")

    @property
    def source(self) -> tuple[str, str]:
        """What several columns may be made of at once: the table, and its column of texts."""
        return folded_name(self.table), self.text


class ModelSettings(Section):
    """An OpenAI-compatible endpoint."""

    url: HttpUrl | None = Field(
        None, description="Where an OpenAI-compatible API answers, `https://api.openai.com/v1`."
    )
    key: ApiKey | None = Field(None, description="Its key, sent as `Authorization: Bearer`.")
    model: str = Field("", description="The model to ask.")
    timeout: Period = Field(20.0, description="How long an answer may take.")

    @model_validator(mode="after")
    def _named(self) -> Self:
        if self.url is not None and not self.model:
            raise PydanticCustomError(AT_ODDS, "url is set: say with model which one is to be asked there", {})
        return self


class EmbeddingModelSettings(ModelSettings):
    """What makes embeddings."""

    url: HttpUrl | None = Field(
        None,
        description="Where an OpenAI-compatible API makes embeddings, such as `https://api.openai.com/v1`; left out: they "
        "are made here, of words and parts of words, and know no meanings.",
    )
    dimensions: int = Field(
        3072, ge=1, le=16_000, description="How many numbers the model is asked for; shorter ones are its beginning."
    )
    batch: int = Field(64, ge=1, le=2048, description="Texts in one request.")
    pace: Duration = Field(0.0, description="Least time between two requests, where the API has a limit.")
    retry_max: Period = Field(300.0, description="Longest wait before a text that failed is tried again.")


class ChatModelSettings(ModelSettings):
    """What answers in chats."""

    url: HttpUrl | None = Field(
        None, description="Where an OpenAI-compatible API chats; left out: queries answer with what their SQL composes."
    )


def _jobs_each_once(jobs: tuple[JobSettings, ...]) -> tuple[JobSettings, ...]:
    refuse_twice(((job.name,) for job in jobs), "rename one")
    return jobs


def _columns_each_once(sections: tuple[EmbeddingSettings, ...]) -> tuple[EmbeddingSettings, ...]:
    refuse_twice(((folded_name(one.table), one.column) for one in sections), "a column holds embeddings of one text")
    return sections


#: The `[[jobs]]` and `[[embeddings]]` of one file.
Jobs = Annotated[tuple[JobSettings, ...], AfterValidator(_jobs_each_once)]
Embeddings = Annotated[tuple[EmbeddingSettings, ...], AfterValidator(_columns_each_once)]


def anchored_jobs(jobs: Iterable[JobSettings], folder: Path) -> tuple[JobSettings, ...]:
    """The jobs with their files as paths from where we are; ``folder`` is that of the file that names them."""
    return tuple(job.model_copy(update={"file": str(folder / job.file)}) for job in jobs)
