"""The models that a server offers: those of its configuration, and those of the package."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from turnwire.config import Config
from turnwire.errors import ConfigError, EngineUnavailable
from turnwire.hub import HubError, Progress
from turnwire.models.base import Model
from turnwire.models.build import Builder, Hub
from turnwire.models.embedded import embedded_models
from turnwire.models.registry import Offer
from turnwire.telemetry.logs import get_logger

__all__ = ["builder", "embedded", "offered"]

log = get_logger()

LOADING_SEC: Final = 5.0
"""A model that takes longer to load is said to be loading, each time so much has passed."""


def embedded(config: Config) -> list[Model]:
    """Return the models of the package that a configuration offers.

    Raises:
        ConfigError: it names one that there is not.
    """
    there: dict[str, Model] = {model.name: model for model in embedded_models()}
    names = config.models.embedded
    if names is None:
        return list(there.values())
    unknown = [name for name in names if name not in there]
    if unknown:
        raise ConfigError(
            f"models.embedded names {', '.join(unknown)}; this package has {', '.join(there)}."
        )
    return [there[name] for name in names]


def builder(config: Config, progress: Progress | None = None) -> Builder:
    """Return what builds the models of a configuration.

    Args:
        config: What it says of engines, secrets and the hub.
        progress: Hears how far a download is.
    """
    told = config.models
    hub = Hub(
        url=told.hub_url,
        folder=config.models_dir,
        key=config.secrets.get(told.hub_key_env),
        progress=progress,
    )
    return Builder(config.engine, config.secrets, hub)


async def offered(config: Config, progress: Progress | None = None) -> list[Model | Offer]:
    """Build the models of the configuration; behind them stand the embedded ones.

    Args:
        config: What to offer.
        progress: Hears how far a download is.

    Raises:
        ConfigError, EngineUnavailable, HubError: one cannot be had, and which.
    """
    shipped = embedded(config)
    if not config.model and not shipped:
        raise ConfigError(
            "There is no model to serve. Add a [model.NAME], name a file with --model, or leave "
            "models.embedded out."
        )
    building = builder(config, progress)
    built: list[Model | Offer] = []
    try:
        for name, told in config.model.items():
            with _loading(name):
                built.append(await building.build(name, told))
    except BaseException:
        await building.aclose()
        raise
    for name, report in building.reports.items():
        if not report.reads_calls:
            log.warning(
                "tool_calls_not_read",
                model=name,
                reason="its chat template writes none that are known here; agents get text",
                mend=f"name a template for tools in model.{name}.template",
            )
    return [*built, *shipped]


@contextmanager
def _loading(name: str) -> Iterator[None]:
    """Say which model it is that takes long, or cannot be had."""
    telling = asyncio.create_task(_tell(name), name="model-loading")
    try:
        yield
    except EngineUnavailable as error:
        raise EngineUnavailable(f"model.{name}: {error}; start it before this server") from error
    except (ConfigError, HubError) as error:
        raise type(error)(f"model.{name}: {error}") from error
    finally:
        telling.cancel()


async def _tell(name: str) -> None:
    while True:
        await asyncio.sleep(LOADING_SEC)
        log.info("model_loading", model=name)
